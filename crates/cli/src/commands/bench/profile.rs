//! Profile: what each kernel of a step took on a card, beside a copy within its memory.

use qwire_backend_cuda::monitor::{Entry, Ledger};
use serde::Serialize;

use super::trial::{Kind, Trial};
use crate::quantity::grouped;

/// Launches of a step that belong to no layer: the last norm, and the head. What ranks logits comes
/// behind them.
const OUTSIDE: f64 = 2.0;
/// Steps of an answer that are timed.
pub const STEPS: usize = 8;

/// Some steps of a trial, each launch timed.
pub struct Profile {
    pub trial: Trial,
    pub steps: usize,
    pub layers: usize,
    pub ledger: Ledger,
}

/// One profile in `--json`.
#[derive(Serialize)]
pub struct Row {
    test: &'static str,
    of: &'static str,
    n: usize,
    depth: usize,
    steps: usize,
    launches_per_step: f64,
    nodes_per_layer: Option<f64>,
    seconds_per_step: f64,
    idle_seconds: f64,
    copy_gb_s: Option<f64>,
    kernels: Vec<Timed>,
}

/// One kernel of it.
#[derive(Serialize)]
struct Timed {
    kernel: &'static str,
    calls: u64,
    seconds: f64,
    bytes: u64,
    gb_s: f64,
}

impl Profile {
    fn per_step(&self) -> f64 {
        self.ledger.calls() as f64 / self.steps as f64
    }

    /// Launches of a layer, of a step that ends with logits.
    fn per_layer(&self) -> Option<f64> {
        let decode = self.trial.kind == Kind::Decode;
        let ranks = |entry: &&Entry| entry.kernel == "best";
        let ranked: u64 = self.ledger.entries.iter().filter(ranks).map(|entry| entry.calls).sum();
        let outside = OUTSIDE + ranked as f64 / self.steps as f64;
        decode.then(|| (self.per_step() - outside) / self.layers as f64)
    }

    /// As `--json` has it.
    pub fn row(&self) -> Row {
        let kernel = |entry: &Entry| Timed {
            kernel: entry.kernel,
            calls: entry.calls,
            seconds: entry.seconds,
            bytes: entry.bytes,
            gb_s: entry.bytes as f64 / entry.seconds / 1e9,
        };
        Row {
            test: "profile",
            of: self.trial.kind.name(),
            n: self.trial.n,
            depth: self.trial.depth,
            steps: self.steps,
            launches_per_step: self.per_step(),
            nodes_per_layer: self.per_layer(),
            seconds_per_step: self.ledger.seconds() / self.steps as f64,
            idle_seconds: self.ledger.idle,
            copy_gb_s: self.ledger.copy_gb_s,
            kernels: self.ledger.entries.iter().map(kernel).collect(),
        }
    }

    /// A table for a terminal.
    pub fn table(&self) -> String {
        let (row, steps) = (self.row(), self.steps as f64);
        let depth = grouped(row.depth as u64);
        let mut lines = vec![format!(
            "{} {} at depth {depth}: {:.0} launches a step{}, {:.3} ms in kernels",
            row.of,
            row.n,
            row.launches_per_step,
            row.nodes_per_layer.map_or_else(String::new, |n| format!(", {n:.1} a layer")),
            row.seconds_per_step * 1e3,
        )];
        let copy = row.copy_gb_s.unwrap_or(f64::NAN);
        lines.push(format!(
            "a copy moves {copy:.1} GB/s; {:.1} µs of each time are the clock's",
            row.idle_seconds * 1e6
        ));
        let head = ["kernel", "a step", "µs each", "ms a step", "KB each", "GB/s", "of copy"];
        lines.push(line(&head.map(String::from)));
        for kernel in &row.kernels {
            let calls = kernel.calls as f64;
            lines.push(line(&[
                kernel.kernel.into(),
                format!("{:.1}", calls / steps),
                format!("{:.2}", kernel.seconds / calls * 1e6),
                format!("{:.3}", kernel.seconds / steps * 1e3),
                format!("{:.1}", kernel.bytes as f64 / calls / 1e3),
                format!("{:.1}", kernel.gb_s),
                format!("{:.0} %", 100.0 * kernel.gb_s / copy),
            ]));
        }
        lines.join("\n") + "\n"
    }
}

fn line(cells: &[String; 7]) -> String {
    let [kernel, rest @ ..] = cells;
    rest.iter().fold(format!("{kernel:<14}"), |line, cell| format!("{line} {cell:>10}"))
}
