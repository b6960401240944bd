//! Progress: one line on a terminal's stderr for work that takes longer than a second.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::quantity;

/// Work shorter than this shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN_FRAMES: Duration = Duration::from_millis(100);
const WIDTH: usize = 24;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes, shown with their rate.
    Bytes,
    /// Anything else, by its name in the plural.
    Count(&'static str),
}

/// A line that is drawn over itself, and gone when the work is.
#[derive(Debug)]
pub struct Bar {
    label: &'static str,
    unit: Unit,
    enabled: bool,
    started: Instant,
    drawn: Option<Instant>,
}

impl Bar {
    /// A bar that may appear: not where it is unwanted, nor where stderr is no terminal.
    pub fn new(label: &'static str, unit: Unit, wanted: bool) -> Self {
        let enabled = wanted && io::stderr().is_terminal();
        Self { label, unit, enabled, started: Instant::now(), drawn: None }
    }

    /// Tells how far the work is.
    pub fn set(&mut self, done: u64, total: u64) {
        let due = self.drawn.map_or(self.started + PATIENCE, |last| last + BETWEEN_FRAMES);
        let now = Instant::now();
        if self.enabled && now >= due {
            self.drawn = Some(now);
            let line = line(self.label, self.unit, done, total, now - self.started);
            // A bar that cannot be drawn is not missed.
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(label: &str, unit: Unit, done: u64, total: u64, elapsed: Duration) -> String {
    let share = done as f64 / total.max(1) as f64;
    let full = (share * WIDTH as f64) as usize;
    let bar = format!("{}{}", "━".repeat(full.min(WIDTH)), "─".repeat(WIDTH.saturating_sub(full)));
    let seconds = elapsed.as_secs_f64().max(1e-3);
    let amount = match unit {
        Unit::Bytes => {
            let rate = quantity::bytes((done as f64 / seconds) as u64);
            format!("{} of {}, {rate}/s", quantity::bytes(done), quantity::bytes(total))
        }
        Unit::Count(name) => format!("{done} of {total} {name}"),
    };
    let left = if share > 0.0 { seconds / share - seconds } else { 0.0 };
    let left = left.ceil() as u64;
    format!("{label} {bar} {:3.0} %  {amount}, {}:{:02} left", share * 100.0, left / 60, left % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_long() {
        let bytes =
            line("writing", Unit::Bytes, 1_000_000_000, 4_000_000_000, Duration::from_secs(2));
        let bar = format!("{}{}", "━".repeat(6), "─".repeat(18));
        assert_eq!(bytes, format!("writing {bar}  25 %  1.00 GB of 4.00 GB, 500 MB/s, 0:06 left"));
        let layers = line("loading", Unit::Count("layers"), 0, 0, Duration::ZERO);
        assert!(layers.ends_with("0 %  0 of 0 layers, 0:00 left"), "{layers}");
    }
}
