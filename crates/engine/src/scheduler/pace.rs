//! Pace: how many rows a chunk has, and how many of its layers run beside a step, so that nobody
//! who gets tokens waits for them longer than agreed.
//!
//! ```text
//! step  layers │ step  layers │ step ..            step + layers ≤ stall · usual step
//! ```
//! A step is usual if it is among the quicker of late: beside layers, which use the same caches, it
//! takes longer than alone. Costs are learned as they occur, per size of a chunk: they rise at once
//! and fall slowly, since layers differ. A chunk of twice the rows costs at most twice as much, and
//! one of fewer rows no more: that bounds the sizes that were never seen.

use std::collections::VecDeque;
use std::time::Duration;

/// Rows of the smallest chunk, if the prompt has so many and their logits are not read.
const LEAST: usize = 16;
/// Sizes: one row, twice that, and so on.
const SIZES: usize = 16;
/// Rows of a chunk with nothing beside it, at least.
const LEAST_ALONE: usize = 256;
/// Steps that are remembered.
const STEPS: usize = 16;
/// The share of its room that a layer of a chunk is meant to fill: not every layer and not every
/// step takes what the last one took.
const FILLED: f64 = 0.85;
/// How much the latest cost counts where it is less than the one before.
const LATEST: f64 = 0.3;

/// What is known of costs, in seconds.
#[derive(Debug)]
pub struct Pace {
    stall: f64,
    quantum: f64,
    steps: Steps,
    layers: [Option<f64>; SIZES], // of a chunk as large as the size allows
    head: Option<f64>,            // of one row
    saved: f64,
}

/// Steps of late, all with as many rows.
#[derive(Debug, Default)]
struct Steps {
    rows: usize,
    seconds: VecDeque<f64>,
}

/// What of a turn has passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// How long its step took and what was read of it, if it had one.
    pub step: Option<f64>,
    /// Whose tokens it gave.
    pub answers: usize,
    /// Its rows: one each, and those that were guessed.
    pub rows: usize,
    /// How long layers have run since.
    pub spent: f64,
    /// Whether any have.
    pub advanced: bool,
    /// Rows of logits that are being read of a chunk that ended.
    pub heads: usize,
    /// Pages that were moved between the device and a store.
    pub pages: usize,
}

/// What is left of a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Its rows.
    pub rows: usize,
    /// What a layer of it took.
    pub cost: Option<f64>,
    /// Layers that have not run.
    pub left: usize,
    /// Rows of logits to read after the last one.
    pub heads: usize,
}

impl Steps {
    fn learn(&mut self, rows: usize, seconds: f64) {
        if rows != self.rows {
            *self = Self { rows, ..Self::default() };
        }
        self.seconds.push_front(seconds);
        self.seconds.truncate(STEPS);
    }

    /// What three of four take at least.
    fn usual(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.seconds.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 4).copied()
    }
}

impl Pace {
    /// Nothing is known yet.
    pub fn new(stall: f64, quantum: Duration) -> Self {
        let quantum = quantum.as_secs_f64();
        let (stall, layers) = (stall.max(1.0), [None; SIZES]);
        let steps = Steps::default();
        Self { stall, quantum, steps, layers, head: None, saved: 0.0 }
    }

    /// A step of so many rows and the reading of its logits took so long.
    pub fn stepped(&mut self, rows: usize, seconds: f64) {
        self.steps.learn(rows, seconds);
    }

    /// A layer of a chunk took so long.
    pub fn learn(&mut self, rows: usize, seconds: f64) {
        let at = size(rows);
        let full = seconds * (1_u64 << at) as f64 / rows.max(1) as f64;
        self.layers[at] = Some(learned(self.layers[at], full));
    }

    /// Reading the logits of a row, and what they are for, took so long.
    pub fn learn_head(&mut self, seconds: f64) {
        self.head = Some(learned(self.head, seconds));
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

    /// Rows of the next chunk, at most `most`: as many as fit the time that one layer has, and if
    /// each row is `scored`, their logits too.
    pub fn rows(&self, is_beside: bool, scored: bool, most: usize) -> usize {
        let last = self.steps.seconds.front();
        let beside = |step: &f64| FILLED * self.room(*step);
        let room = if is_beside { last.map_or(0.0, beside) } else { self.quantum };
        let head = if scored { self.head } else { Some(0.0) };
        let cost = |rows: usize| Some(self.expected(rows)? + head? * rows as f64);
        let fits = |rows: &usize| cost(*rows).is_some_and(|cost| cost <= room);
        let fitting = if scored {
            (1..=most).rev().find(fits) // few, so that each one counts
        } else {
            (0..SIZES).rev().map(|at| 1 << at).find(fits)
        };
        let least = match (is_beside, scored) {
            (false, false) => LEAST_ALONE,
            (true, true) => 1,
            _ => LEAST,
        };
        fitting.map_or(least, |rows| rows.max(least)).min(most)
    }

    /// The time for layers beside a step.
    fn room(&self, step: f64) -> f64 {
        let usual = self.steps.usual().map_or(step, |usual| usual.min(step));
        (self.stall * usual - step).max(0.0)
    }

    /// Whether another page may be moved, of which those before took so long each: one always.
    pub fn moves(&self, turn: Turn, cost: f64) -> bool {
        let room = turn.step.map_or(self.quantum, |step| self.room(step));
        turn.pages == 0 || turn.spent + cost <= room
    }

    /// What a layer of a chunk costs, and what follows the last one, with so much room.
    fn costs(&self, work: Work, room: f64) -> (f64, f64) {
        let cost = work.cost.or_else(|| self.expected(work.rows)).unwrap_or(room).max(1e-9);
        // What was never seen gets a turn of its own.
        let tail = self.head.map_or(room, |head| head * work.heads as f64);
        (cost, if work.heads > 0 { tail } else { 0.0 })
    }

    /// How long so many rows of a prompt take with nothing beside them, as far as is known.
    pub fn reading(&self, rows: usize, layers: usize) -> f64 {
        let chunk = self.expected(LEAST_ALONE).unwrap_or(0.0) / LEAST_ALONE as f64;
        chunk * (rows * layers) as f64
    }

    /// Whether a chunk can go on beside the step of this turn, and end there.
    pub fn fits(&self, turn: Turn, work: Work) -> bool {
        turn.step.is_none_or(|step| {
            let (cost, tail) = self.costs(work, self.room(step));
            cost + tail <= self.room(step)
        })
    }

    /// How many layers of a chunk run now.
    pub fn layers(&mut self, turn: Turn, work: Work) -> usize {
        let Some(step) = turn.step else {
            let cost = work.cost.or_else(|| self.expected(work.rows));
            let fit = cost.map_or(1, |cost| (self.quantum / cost.max(1e-9)) as usize);
            return if turn.advanced { 0 } else { fit.clamp(1, work.left) };
        };
        let room = self.room(step);
        let (cost, tail) = self.costs(work, room);
        let piece = if work.left == 1 { cost + tail } else { cost };
        if piece <= room {
            let left = room - turn.spent;
            let all = cost * work.left as f64 + tail <= left;
            return if all { work.left } else { ((left / cost) as usize).min(work.left - 1) };
        }
        // Too large for any one turn: it runs once in so many that the share of time is kept.
        if turn.advanced {
            return 0;
        }
        self.saved += room;
        let enough = self.saved >= piece;
        if enough {
            self.saved = 0.0;
        }
        usize::from(enough)
    }
}

/// A cost after another one.
pub fn learned(before: Option<f64>, cost: f64) -> f64 {
    before.map_or(cost, |before| cost.max(LATEST * cost + (1.0 - LATEST) * before))
}

/// The smallest size that holds so many rows.
fn size(rows: usize) -> usize {
    (rows.next_power_of_two().trailing_zeros() as usize).min(SIZES - 1)
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
        assert_eq!((pace.rows(true, false, 999), pace.rows(false, false, 999)), (16, 256));
        pace.stepped(8, 0.03);
        let mut sizes = Vec::new();
        for _ in 0..8 {
            let rows = pace.rows(true, false, 999);
            sizes.push(rows);
            assert!(layer(rows) <= 0.03, "{rows} rows");
            pace.learn(rows, layer(rows));
        }
        assert_eq!(sizes, [16, 64, 128, 128, 128, 128, 128, 128]);
        assert_eq!((pace.rows(true, false, 33), pace.rows(false, false, 9999)), (33, 512));
    }

    #[test]
    fn layers_fill_what_the_step_leaves() {
        let mut pace = Pace::new(2.0, Duration::from_millis(100));
        let turn = |step, spent| Turn { step: Some(step), spent, ..Turn::default() };
        let work = |cost, left| Work { rows: 64, cost: Some(cost), left, heads: 0 };
        assert_eq!(pace.layers(turn(0.03, 0.0), work(0.01, 48)), 3);
        assert_eq!(pace.layers(turn(0.03, 0.021), work(0.01, 48)), 0);
        assert_eq!(pace.layers(turn(0.03, 0.0), work(0.01, 2)), 2);
        assert_eq!(pace.layers(Turn::default(), work(0.01, 48)), 10);
        assert_eq!(pace.layers(Turn::default(), work(9.0, 48)), 1);
        let shares: usize = (0..30).map(|_| pace.layers(turn(0.01, 0.0), work(0.03, 48))).sum();
        assert_eq!(shares, 10);
    }

    #[test]
    fn layers_make_up_for_a_slow_step() {
        let mut pace = Pace::new(2.0, Duration::from_millis(100));
        let turn = |step| Turn { step: Some(step), ..Turn::default() };
        let work = Work { rows: 64, cost: Some(0.01), left: 48, heads: 0 };
        (0..STEPS).for_each(|_| pace.stepped(8, 0.03));
        assert_eq!(pace.layers(turn(0.03), work), 3);
        pace.stepped(8, 0.045);
        assert_eq!(pace.layers(turn(0.045), work), 1, "60 ms in all");
        pace.stepped(8, 0.09);
        assert_eq!(pace.layers(turn(0.09), work), 0, "it is late already");
        pace.stepped(8, 0.02);
        assert_eq!(pace.layers(turn(0.02), work), 2, "no more than this step agrees to");
        (0..STEPS).for_each(|_| pace.stepped(8, 0.09));
        assert_eq!(pace.layers(turn(0.09), work), 9, "steps take as long now");
        pace.stepped(9, 0.2);
        assert_eq!(pace.layers(turn(0.2), work), 20, "and this is another kind");
    }

    #[test]
    fn what_a_layer_costs_rises_at_once_and_falls_slowly() {
        let costs = [0.02, 0.01, 0.01, 0.03];
        let learned = costs.iter().scan(None, |cost, next| {
            *cost = Some(learned(*cost, *next));
            *cost
        });
        let rounded: Vec<u32> = learned.map(|cost| (1e4 * cost).round() as u32).collect();
        assert_eq!(rounded, [200, 170, 149, 300]);
    }

    #[test]
    fn logits_of_a_prompt_take_their_share() {
        let mut pace = Pace::new(2.0, Duration::from_millis(100));
        pace.stepped(8, 0.03);
        pace.learn(16, layer(16));
        assert_eq!(pace.rows(true, true, 999), 1, "nothing is known of them");
        pace.learn_head(0.003);
        assert_eq!(pace.rows(true, true, 999), 7); // 3.6 ms, and 3 ms for each
        let turn = Turn { step: Some(0.03), ..Turn::default() };
        let work = |left, heads| Work { rows: 8, cost: Some(0.005), left, heads };
        for (left, heads, expected) in [(3, 5, 3), (3, 6, 2), (1, 8, 1), (1, 9, 0), (9, 9, 6)] {
            assert_eq!(pace.fits(turn, work(left, heads)), heads <= 8);
            let layers = pace.layers(turn, work(left, heads));
            assert_eq!(layers, expected, "{left} layers, {heads} heads");
        }
    }
}
