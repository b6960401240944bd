//! Monitor: what may be changed while a card works, and what its kernels took. Whoever opens a card
//! may keep one and look.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use qwire_backend_gpu::device::Launch;

/// Switches, and a ledger.
#[derive(Debug)]
pub struct Monitor {
    graphs: AtomicBool,
    times: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// What launches took since somebody asked.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Each kernel that ran, in the order in which they first did.
    pub entries: Vec<Entry>,
    /// Bytes that a copy within the card's memory reads and writes in a second, over 10⁹.
    pub copy_gb_s: Option<f64>,
    /// Seconds between two events with nothing between them, the most that any time is too long.
    pub idle: f64,
}

/// One kernel.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub kernel: &'static str,
    /// Launches.
    pub calls: u64,
    /// What all of them took, each from the end of the one before it.
    pub seconds: f64,
    /// What they read and write, if nothing twice.
    pub bytes: u64,
}

impl Default for Monitor {
    fn default() -> Self {
        let (graphs, times) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { graphs, times, ledger: Mutex::default() }
    }
}

impl Monitor {
    /// Whether launches that come again are replayed as a graph.
    pub fn replays(&self) -> bool {
        self.graphs.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn replay(&self, graphs: bool) {
        self.graphs.store(graphs, Ordering::Relaxed);
    }

    /// Whether each launch is timed, and none replayed.
    pub fn times(&self) -> bool {
        self.times.load(Ordering::Relaxed)
    }

    /// Says so. A card times launches only if it was so when it was opened.
    pub fn time(&self, times: bool) {
        self.times.store(times, Ordering::Relaxed);
    }

    /// All that was timed since the last call.
    pub fn take(&self) -> Ledger {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = Ledger { entries: Vec::new(), ..*ledger };
        std::mem::replace(&mut *ledger, kept)
    }

    /// Notes the speed of a copy.
    pub(crate) fn note_copy(&self, gb_s: f64) {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).copy_gb_s = Some(gb_s);
    }

    /// Notes launches with their seconds.
    pub(crate) fn note(&self, launches: &[Launch], seconds: &[f64], idle: f64) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.idle = idle;
        for (launch, seconds) in launches.iter().zip(seconds) {
            ledger.add(launch.kernel.name, *seconds, launch.args.moved());
        }
    }
}

impl Ledger {
    fn add(&mut self, kernel: &'static str, seconds: f64, bytes: u64) {
        let at = self.entries.iter().position(|entry| entry.kernel == kernel);
        let at = at.unwrap_or_else(|| {
            self.entries.push(Entry { kernel, calls: 0, seconds: 0.0, bytes: 0 });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[at];
        entry.calls += 1;
        entry.seconds += seconds;
        entry.bytes += bytes;
    }

    /// Launches of all kernels.
    pub fn calls(&self) -> u64 {
        self.entries.iter().map(|entry| entry.calls).sum()
    }

    /// What all of them took.
    pub fn seconds(&self) -> f64 {
        self.entries.iter().map(|entry| entry.seconds).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_but_for_the_copy() {
        let monitor = Monitor::default();
        assert!(monitor.replays() && !monitor.times());
        monitor.note_copy(7.0);
        {
            let mut ledger = monitor.ledger.lock().unwrap();
            ledger.add("a", 1.0, 10);
            ledger.add("b", 2.0, 20);
            ledger.add("a", 3.0, 30);
        }
        let taken = monitor.take();
        assert_eq!((taken.calls(), taken.seconds(), taken.copy_gb_s), (3, 6.0, Some(7.0)));
        let rows = taken.entries.iter().map(|e| (e.kernel, e.calls, e.bytes));
        assert_eq!(rows.collect::<Vec<_>>(), [("a", 2, 40), ("b", 1, 20)]);
        assert_eq!((monitor.take().calls(), monitor.take().copy_gb_s), (0, Some(7.0)));
    }
}
