//! Layers: two models phase by phase, and where they part.
//!
//! ```text
//! qkv Q K V    attend A    project X    route weights of experts    expand M    reduce X
//! error        √(Σ (a − b)²) / √(Σ a²)   over all rows of the phase's buffers
//! ```
//! Each side goes its own way: an error is that of the phase and of all before it. A row whose
//! experts are others is left out of `expand`, where nothing could be compared, and counted.

use std::fmt;
use std::sync::{Arc, Mutex};

use qwire_model::{Batch, Phase, Tap, Taps, Witness};
use serde::Serialize;

/// The buffers that a phase leaves, none after the last layer.
fn buffers(phase: Phase) -> &'static [Tap] {
    match phase {
        Phase::Qkv => &[Tap::Q, Tap::K, Tap::V],
        Phase::Attend => &[Tap::A],
        Phase::Project | Phase::Reduce => &[Tap::X],
        Phase::Route => &[Tap::Route],
        Phase::Expand => &[Tap::M],
        Phase::Norm => &[],
    }
}

/// What the first model left, step by step.
#[derive(Default)]
pub struct Trace(Vec<Vec<f32>>);

/// How far the second one is from it.
#[derive(Default)]
pub struct Parting {
    trace: Trace,
    next: usize,
    sums: Vec<Sums>, // [layers * phases]
    routes: Vec<bool>,
    fault: Option<String>,
}

/// Sums over one phase of one layer.
#[derive(Clone, Default)]
struct Sums {
    difference: f64,
    size: f64,
    bits: usize,
    flipped: usize,
}

/// One phase of one layer.
#[derive(Serialize, Debug)]
pub struct Departure {
    layer: usize,
    phase: String,
    /// Relative, of all rows.
    error: f64,
    /// Numbers whose bits are others.
    differing: usize,
    /// Experts that only the second one visits.
    flipped_experts: usize,
}

/// Every phase, and where they part.
#[derive(Serialize, Debug)]
pub struct Departures {
    phases: Vec<Departure>,
    /// The first whose bits differ.
    first_bits: Option<(usize, String)>,
    /// The first whose error is larger than this.
    bound: f64,
    first_beyond: Option<(usize, String)>,
}

/// Keeps what the first model left.
pub struct Recorder(pub Arc<Mutex<Trace>>);

impl Witness for Recorder {
    fn after(&mut self, _: usize, phase: Phase, _: &Batch, taps: &mut dyn Taps) {
        let mut trace = self.0.lock().expect("nothing panics under the lock");
        trace.0.extend(buffers(phase).iter().map(|tap| taps.read(*tap)));
    }
}

/// Compares what the second one leaves.
pub struct Comparer(pub Arc<Mutex<Parting>>);

impl Witness for Comparer {
    fn after(&mut self, layer: usize, phase: Phase, batch: &Batch, taps: &mut dyn Taps) {
        let mut parting = self.0.lock().expect("nothing panics under the lock");
        for tap in buffers(phase) {
            parting.compare((layer, phase), batch.rows(), &taps.read(*tap));
        }
    }
}

const PHASES: usize = 6;

impl Parting {
    /// From what the first model left.
    pub fn from(trace: Trace) -> Self {
        Self { trace, ..Self::default() }
    }

    fn compare(&mut self, (layer, phase): (usize, Phase), rows: usize, found: &[f32]) {
        let expected = self.trace.0.get_mut(self.next).map(std::mem::take).unwrap_or_default();
        self.next += 1;
        if expected.len() != found.len() {
            let lengths = format!("{} and {} numbers", expected.len(), found.len());
            let fault =
                || format!("layer {layer}, {phase:?}: the models differ in shape: {lengths}");
            self.fault.get_or_insert_with(fault);
            return;
        }
        let width = found.len() / rows;
        if phase == Phase::Route {
            let same =
                |(a, b): (&[f32], &[f32])| a.iter().zip(b).all(|(a, b)| (*a == 0.0) == (*b == 0.0));
            let pairs = expected.chunks_exact(width).zip(found.chunks_exact(width));
            self.routes = pairs.map(same).collect();
        }
        let at = layer * PHASES + phase as usize;
        self.sums.resize(self.sums.len().max(at + 1), Sums::default());
        let sums = &mut self.sums[at];
        for (row, (a, b)) in expected.chunks(width).zip(found.chunks(width)).enumerate() {
            if phase == Phase::Expand && !self.routes[row] {
                continue;
            }
            for (a, b) in a.iter().zip(b) {
                let (wide, other) = (f64::from(*a), f64::from(*b));
                sums.difference += (wide - other) * (wide - other);
                sums.size += wide * wide;
                sums.bits += usize::from(a.to_bits() != b.to_bits());
                let flips = phase == Phase::Route && *a == 0.0 && *b != 0.0;
                sums.flipped += usize::from(flips);
            }
        }
    }

    /// The sums of all steps; an error where the models cannot be compared.
    pub fn departures(&self, bound: f64) -> Result<Departures, String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let names = ["qkv", "attend", "project", "route", "expand", "reduce"];
        let phase = |(at, sums): (usize, &Sums)| Departure {
            layer: at / PHASES,
            phase: names[at % PHASES].into(),
            error: if sums.difference == 0.0 { 0.0 } else { (sums.difference / sums.size).sqrt() },
            differing: sums.bits,
            flipped_experts: sums.flipped,
        };
        let phases: Vec<Departure> = self.sums.iter().enumerate().map(phase).collect();
        let first = |parts: &dyn Fn(&Departure) -> bool| {
            phases.iter().find(|phase| parts(phase)).map(|phase| (phase.layer, phase.phase.clone()))
        };
        let first_bits = first(&|phase| phase.differing > 0);
        let first_beyond = first(&|phase| phase.error > bound || phase.error.is_nan());
        Ok(Departures { phases, first_bits, bound, first_beyond })
    }
}

impl fmt::Display for Departures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "relative error after each phase, flipped experts in brackets")?;
        write!(f, "layer")?;
        for phase in self.phases.iter().take(PHASES) {
            write!(f, " {:>14}", phase.phase)?;
        }
        for phase in &self.phases {
            if phase.phase == "qkv" {
                write!(f, "\n{:<5}", phase.layer)?;
            }
            let flips = match phase.flipped_experts {
                0 => String::new(),
                n => format!(" ({n})"),
            };
            write!(f, " {:>14}", format!("{:.2e}{flips}", phase.error))?;
        }
        let place = |found: &Option<(usize, String)>| match found {
            Some((layer, phase)) => format!("layer {layer}, {phase}"),
            None => "nowhere".into(),
        };
        writeln!(f, "\nfirst other bits  {}", place(&self.first_bits))?;
        writeln!(f, "first beyond {:<5}{}", self.bound, place(&self.first_beyond))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_phase_that_parts_is_named() {
        let trace = Trace(vec![vec![1.0, 2.0], vec![3.0], vec![4.0], vec![0.0, 1.0], vec![9.0]]);
        let mut parting = Parting::from(trace);
        let phases = [Phase::Attend, Phase::Project, Phase::Reduce, Phase::Route, Phase::Expand];
        let found = [vec![1.0, 2.0], vec![3.0001], vec![5.0], vec![1.0, 0.0], vec![0.0]];
        for (phase, found) in phases.into_iter().zip(&found) {
            parting.compare((0, phase), 1, found);
        }
        let departures = parting.departures(0.01).unwrap();
        assert_eq!(departures.first_bits, Some((0, "project".into())));
        assert_eq!(departures.first_beyond, Some((0, "route".into())));
        assert_eq!(departures.phases[3].flipped_experts, 1);
        assert_eq!(departures.phases[4].error, 0.0, "a row with other experts is left out");
        assert_eq!(departures.phases[5].error, 0.25);
        parting.compare((1, Phase::Qkv), 1, &[1.0]);
        assert!(parting.departures(0.01).unwrap_err().contains("differ in shape"));
    }
}
