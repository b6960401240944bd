//! Signals: an interrupt ends the work at its next step; a model that shrinks under us ends it at
//! once, in one line.
//!
//! The first Ctrl-C (or SIGTERM) is only noted, and whoever works looks at the note between steps.
//! The second one kills, and so does the first during work that leaves nothing behind. A reader
//! that goes away needs no handler: the write fails.
#![allow(unsafe_code)] // installs a handler that runs where almost nothing is allowed

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGBUS, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::failure::{Failure, one_line};

/// The exit code of work that Ctrl-C ended.
pub const CTRL_C: u8 = 128 + SIGINT as u8;

/// Whether somebody wants the work to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>, // 0 while nobody does
    kills: Arc<AtomicBool>,   // the next signal
}

/// While this is held the first signal kills.
pub struct AtOnce<'a>(&'a Interrupt);

impl Interrupt {
    /// Listens from now on.
    pub fn install() -> Result<Self, Failure> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // Handlers run in the order of their registration: the shutdown sees the flag of the
            // signal before.
            flag::register_conditional_shutdown(signal, 128 + signal, interrupt.kills.clone())
                .and_then(|_| flag::register(signal, interrupt.kills.clone()))
                .and_then(|_| {
                    flag::register_usize(signal, interrupt.signal.clone(), signal as usize)
                })
                .map_err(|error| Failure::new(format!("cannot listen to signals: {error}")))?;
        }
        Ok(interrupt)
    }

    /// Somebody within wants the work to end.
    pub fn raise(&self) {
        self.signal.store(SIGTERM as usize, Ordering::Relaxed);
    }

    /// Forgets a Ctrl-C that has done its work; other signals stay.
    pub fn calm(&self) {
        if self.code() == Some(CTRL_C) {
            self.signal.store(0, Ordering::Relaxed);
            self.kills.store(false, Ordering::Relaxed);
        }
    }

    /// Begins work that leaves nothing behind; an error where the end was asked for already.
    pub fn at_once(&self) -> Result<AtOnce<'_>, Failure> {
        self.check()?;
        self.kills.store(true, Ordering::Relaxed);
        Ok(AtOnce(self))
    }

    /// Whether the work under way leaves nothing behind.
    pub fn is_at_once(&self) -> bool {
        self.kills.load(Ordering::Relaxed)
    }

    /// Whether the work shall end.
    pub fn raised(&self) -> bool {
        self.code().is_some()
    }

    /// The exit code that tells which signal ended it: 130 for Ctrl-C.
    pub fn code(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(128 + signal as u8),
        }
    }

    /// An error as soon as the work shall end.
    pub fn check(&self) -> Result<(), Failure> {
        self.code().map_or(Ok(()), |code| Err(Failure::silent(code)))
    }
}

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        self.0.kills.store(false, Ordering::Relaxed);
    }
}

/// Turns the fault of reading a mapped file past its new end into a message and exit code 1.
pub fn watch_mapping(path: &Path) -> Result<(), Failure> {
    let path = one_line(&path.to_string_lossy());
    let fault = "the file, or its sidecar, was truncated or cannot be read, while in use";
    let message = format!("\nerror: {path}: {fault}\n");
    let said = AtomicBool::new(false);
    let report = move || {
        if said.swap(true, Ordering::Relaxed) {
            return; // another thread is saying it; until the end this one faults again
        }
        // Nothing can be done where stderr is closed.
        let _ = rustix::io::write(rustix::stdio::stderr(), message.as_bytes());
        low_level::exit(1);
    };
    // SAFETY: the handler makes two system calls, neither allocates nor takes a lock.
    unsafe { low_level::register(SIGBUS, report) }
        .map(|_| ())
        .map_err(|error| Failure::new(format!("cannot listen to signals: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_leaves_nothing_behind_is_marked_and_does_not_begin_after_the_end() {
        let interrupt = Interrupt::default();
        let held = interrupt.at_once().unwrap();
        assert!(interrupt.is_at_once());
        drop(held);
        assert!(!interrupt.is_at_once() && !interrupt.raised());
        interrupt.raise();
        assert_eq!(interrupt.code(), Some(143));
        assert!(interrupt.at_once().is_err() && !interrupt.is_at_once());
    }
}
