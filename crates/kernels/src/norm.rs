//! RMS norm, and the lane sum that fixes the order of every long float sum.

use crate::isa::compiled;

/// Sixteen partial sums: element i goes to lane i mod 16.
pub const LANES: usize = 16;

/// The tree that folds sixteen lanes: +8, +4, +2, +1.
#[inline(always)]
pub fn fold(mut lanes: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Lane sum of x^2, each step `fma(x, x, lane)`.
#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = x.chunks_exact(LANES);
    let rest = whole.remainder();
    for chunk in whole {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane = v.mul_add(*v, *lane);
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane = v.mul_add(*v, *lane);
    }
    fold(lanes)
}

/// y = (x * r) * w with r = 1 / sqrt(ss / n + eps). Returns whether ss and every y are finite.
#[inline(always)]
fn definition(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) -> bool {
    let ss = sum_of_squares(x);
    let r = 1.0 / (ss / x.len() as f32 + eps).sqrt();
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = (x * r) * w;
    }
    ss.is_finite() && y.iter().all(|y| y.is_finite())
}

compiled! {
    /// RMS norm of one row; false when the row, its sum or the weights are not finite.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) -> bool = definition
}

compiled! {
    /// RMS norm of one head in place.
    pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) = in_place_definition
}

#[inline(always)]
fn in_place_definition(x: &mut [f32], weight: &[f32], eps: f32) {
    let ss = sum_of_squares(x);
    let r = 1.0 / (ss / x.len() as f32 + eps).sqrt();
    for (x, w) in x.iter_mut().zip(weight) {
        *x = (*x * r) * w;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_isa_gives_the_bits_of_the_definition() {
        for n in [1, 15, 16, 17, 64, 1024, 2049] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.173).collect();
            let w: Vec<f32> = (0..n).map(|i| 1.0 + (i % 7) as f32 * 0.01).collect();
            let mut expected = vec![0.0; n];
            definition(&x, &w, 1e-6, &mut expected);
            for isa in Isa::available() {
                let mut y = vec![0.0; n];
                assert!(rms_norm(isa, &x, &w, 1e-6, &mut y));
                assert!(y.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
            for isa in Isa::available() {
                let mut head = x.clone();
                rms_norm_in_place(isa, &mut head, &w, 1e-6);
                assert_eq!(head, expected);
            }
        }
    }

    #[test]
    fn a_row_that_is_not_finite_is_reported() {
        let mut y = [0.0; 4];
        for bad in [f32::NAN, f32::INFINITY, 3e38] {
            assert!(!rms_norm(Isa::SCALAR, &[1.0, bad, 0.0, 0.0], &[1.0; 4], 1e-6, &mut y));
            let weight = [1.0, 1.0, bad * 1e38, 1.0];
            assert!(!rms_norm(Isa::SCALAR, &[1.0; 4], &weight, 1e-6, &mut y));
        }
    }
}
