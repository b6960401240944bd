//! Weights and log-probabilities of logits, the same bits on every machine.
//!
//! ```text
//! weight(x) = exp(beta·(x − max))          beta = 1/temperature
//! mass      = Σ weight(x)                  eight lanes, i mod 8, then a tree
//! logprob   = (x − max) − ln(mass)         beta = 1, never below −9999
//! ```
//! The exponential is written here because it runs once per vocabulary entry and token: without
//! branches and calls it goes through vector units, and its order of operations is plain to see.

use super::candidates::rank;

/// What a log-probability is raised to: JSON has no −∞.
const FLOOR: f64 = -9999.0;

const LANES: usize = 8;

/// exp(x) for x ≤ 0, within 2 units in the last place; below −700 it is 0.
#[inline]
fn exp(x: f64) -> f64 {
    // ln 2 in two parts, the first short enough for n·LN2_HI to be exact.
    const LN2_HI: f64 = 6.931_471_803_691_238e-1;
    const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
    // Adding 1.5·2^52 rounds to an integer, which then stands in the low bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    // 1/k! for k = 13 … 0: on |r| ≤ ln(2)/2 the first term left out is below 2^-57.
    const COEFFICIENTS: [f64; 14] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let shifted = x * std::f64::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let mut power = 0.0;
    for c in COEFFICIENTS {
        power = power * r + c;
    }
    let scale = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    if x < -700.0 { 0.0 } else { power * scale }
}

/// exp(beta·(score − max)): 1 for the largest, 0 for −∞.
#[inline]
pub fn weight(score: f32, max: f32, beta: f64) -> f64 {
    exp((f64::from(score) - f64::from(max)) * beta)
}

/// The sum of all weights, in a fixed order that follows the ids.
pub fn mass(scores: &[f32], max: f32, beta: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane += weight(score, max, beta);
        }
    }
    for (lane, &score) in lanes.iter_mut().zip(rest) {
        *lane += weight(score, max, beta);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The largest logit; the input holds no NaN.
pub fn max(logits: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, logit);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// The log-probability of one logit under the softmax with this maximum and mass.
pub fn logprob(logit: f32, max: f32, mass: f64) -> f32 {
    let exact = (f64::from(logit) - f64::from(max)) - libm::log(mass);
    exact.max(FLOOR) as f32
}

/// The `n` most probable tokens with their log-probabilities, best first, ties to the lower id.
///
/// These are of the raw logits: no penalty, no bias. Tokens with a logit of −∞ are not listed.
pub fn top_logprobs(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let mut best = Vec::new();
    rank(logits, n, &mut best);
    let Some(first) = best.first() else { return Vec::new() };
    let max = first.score;
    let mass = mass(logits, max, 1.0);
    best.iter().map(|c| (c.id, logprob(c.score, max, mass))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_libm() {
        for step in 0..700_000 {
            let x = f64::from(step) * -0.001;
            let (ours, theirs) = (exp(x), libm::exp(x));
            assert!((ours - theirs).abs() <= theirs * 4.5e-16, "exp({x}) = {ours}, libm {theirs}");
        }
    }

    #[test]
    fn exp_at_its_ends() {
        for (x, expected) in
            [(0.0, 1.0), (-0.0, 1.0), (-700.1, 0.0), (f64::MIN, 0.0), (f64::NEG_INFINITY, 0.0)]
        {
            assert_eq!(exp(x), expected, "exp({x})");
        }
    }

    #[test]
    fn mass_and_max_take_every_element() {
        for len in 1..40 {
            let logits: Vec<f32> = (0..len).map(|i| (i * 7 % 11) as f32).collect();
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            let expected: f64 = logits.iter().map(|&x| libm::exp(f64::from(x - largest))).sum();
            assert_eq!(max(&logits), largest, "len {len}");
            let sum = mass(&logits, largest, 1.0);
            assert!((sum - expected).abs() < 1e-12 * expected, "len {len}: {sum}, {expected}");
        }
    }

    #[test]
    fn top_logprobs_are_sorted_with_ties_to_the_lower_id() {
        let logits = [1.0, 3.0, f32::NEG_INFINITY, 3.0, -1e30];
        let top = top_logprobs(&logits, 9);
        let ids: Vec<u32> = top.iter().map(|t| t.0).collect();
        assert_eq!(ids, [1, 3, 0, 4]);
        // p = e^2 / (2·e^2 + 1)
        assert!((f64::from(top[0].1) - libm::log(7.389_056 / 15.778_112)).abs() < 1e-6);
        assert_eq!(top[3].1, -9999.0);
        assert_eq!(top_logprobs(&logits, 0), []);
        assert_eq!(top_logprobs(&[f32::NEG_INFINITY; 3], 2), []);
    }
}
