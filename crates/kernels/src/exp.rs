//! The exponential, and the activation built on it: one polynomial, the same bits everywhere.

use crate::isa::compiled;

/// Above this `exp` is infinite; below [`UNDERFLOW`] it is zero.
const OVERFLOW: f32 = 88.72;
const UNDERFLOW: f32 = -87.33;
const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
/// ln 2 in two parts: `n * LN2_HI` is exact for every n that occurs.
const LN2_HI: f32 = f32::from_bits(0x3f31_8000);
const LN2_LO: f32 = f32::from_bits(0xb95e_8083);
/// exp(r) on |r| <= ln(2)/2, minimax in relative error (3.1e-9), highest degree first.
const COEFFICIENTS: [f32; 7] = [
    f32::from_bits(0x3ab5_11e8),
    f32::from_bits(0x3c09_1d10),
    f32::from_bits(0x3d2a_ac79),
    f32::from_bits(0x3e2a_aa49),
    f32::from_bits(0x3eff_fffe),
    1.0,
    1.0,
];
/// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// e^x: inf above 88.72, +0 below -87.33, NaN for NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = if x > OVERFLOW { OVERFLOW } else { x };
    let clamped = if clamped < UNDERFLOW { UNDERFLOW } else { clamped };
    let rounded = clamped * LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = n.mul_add(-LN2_HI, clamped);
    let r = n.mul_add(-LN2_LO, r);
    let mut p = COEFFICIENTS[0];
    for c in &COEFFICIENTS[1..] {
        p = p.mul_add(r, *c);
    }
    // n as an integer stands in the low bits of what was rounded; a conversion would not become a
    // vector. A NaN has none: any will do, the selection below overrides it.
    let whole = rounded.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    let half = whole >> 1;
    let y = p * power_of_two(half) * power_of_two(whole - half);
    let y = if x > OVERFLOW { f32::INFINITY } else { y };
    let y = if x < UNDERFLOW { 0.0 } else { y };
    if x.is_nan() { f32::NAN } else { y }
}

/// 2^n for |n| <= 126.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// silu(x) = x / (1 + e^-x)
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

compiled! {
    /// m = silu(g) * u, element by element.
    pub fn gate(g: &[f32], u: &[f32], m: &mut [f32]) = gate_definition
}

#[inline(always)]
fn gate_definition(g: &[f32], u: &[f32], m: &mut [f32]) {
    for ((m, g), u) in m.iter_mut().zip(g).zip(u) {
        *m = silu(*g) * u;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_true_exponential_everywhere() {
        let mut worst = 0.0_f64;
        for step in 0..4_000_000 {
            let x = -87.33_f32 + step as f32 * (176.05 / 4e6);
            let truth = libm::exp(f64::from(x));
            worst = worst.max((f64::from(exp(x)) / truth - 1.0).abs());
        }
        assert!(worst < 1.2e-7, "relative error {worst:e}: more than one unit in the last place");
    }

    #[test]
    fn gates_have_the_same_bits_on_every_isa() {
        let g: Vec<f32> = (0..1000).map(|i| (i as f32 - 500.0) * 0.21).collect();
        let u: Vec<f32> = (0..1000).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
        let mut expected = vec![0.0; 1000];
        gate_definition(&g, &u, &mut expected);
        for isa in crate::Isa::available() {
            let mut m = vec![0.0; 1000];
            gate(isa, &g, &u, &mut m);
            assert!(m.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?}");
        }
    }

    #[test]
    fn edges() {
        for (x, y) in [
            (0.0, 1.0),
            (-0.0, 1.0),
            (88.73, f32::INFINITY),
            (f32::INFINITY, f32::INFINITY),
            (-87.34, 0.0),
            (f32::NEG_INFINITY, 0.0),
            (1e-40, 1.0),
        ] {
            assert_eq!(exp(x).to_bits(), y.to_bits(), "exp({x})");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(88.72).is_finite() && exp(-87.33) >= f32::MIN_POSITIVE);
        assert_eq!(silu(0.0), 0.0);
        assert_eq!(silu(-200.0).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(silu(200.0), 200.0);
    }
}
