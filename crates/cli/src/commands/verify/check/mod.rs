//! Checks: what measures a contract. A check yields raw samples and judges nothing.
//!
//! A check that errs has shown that the promise is broken; one that cannot be made here says why.

mod cache;
mod files;
mod forward;
mod numbers;
mod sampling;
mod serving;
mod speed;
mod text;

use super::contract::Samples;
use super::subject::Subject;
use crate::failure::Failure;

pub use cache::canary;
pub use files::tensors;
pub use numbers::kernels;

/// How it went.
pub enum Measured {
    /// There are samples.
    Done,
    /// It cannot be made here: nothing is shown, for or against.
    Skipped(String),
}

/// What a check is told, and where its samples go.
type Run = fn(&Subject<'_>, &mut Samples) -> Result<Measured, Failure>;

/// A way to measure.
pub struct Check {
    pub name: &'static str,
    /// What it can sample.
    pub measures: &'static [&'static str],
    pub run: Run,
}

/// Every check.
pub const CHECKS: &[Check] = &[
    Check { name: "kernels", measures: &["differing"], run: numbers::every_kernel },
    Check { name: "tensors", measures: &["not_finite", "tensors"], run: files::every_tensor },
    Check { name: "canary", measures: cache::CANARY, run: cache::with_canary },
    Check { name: "golden", measures: &["continuation"], run: cache::golden },
    Check { name: "cached", measures: cache::CACHED, run: cache::cached },
    Check { name: "rollback", measures: &["differing"], run: cache::rollback },
    Check { name: "fork", measures: &["differing", "lost_pages"], run: cache::fork },
    Check { name: "first-token", measures: &["differing"], run: forward::first_token },
    Check { name: "cache-full", measures: cache::FULL, run: cache::full },
    Check { name: "routing", measures: forward::ROUTING, run: forward::routing },
    Check { name: "shapes", measures: forward::SHAPES, run: forward::shapes },
    Check { name: "reference", measures: forward::AGREEMENT, run: forward::reference },
    Check { name: "company", measures: forward::AGREEMENT, run: forward::company },
    Check { name: "logits-file", measures: forward::AGREEMENT, run: forward::logits_file },
    Check { name: "ways", measures: &["f16", "f32"], run: numbers::ways },
    Check { name: "ways-i8", measures: &["i8"], run: numbers::ways_i8 },
    Check { name: "repeats", measures: &["logits"], run: numbers::repeats },
    Check { name: "greedy", measures: sampling::GREEDY, run: sampling::greedy },
    Check { name: "seeds", measures: sampling::SEEDS, run: sampling::seeds },
    Check { name: "guesses", measures: sampling::GUESSES, run: sampling::guesses },
    Check { name: "penalties", measures: sampling::PENALTIES, run: sampling::penalties },
    Check { name: "tokenizer", measures: text::TOKENIZER, run: text::tokenizer },
    Check { name: "template", measures: text::TEMPLATE, run: text::template },
    Check { name: "dispatch", measures: serving::DISPATCH, run: serving::dispatch },
    Check { name: "ending", measures: &["ended"], run: serving::ending },
    Check { name: "streaming", measures: serving::STREAMING, run: serving::streaming },
    Check { name: "malformed", measures: files::MALFORMED, run: files::malformed },
    Check { name: "memory", measures: &["share_of_ceiling"], run: speed::memory },
    Check { name: "device", measures: &["other_device"], run: speed::device },
    Check { name: "device-memory", measures: &["share"], run: speed::device_memory },
    Check { name: "speed", measures: speed::SPEED, run: speed::speed },
    Check { name: "cache-speedup", measures: &["times"], run: speed::cache_speedup },
];

impl Check {
    /// The check of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CHECKS.iter().find(|check| check.name == name)
    }
}

/// Adds a sample.
fn put(samples: &mut Samples, measure: &str, value: f64) {
    samples.entry(measure.to_string()).or_default().push(value);
}

/// Where the contract's device is none.
fn no_device() -> Measured {
    Measured::Skipped("no device".into())
}
