//! Bits: one sequence computed in several ways, and a hash of all its logits each time. On a device
//! of whatever kind they must be the same.

use std::ops::Range;

use qwire_backend_cuda::monitor::Monitor;
use qwire_model::{Batch, Limits, PageId, Runner, Shape, Span, TokenId};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::commands::serve::loader::digits;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// Most sequences beside ours.
const OTHERS: usize = 7;

/// One way.
#[derive(Clone, Copy, Serialize)]
pub struct Way {
    /// What is special about it.
    name: &'static str,
    /// Whether launches that come again are replayed as graphs.
    graphs: bool,
    /// Sequences that are computed in the same steps.
    beside: usize,
    /// Tokens of the prompt in one step, at most.
    chunk: usize,
}

const ALONE: Way = Way { name: "alone", graphs: true, beside: 0, chunk: 512 };
const WAYS: [Way; 6] = [
    ALONE,
    Way { name: "again", ..ALONE },
    Way { name: "once more", ..ALONE },
    Way { name: "prompt in chunks", chunk: 33, ..ALONE },
    Way { name: "beside others", beside: OTHERS, ..ALONE },
    Way { name: "without graphs", graphs: false, ..ALONE },
];

/// What came of a way.
#[derive(Serialize)]
pub struct Hash {
    #[serde(flatten)]
    way: Way,
    /// Rows of logits that went into it.
    rows: usize,
    sha256: String,
}

/// Sequences of so many tokens, the last `steps` one at a time.
#[derive(Clone, Copy)]
pub struct Bits {
    pub prompt: usize,
    pub steps: usize,
    pub seed: u64,
}

impl Bits {
    /// Positions of a sequence.
    pub fn positions(self) -> usize {
        self.prompt + self.steps
    }

    /// What must be reserved.
    pub fn limits(self, kv: qwire_model::KvType) -> Limits {
        let pages = Shape::pages_for(self.positions()) * (OTHERS + 1);
        Limits { rows: ALONE.chunk.min(self.prompt).max(OTHERS + 1), outputs: 1, pages, kv }
    }

    /// Every way that the device has, in turn, until somebody interrupts.
    pub fn run(
        self,
        runner: &mut dyn Runner,
        monitor: Option<&Monitor>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Hash>, Failure> {
        let mut hashes = Vec::new();
        for way in WAYS {
            match monitor {
                Some(monitor) => monitor.replay(way.graphs),
                None if !way.graphs => continue,
                None => {}
            }
            if interrupt.raised() {
                break;
            }
            hashes.push(self.hash(runner, way)?);
        }
        Ok(hashes)
    }

    fn hash(self, runner: &mut dyn Runner, way: Way) -> Result<Hash, Failure> {
        let (mut hash, mut rows) = (Sha256::new(), 0);
        let mut step = |batch: &Batch| -> Result<(), Failure> {
            if let Some(poison) = runner.step(batch).first() {
                return Err(Failure::new(poison));
            }
            if !batch.outputs.is_empty() {
                rows += 1;
                runner.logits(0..1).iter().for_each(|logit| hash.update(logit.to_le_bytes()));
            }
            Ok(())
        };
        for start in (0..self.prompt).step_by(way.chunk) {
            let end = self.prompt.min(start + way.chunk);
            let mut batch = Batch::default();
            self.push(&mut batch, 0, start..end);
            batch.outputs = if end == self.prompt { vec![end - start - 1] } else { Vec::new() };
            step(&batch)?;
        }
        for at in 0..self.steps {
            // Ours is in the middle, the others at their beginning.
            let mut batch = Batch::default();
            for sequence in 0..=way.beside {
                if sequence == way.beside / 2 {
                    batch.outputs = vec![batch.tokens.len()];
                    self.push(&mut batch, 0, self.prompt + at..self.prompt + at + 1);
                }
                if sequence > 0 {
                    self.push(&mut batch, sequence, at..at + 1);
                }
            }
            step(&batch)?;
        }
        let sha256 = digits(&hash.finalize());
        Ok(Hash { way, rows, sha256 })
    }

    fn push(self, batch: &mut Batch, sequence: usize, range: Range<usize>) {
        let each = Shape::pages_for(self.positions());
        let pages = (0..each).map(|page| PageId((sequence * each + page) as u32)).collect();
        batch.spans.push(Span { start: range.start, len: range.len(), pages });
        batch.tokens.extend(range.map(|at| self.token(sequence, at)));
    }

    /// Below 256: every vocabulary has it.
    fn token(self, sequence: usize, at: usize) -> TokenId {
        let number = self.seed.wrapping_add((sequence << 32 | at) as u64);
        TokenId((number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 & 0xff)
    }
}

/// Whether all of them are one.
pub fn agree(hashes: &[Hash]) -> bool {
    hashes.windows(2).all(|pair| pair[0].sha256 == pair[1].sha256)
}

/// A table for a terminal.
pub fn table(hashes: &[Hash]) -> String {
    let line = |hash: &Hash| format!("{:<17} {}\n", hash.way.name, &hash.sha256[..16]);
    let verdict = if agree(hashes) { "all the same bits" } else { "NOT the same bits" };
    hashes.iter().map(line).collect::<String>() + verdict + "\n"
}
