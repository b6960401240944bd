//! Trial: one thing to measure, what it reads and multiplies, and the speeds that were found.

use qwire_model::Shape;

use crate::commands::reading::Reading;

/// Samples further apart than this are called noisy.
const NOISY: f64 = 1.2;

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The tokens of a prompt, in steps of a chunk.
    Prefill,
    /// Tokens one after the other.
    Decode,
}

impl Kind {
    /// The name that llama.cpp gave it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefill => "pp",
            Self::Decode => "tg",
        }
    }
}

/// One measurement: `n` tokens of each sequence behind `depth` positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trial {
    pub kind: Kind,
    pub n: usize,
    pub depth: usize,
}

/// What a trial asks of the machine, per token.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Bytes of weights, keys and values.
    pub bytes: f64,
    /// Operations, two per product with a weight; attention is not among them.
    pub ops: f64,
}

impl Trial {
    /// Its cost for `parallel` sequences in steps of at most `rows` rows. A step reads each weight
    /// that it needs once, and the keys and values of each of its sequences once.
    pub fn cost(self, reading: &Reading, kv_bytes: f64, parallel: usize, rows: usize) -> Cost {
        let tokens = (self.n * parallel) as f64;
        let (body, head) = (reading.row_products() as f64, reading.head_products() as f64);
        match self.kind {
            Kind::Decode => {
                let weights = reading.step_bytes(parallel, true) / parallel as f64;
                let visible = self.depth as f64 + (self.n + 1) as f64 / 2.0;
                Cost { bytes: weights + kv_bytes * visible, ops: 2.0 * (body + head) }
            }
            Kind::Prefill => {
                let mut bytes = 0.0;
                let total = self.n * parallel;
                for first in (0..total).step_by(rows) {
                    let end = total.min(first + rows);
                    let ends = first / self.n != end / self.n;
                    bytes += reading.step_bytes(end - first, ends);
                    let mut at = first;
                    while at < end {
                        let piece = (self.n - at % self.n).min(end - at);
                        bytes += kv_bytes * (self.depth + at % self.n + piece) as f64;
                        at += piece;
                    }
                }
                Cost { bytes: bytes / tokens, ops: 2.0 * (body + head / self.n as f64) }
            }
        }
    }
}

/// A trial with its samples, in tokens per second of all sequences together.
#[derive(Clone, Debug)]
pub struct Measured {
    pub trial: Trial,
    pub cost: Cost,
    pub samples: Vec<f64>,
}

impl Measured {
    /// The middle sample, or the mean of the two.
    pub fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        }
    }

    /// The slowest sample.
    pub fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The quickest sample.
    pub fn max(&self) -> f64 {
        self.samples.iter().copied().fold(0.0, f64::max)
    }

    /// How far the samples lie apart, where that is too far to be trusted.
    pub fn noise(&self) -> Option<f64> {
        Some(self.max() / self.min()).filter(|ratio| *ratio > NOISY)
    }

    /// 10⁹ bytes per second at the median.
    pub fn gb_s(&self) -> f64 {
        self.median() * self.cost.bytes / 1e9
    }

    /// 10⁹ operations per second at the median.
    pub fn gop_s(&self) -> f64 {
        self.median() * self.cost.ops / 1e9
    }
}

/// Bytes of keys and values of one position.
pub fn kv_bytes(shape: &Shape, kv: qwire_model::KvType) -> f64 {
    shape.page_bytes(kv) as f64 / crate::memory::PAGE as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(samples: &[f64]) -> Measured {
        let trial = Trial { kind: Kind::Decode, n: 1, depth: 0 };
        Measured { trial, cost: Cost { bytes: 2e9, ops: 3e9 }, samples: samples.to_vec() }
    }

    #[test]
    fn samples_are_summed_up() {
        let odd = measured(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.median(), odd.min(), odd.max()), (2.0, 1.0, 3.0));
        assert_eq!((odd.gb_s(), odd.gop_s(), odd.noise()), (4.0, 6.0, Some(3.0)));
        let even = measured(&[1.0, 1.1]);
        assert_eq!((even.median(), even.noise()), (1.05, None));
    }
}
