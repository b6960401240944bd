//! Halt: a wish from another thread that work ends early, because nobody wants its outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared between who wishes and a device that looks now and then. A device that never looks ends
/// its work in its own time.
#[derive(Clone, Default, Debug)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Work under way is worth nothing from here on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Work counts again; whether it did not.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}
