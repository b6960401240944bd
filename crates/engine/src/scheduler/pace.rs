//! Pace: how many rows a chunk has, and how many of its layers run beside a step, so that nobody
//! who gets tokens waits for them longer than agreed.
//!
//! ```text
//! step  layers │ step  layers │ step ..            layers ≤ (stall − 1) · step
//! ```
//! Costs are learned as they occur, per size of a chunk. A chunk of twice the rows costs at most
//! twice as much, and one of fewer rows no more: that bounds the sizes that were never seen.

use std::time::Duration;

/// Rows of the smallest chunk, if the prompt has so many.
const LEAST: usize = 16;
/// Sizes: LEAST, twice that, and so on.
const SIZES: usize = 12;
/// Rows of a chunk with nothing beside it, at least.
const LEAST_ALONE: usize = 256;
/// How much the latest cost of a size counts.
const LATEST: f64 = 0.7;

/// What is known of costs, in seconds.
#[derive(Debug)]
pub struct Pace {
    stall: f64,
    quantum: f64,
    step: Option<f64>,
    layers: [Option<f64>; SIZES], // of a chunk as large as the size allows
    saved: f64,
}

/// What of a turn has passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// How long its step took, if it had one.
    pub step: Option<f64>,
    /// How long layers have run since.
    pub spent: f64,
    /// Whether any have.
    pub advanced: bool,
}

impl Pace {
    /// Nothing is known yet.
    pub fn new(stall: f64, quantum: Duration) -> Self {
        let quantum = quantum.as_secs_f64();
        Self { stall: stall.max(1.0), quantum, step: None, layers: [None; SIZES], saved: 0.0 }
    }

    /// A step took so long.
    pub fn stepped(&mut self, seconds: f64) {
        self.step = Some(seconds);
    }

    /// A layer of a chunk took so long.
    pub fn learn(&mut self, rows: usize, seconds: f64) {
        let at = size(rows);
        let full = seconds * (LEAST << at) as f64 / rows.max(1) as f64;
        let cost = &mut self.layers[at];
        *cost = Some(cost.map_or(full, |old| LATEST * full + (1.0 - LATEST) * old));
    }

    /// What a layer of so many rows costs at most.
    fn expected(&self, rows: usize) -> Option<f64> {
        let at = size(rows);
        let above = self.layers[at..].iter().flatten().next().copied();
        let below = (0..at).rev().find_map(|i| Some(self.layers[i]? * (1_u64 << (at - i)) as f64));
        match (above, below) {
            (Some(above), Some(below)) => Some(above.min(below)),
            (above, below) => above.or(below),
        }
    }

    /// Rows of the next chunk, at most `most`: as many as fit the time that one layer has.
    pub fn rows(&self, beside: bool, most: usize) -> usize {
        let room = match (beside, self.step) {
            (false, _) => self.quantum,
            (true, Some(step)) => (self.stall - 1.0) * step,
            (true, None) => 0.0,
        };
        let fits = |rows: &usize| self.expected(*rows).is_some_and(|cost| cost <= room);
        let fitting = (0..SIZES).rev().map(|at| LEAST << at).find(fits);
        let least = if beside { LEAST } else { LEAST_ALONE };
        fitting.map_or(least, |rows| rows.max(least)).min(most)
    }

    /// How long so many rows of a prompt take with nothing beside them, as far as is known.
    pub fn reading(&self, rows: usize, layers: usize) -> f64 {
        let chunk = self.expected(LEAST_ALONE).unwrap_or(0.0) / LEAST_ALONE as f64;
        chunk * (rows * layers) as f64
    }

    /// How many of the `left` layers of a chunk run now. `cost` is what one of them took.
    pub fn layers(&mut self, turn: Turn, rows: usize, cost: Option<f64>, left: usize) -> usize {
        let cost = cost.or_else(|| self.expected(rows));
        let Some(step) = turn.step else {
            let fit = cost.map_or(1, |cost| (self.quantum / cost.max(1e-9)) as usize);
            return if turn.advanced { 0 } else { fit.clamp(1, left) };
        };
        let room = (self.stall - 1.0) * step;
        let cost = cost.unwrap_or(room).max(1e-9);
        if cost <= room {
            return (((room - turn.spent) / cost) as usize).min(left);
        }
        // Too large for any one turn: it runs once in so many that the share of time is kept.
        if turn.advanced {
            return 0;
        }
        self.saved += room;
        let enough = self.saved >= cost;
        if enough {
            self.saved = 0.0;
        }
        usize::from(enough)
    }
}

/// The smallest size that holds so many rows.
fn size(rows: usize) -> usize {
    let times = rows.div_ceil(LEAST).next_power_of_two();
    (times.trailing_zeros() as usize).min(SIZES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer of this many rows.
    fn layer(rows: usize) -> f64 {
        0.002 + rows as f64 * 0.0001
    }

    #[test]
    fn a_chunk_grows_into_the_time_it_has_and_never_beyond() {
        let mut pace = Pace::new(2.0, Duration::from_millis(100));
        assert_eq!((pace.rows(true, 999), pace.rows(false, 999)), (16, 256));
        pace.stepped(0.03);
        let mut sizes = Vec::new();
        for _ in 0..8 {
            let rows = pace.rows(true, 999);
            sizes.push(rows);
            assert!(layer(rows) <= 0.03, "{rows} rows");
            pace.learn(rows, layer(rows));
        }
        assert_eq!(sizes, [16, 128, 256, 256, 256, 256, 256, 256]);
        assert_eq!((pace.rows(true, 33), pace.rows(false, 9999)), (33, 512));
    }

    #[test]
    fn layers_fill_what_the_step_leaves() {
        let mut pace = Pace::new(2.0, Duration::from_millis(100));
        let turn = |step, spent| Turn { step: Some(step), spent, advanced: spent > 0.0 };
        assert_eq!(pace.layers(turn(0.03, 0.0), 64, Some(0.01), 48), 3);
        assert_eq!(pace.layers(turn(0.03, 0.021), 64, Some(0.01), 48), 0);
        assert_eq!(pace.layers(turn(0.03, 0.0), 64, Some(0.01), 2), 2);
        assert_eq!(pace.layers(Turn::default(), 64, Some(0.01), 48), 10);
        assert_eq!(pace.layers(Turn::default(), 64, Some(9.0), 48), 1);
        let shares: usize = (0..30).map(|_| pace.layers(turn(0.01, 0.0), 64, Some(0.03), 48)).sum();
        assert_eq!(shares, 10);
    }
}
