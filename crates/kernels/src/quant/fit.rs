//! Fit: the scale, and perhaps the minimum, whose codes come nearest to given values.
//!
//! A row of scales is tried. Each gives codes by rounding, and the codes give the scale with the
//! least squared error in closed form; of all these the best is taken.

/// Steps to either side of the scale at which the largest value has the largest code.
const STEPS: i32 = 10;
/// What one step adds to the largest code.
const STEP: f32 = 0.1;

/// The nearest integer, ties to even, for magnitudes below 2^22.
#[inline(always)]
pub(super) fn nearest(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: the next number is one larger
    (x + SHIFT) - SHIFT
}

/// The code of a value among `low..=high`, where a code is worth 1 / `inverse`.
#[inline(always)]
pub(super) fn code(x: f32, inverse: f32, low: f32, high: f32) -> f32 {
    nearest((x * inverse).clamp(low, high))
}

/// 1 / x, and 0 of 0: what has no scale has the code 0.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The value with the largest magnitude.
pub(super) fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, x| if x.abs() > most.abs() { *x } else { most })
}

/// s that makes `s * code` nearest, codes in `low..=high`; `low` is the longer side.
pub(super) fn scale(values: &[f32], low: f32, high: f32) -> f32 {
    let extreme = extreme(values);
    if extreme == 0.0 {
        return 0.0;
    }
    let (mut best, mut most) = (extreme / low, 0.0);
    for step in -STEPS..=STEPS {
        let inverse = (low + STEP * step as f32) / extreme;
        let (mut xq, mut qq) = (0.0, 0.0);
        for x in values {
            let q = code(*x, inverse, low, high);
            xq += x * q;
            qq += q * q;
        }
        // The squared error is that of zeros less this.
        let gain = if qq > 0.0 { xq * xq / qq } else { 0.0 };
        if gain > most {
            (best, most) = (xq / qq, gain);
        }
    }
    best
}

/// s and m that make `s * code - m` nearest, codes in `0..=high`, m not negative.
pub(super) fn scale_and_min(values: &[f32], high: f32) -> (f32, f32) {
    let low = values.iter().fold(0.0, |low: f32, x| low.min(*x));
    let span = values.iter().fold(low, |top: f32, x| top.max(*x)) - low;
    if span == 0.0 {
        return (0.0, -low);
    }
    let n = values.len() as f32;
    let (mut best, mut least) = ((span / high, -low), f32::INFINITY);
    for step in -STEPS..=STEPS {
        let inverse = (high + STEP * step as f32) / span;
        let [mut x1, mut q1, mut xq, mut qq] = [0.0_f32; 4];
        for x in values {
            let q = code(x - low, inverse, 0.0, high);
            x1 += x;
            q1 += q;
            xq += x * q;
            qq += q * q;
        }
        let spread = n * qq - q1 * q1;
        if spread <= 0.0 {
            continue;
        }
        let (mut s, mut m) = ((n * xq - q1 * x1) / spread, (q1 * xq - qq * x1) / spread);
        if m < 0.0 {
            (s, m) = (xq / qq, 0.0);
        }
        let inverse = self::inverse(s);
        let miss = |x: &f32| s * code(x + m, inverse, 0.0, high) - m - x;
        let error = values.iter().map(miss).map(|miss| miss * miss).sum();
        if error < least {
            (best, least) = ((s, m), error);
        }
    }
    best
}
