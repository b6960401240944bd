//! Sums: events counted by key since the start, for the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts by key. Keys are few: none of them comes from a client.
#[derive(Debug)]
pub struct Sums<K>(Mutex<BTreeMap<K, u64>>);

impl<K> Default for Sums<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Copy> Sums<K> {
    /// One more.
    pub fn add(&self, key: K) {
        *self.sums().entry(key).or_default() += 1;
    }

    /// Every key with its sum, in order.
    pub fn rows(&self) -> Vec<(K, u64)> {
        self.sums().iter().map(|(key, sum)| (*key, *sum)).collect()
    }

    fn sums(&self) -> MutexGuard<'_, BTreeMap<K, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
