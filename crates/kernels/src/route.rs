//! The router: which experts a row visits, and with what weight.

use crate::exp::exp;
use crate::isa::compiled;
use crate::norm::{LANES, fold};

/// How many experts, and how their weights are made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Routing {
    /// Experts a row visits.
    pub used: usize,
    /// Whether the chosen weights sum to 1; otherwise they are the softmax over all experts.
    pub normalised: bool,
    /// Multiplies every weight.
    pub scale: f32,
}

compiled! {
    /// Chooses the `used` largest logits (ties to the lower id, NaN last) and weighs them:
    /// e = exp(l - l_max), p = e / S * scale, S the lane sum by expert id over the chosen (or all).
    ///
    /// `choice`, [used], receives (expert, weight) by ascending id. False when a logit is NaN or a
    /// weight is not finite: damaged weights must not pass as an expert that is never chosen.
    pub fn route(logits: &[f32], routing: Routing, choice: &mut [(u32, f32)]) -> bool
        = definition
}

#[inline(always)]
fn definition(logits: &[f32], routing: Routing, choice: &mut [(u32, f32)]) -> bool {
    assert_eq!(choice.len(), routing.used, "room for the chosen");
    let mut len = 0;
    for (id, logit) in logits.iter().enumerate() {
        // Kept in order of preference; a later id never passes an equal earlier one.
        let better = |other: f32| *logit > other || other.is_nan() && !logit.is_nan();
        let at = choice[..len].iter().position(|(_, other)| better(*other)).unwrap_or(len);
        if at < routing.used {
            len = routing.used.min(len + 1);
            choice.copy_within(at..len - 1, at + 1);
            choice[at] = (id as u32, *logit);
        }
    }
    let top = choice[0].1;
    choice.sort_unstable_by_key(|(id, _)| *id);
    let mut lanes = [0.0; LANES];
    if !routing.normalised {
        for (id, logit) in logits.iter().enumerate() {
            lanes[id % LANES] += exp(logit - top);
        }
    }
    for (id, weight) in choice.iter_mut() {
        *weight = exp(*weight - top);
        if routing.normalised {
            lanes[*id as usize % LANES] += *weight;
        }
    }
    let sum = fold(lanes);
    for (_, weight) in choice.iter_mut() {
        *weight = *weight / sum * routing.scale;
    }
    let whole = !logits.iter().any(|logit| logit.is_nan());
    whole && choice.iter().all(|(_, weight)| weight.is_finite())
}

compiled! {
    /// y = fma(weight, x, y), element by element: one expert's share of a row.
    pub fn blend(weight: f32, x: &[f32], y: &mut [f32]) = blend_definition
}

#[inline(always)]
fn blend_definition(weight: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = weight.mul_add(*x, *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(logits: &[f32], used: usize) -> (Vec<(u32, f32)>, bool) {
        let mut choice = vec![(0, 0.0); used];
        let routing = Routing { used, normalised: true, scale: 1.0 };
        let finite = definition(logits, routing, &mut choice);
        for isa in crate::Isa::available() {
            let mut other = vec![(0, 0.0); used];
            let whole = route(isa, logits, routing, &mut other);
            let bits = |choice: &[(u32, f32)]| {
                choice.iter().map(|(id, weight)| (*id, weight.to_bits())).collect::<Vec<_>>()
            };
            assert!(!finite || bits(&other) == bits(&choice), "{isa:?}");
            assert_eq!(whole, finite);
        }
        (choice, finite)
    }

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![
            4 => -20.0_f32..20.0,
            1 => prop::sample::select(vec![0.0, -0.0, 1.0, 1e30, -1e30, f32::MAX, f32::MIN]),
        ]
    }

    proptest! {
        #[test]
        fn weights_sum_to_one_and_ids_are_distinct(
            logits in prop::collection::vec(logit(), 1..200),
            used in 1_usize..12,
        ) {
            let used = used.min(logits.len());
            let (choice, finite) = run(&logits, used);
            prop_assert!(finite);
            prop_assert_eq!(choice.len(), used);
            let sum: f64 = choice.iter().map(|(_, weight)| f64::from(*weight)).sum();
            prop_assert!((sum - 1.0).abs() <= 1e-6, "sum {}", sum);
            prop_assert!(choice.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(choice.iter().all(|(id, _)| (*id as usize) < logits.len()));
            // No expert left out has a larger logit, nor an equal one and a lower id.
            for (id, logit) in logits.iter().enumerate() {
                if choice.iter().all(|(chosen, _)| *chosen as usize != id) {
                    for (chosen, _) in &choice {
                        let other = logits[*chosen as usize];
                        prop_assert!(other > *logit || other == *logit && (*chosen as usize) < id);
                    }
                }
            }
        }
    }

    #[test]
    fn edges() {
        assert_eq!(run(&[3.0], 1).0, [(0, 1.0)]);
        assert_eq!(run(&[1.0; 8], 2).0, [(0, 0.5), (1, 0.5)]);
        let all = run(&[0.0, 1.0, 2.0], 3).0;
        assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(run(&[1e30, -1e30, 0.0], 2).0, [(0, 1.0), (2, 0.0)]);
        let (choice, whole) = run(&[f32::NAN, 1.0, f32::NAN, 0.0], 2);
        assert_eq!((choice[0].0, choice[1].0, whole), (1, 3, false));
        assert!(!run(&[f32::NAN; 4], 2).1);
        assert!(!run(&[f32::INFINITY, 1.0], 2).1);
        let mut choice = [(0, 0.0)];
        let routing = Routing { used: 1, normalised: false, scale: 2.0 };
        assert!(definition(&[0.0, 0.0, 0.0, 0.0], routing, &mut choice));
        assert_eq!(choice, [(0, 0.5)]);
    }
}
