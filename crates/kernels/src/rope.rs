//! Rotary position embedding: NEOX pairs (i, i + n/2), with linear or YaRN scaling.
//!
//! Angles are f64 through a pinned pure-Rust libm, once per row and step; only cos and sin of the
//! finished angle are rounded to f32.

use std::f64::consts::PI;

use crate::isa::compiled;

/// How positions beyond the training context are mapped into it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// Context extension.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, a ramp between.
    Yarn {
        /// Context extension.
        factor: f64,
        /// Context of the original training.
        original_context: f64,
        /// Multiplies the magnitude of q and k beside YaRN's own 1 + 0.1 ln factor.
        attn_factor: f64,
        /// Rotations above which a frequency is kept (32).
        beta_fast: f64,
        /// Rotations below which a frequency is divided (1).
        beta_slow: f64,
    },
}

/// The frequencies of one model.
#[derive(Clone, Debug)]
pub struct Rope {
    inverse: Vec<f64>, // [n_rot / 2]
    magnitude: f64,
}

impl Rope {
    /// inv_i = base^(-2i / n_rot), scaled. `n_rot` is even.
    pub fn new(n_rot: usize, base: f64, scaling: Scaling) -> Self {
        assert!(n_rot.is_multiple_of(2), "{n_rot} rotated dimensions are not pairs");
        let n = n_rot as f64;
        let mut inverse: Vec<f64> =
            (0..n_rot / 2).map(|i| libm::pow(base, -2.0 * i as f64 / n)).collect();
        let mut magnitude = 1.0;
        match scaling {
            Scaling::None => {}
            Scaling::Linear { factor } => inverse.iter_mut().for_each(|inv| *inv /= factor),
            Scaling::Yarn { factor, original_context, attn_factor, beta_fast, beta_slow } => {
                // The pair that turns r times within the original context.
                let dim = |r: f64| {
                    n * libm::log(original_context / (2.0 * PI * r)) / (2.0 * libm::log(base))
                };
                let low = dim(beta_fast).floor().max(0.0);
                let high = dim(beta_slow).ceil().min(n - 1.0);
                let width = if high == low { 0.001 } else { high - low };
                for (i, inv) in inverse.iter_mut().enumerate() {
                    let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
                    *inv = *inv * (1.0 - ramp) + *inv / factor * ramp;
                }
                magnitude = attn_factor * (1.0 + 0.1 * libm::log(factor));
            }
        }
        Self { inverse, magnitude }
    }

    /// Rotated pairs.
    pub fn pairs(&self) -> usize {
        self.inverse.len()
    }

    /// Cosines and sines of one position, each [n_rot / 2], in f64.
    pub fn turns(&self, position: usize) -> impl Iterator<Item = (f64, f64)> {
        self.inverse.iter().map(move |inverse| {
            let (sin, cos) = libm::sincos(position as f64 * inverse);
            (cos * self.magnitude, sin * self.magnitude)
        })
    }

    /// Cosines and sines of one position, rounded to f32.
    pub fn fill(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((turn, cos), sin) in self.turns(position).zip(cos).zip(sin) {
            (*cos, *sin) = (turn.0 as f32, turn.1 as f32);
        }
    }
}

compiled! {
    /// Rotates one head in place.
    pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) = definition
}

/// a' = fma(a, c, -(b s)), b' = fma(b, c, a s)
#[inline(always)]
fn definition(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, b) = head[..2 * cos.len()].split_at_mut(cos.len());
    for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = x.mul_add(*c, -(y * s));
        *b = y.mul_add(*c, x * s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_length_and_position_zero_changes_nothing() {
        let rope = Rope::new(64, 1e6, Scaling::None);
        let (mut cos, mut sin) = ([0.0; 32], [0.0; 32]);
        let original: Vec<f32> = (0..64).map(|i| (i as f32 - 30.0) * 0.1).collect();
        for position in [0, 1, 511, 262_143] {
            rope.fill(position, &mut cos, &mut sin);
            let mut head = original.clone();
            definition(&mut head, &cos, &sin);
            for isa in crate::Isa::available() {
                let mut other = original.clone();
                rotate(isa, &mut other, &cos, &sin);
                assert_eq!(other, head, "{isa:?}");
            }
            let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
            assert!((length(&head) / length(&original) - 1.0).abs() < 1e-5);
            assert_eq!(head == original, position == 0);
        }
    }

    #[test]
    fn scaling_divides_low_frequencies() {
        let plain = Rope::new(128, 1e6, Scaling::None);
        let linear = Rope::new(128, 1e6, Scaling::Linear { factor: 4.0 });
        let yarn = Rope::new(
            128,
            1e6,
            Scaling::Yarn {
                factor: 4.0,
                original_context: 32768.0,
                attn_factor: 1.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
            },
        );
        for i in 0..64 {
            assert_eq!(linear.inverse[i], plain.inverse[i] / 4.0);
        }
        assert_eq!(yarn.inverse[0], plain.inverse[0]);
        assert_eq!(yarn.inverse[63], plain.inverse[63] / 4.0);
        assert!((yarn.magnitude - 1.138_629).abs() < 1e-6);
    }
}
