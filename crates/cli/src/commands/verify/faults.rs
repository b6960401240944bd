//! Faults: what `qwire verify --falsify` breaks on purpose, so that each contract is seen to fail.
//!
//! A fault acts in one place: between the phases of a backend ([`Saboteur`]), or on what a check
//! hands in or takes out, where the check asks its [`Fault`]. Nothing but that command makes one.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use qwire_engine::{Finish, Sampling};
use qwire_model::{Batch, PageId, Phase, Tap, Taps, Witness};

use crate::memory::PAGE;

/// Something that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The heads of a row change places.
    MixedHeads,
    /// Keys and values of steps of one row are not kept.
    LostWrite,
    /// What was stored once is never replaced.
    StickySlot,
    /// A shared page is not copied before it is written.
    UncopiedPage,
    /// Weights of experts sum to a little more than 1.
    UnnormalisedRoute,
    /// A number that is none.
    PoisonedRow,
    /// Rows in company are a little larger.
    BatchDependence,
    /// Each step is a little larger than the one before.
    DriftingStep,
    /// Steps of one row take a quarter of a second longer.
    SlowStep,
    /// The last bit of a product.
    RoundedKernel,
    /// A weight that is no number.
    DamagedWeight,
    /// An answer that filled the context is said to have ended by itself.
    RelabelledEnding,
    /// Tokens are drawn where the best was asked for.
    DrawnGreedy,
    /// Every seed is 0.
    IgnoredSeed,
    /// A penalty divides negative logits too.
    SignBlindPenalty,
    /// Capitals become small letters.
    LossyText,
    /// What people wrote is taken for control tokens.
    OpenGuard,
    /// A reader that takes the first word of a file for its kind.
    TrustingReader,
    /// Memory that nobody planned.
    Leak,
    /// Two events of a stream are one.
    MergedEvents,
    /// An answer's end token is not known.
    MissedEnd,
    /// Another device than the one that was asked for.
    SilentFallback,
}

const FAULTS: &[(&str, Fault)] = &[
    ("mixed-heads", Fault::MixedHeads),
    ("lost-write", Fault::LostWrite),
    ("sticky-slot", Fault::StickySlot),
    ("uncopied-page", Fault::UncopiedPage),
    ("unnormalised-route", Fault::UnnormalisedRoute),
    ("poisoned-row", Fault::PoisonedRow),
    ("batch-dependence", Fault::BatchDependence),
    ("drifting-step", Fault::DriftingStep),
    ("slow-step", Fault::SlowStep),
    ("rounded-kernel", Fault::RoundedKernel),
    ("damaged-weight", Fault::DamagedWeight),
    ("relabelled-ending", Fault::RelabelledEnding),
    ("drawn-greedy", Fault::DrawnGreedy),
    ("ignored-seed", Fault::IgnoredSeed),
    ("sign-blind-penalty", Fault::SignBlindPenalty),
    ("lossy-text", Fault::LossyText),
    ("open-guard", Fault::OpenGuard),
    ("trusting-reader", Fault::TrustingReader),
    ("leak", Fault::Leak),
    ("merged-events", Fault::MergedEvents),
    ("missed-end", Fault::MissedEnd),
    ("silent-fallback", Fault::SilentFallback),
];

/// How much longer [`Fault::SlowStep`] takes.
const SLOW: Duration = Duration::from_millis(250);

impl Fault {
    /// The fault of this name.
    pub fn named(name: &str) -> Option<Self> {
        FAULTS.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Every name.
    pub fn names() -> Vec<&'static str> {
        FAULTS.iter().map(|row| row.0).collect()
    }

    /// Who breaks it between the phases, if it is broken there.
    pub fn saboteur(self) -> Option<Box<dyn Witness>> {
        matches!(
            self,
            Self::MixedHeads
                | Self::LostWrite
                | Self::StickySlot
                | Self::UncopiedPage
                | Self::UnnormalisedRoute
                | Self::PoisonedRow
                | Self::BatchDependence
                | Self::DriftingStep
                | Self::SlowStep
        )
        .then(|| {
            let (steps, written, kept) = Default::default();
            Box::new(Saboteur { fault: self, steps, written, kept }) as Box<dyn Witness>
        })
    }

    /// What becomes of the parameters of an answer.
    pub fn sampling(self, sampling: &mut Sampling, negative: bool) {
        match self {
            Self::DrawnGreedy if sampling.is_greedy() => {
                (sampling.temperature, sampling.top_k) = (2.0, 0);
            }
            Self::IgnoredSeed => sampling.seed = 0,
            Self::SignBlindPenalty if negative => {
                sampling.repetition_penalty = 1.0 / sampling.repetition_penalty;
            }
            _ => {}
        }
    }

    /// What becomes of an ending.
    pub fn ending(self, finish: Finish) -> Finish {
        if self == Self::RelabelledEnding { Finish::Stop } else { finish }
    }

    /// What becomes of a text on its way into the vocabulary.
    pub fn text(self, text: &str) -> String {
        if self == Self::LossyText { text.to_lowercase() } else { text.to_string() }
    }
}

/// Breaks one thing between the phases.
struct Saboteur {
    fault: Fault,
    steps: u32,
    written: BTreeSet<usize>,     // slots
    kept: Vec<(PageId, Vec<u8>)>, // pages as they were before the step
}

impl Saboteur {
    /// Keeps the pages of these slots as they are.
    fn keep(&mut self, slots: impl Iterator<Item = usize>, taps: &mut dyn Taps) {
        let pages: BTreeSet<u32> = slots.map(|slot| (slot / PAGE) as u32).collect();
        self.kept = pages.into_iter().map(PageId).map(|page| (page, taps.page(page))).collect();
    }
}

fn change(taps: &mut dyn Taps, tap: Tap, edit: impl FnOnce(&mut [f32])) {
    let mut values = taps.read(tap);
    edit(&mut values);
    taps.write(tap, &values);
}

impl Witness for Saboteur {
    fn begin(&mut self, batch: &Batch, taps: &mut dyn Taps) {
        self.steps += 1;
        match self.fault {
            Fault::LostWrite if batch.rows() == 1 => self.keep(batch.slots(), taps),
            Fault::StickySlot => {
                let written = std::mem::take(&mut self.written);
                self.keep(batch.slots().filter(|slot| written.contains(slot)), taps);
                self.written = written;
                self.written.extend(batch.slots());
            }
            _ => {}
        }
    }

    fn after(&mut self, layer: usize, phase: Phase, batch: &Batch, taps: &mut dyn Taps) {
        let (rows, steps) = (batch.rows(), self.steps);
        match (self.fault, phase) {
            (Fault::MixedHeads, Phase::Attend) => change(taps, Tap::A, |a| {
                let width = a.len() / rows;
                a.chunks_exact_mut(width).for_each(|row| row.rotate_left(width / 2));
            }),
            (Fault::UnnormalisedRoute, Phase::Route) => change(taps, Tap::Route, |route| {
                route.iter_mut().for_each(|weight| *weight *= 1.0001);
            }),
            (Fault::PoisonedRow, Phase::Project) if layer == 0 => {
                change(taps, Tap::X, |x| x[0] = f32::NAN);
            }
            (Fault::BatchDependence, Phase::Project) if rows > 1 => change(taps, Tap::X, |x| {
                x.iter_mut().for_each(|x| *x *= 1.001);
            }),
            (Fault::DriftingStep, Phase::Project) => change(taps, Tap::X, |x| {
                x.iter_mut().for_each(|x| *x *= 1.0 + steps as f32 * 1e-3);
            }),
            (Fault::LostWrite | Fault::StickySlot, Phase::Norm) => {
                self.kept.drain(..).for_each(|(page, bytes)| taps.put_page(page, &bytes));
            }
            (Fault::SlowStep, Phase::Norm) if rows == 1 => thread::sleep(SLOW),
            _ => {}
        }
    }

    fn copies(&mut self) -> bool {
        self.fault != Fault::UncopiedPage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_name_once() {
        let names: BTreeSet<_> = Fault::names().into_iter().collect();
        assert_eq!(names.len(), FAULTS.len());
        for (name, fault) in FAULTS {
            assert_eq!(Fault::named(name), Some(*fault));
        }
        assert_eq!(Fault::named("no-such"), None);
    }
}
