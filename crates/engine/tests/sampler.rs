//! The sampler from outside: which tokens it can choose, how often, and that nothing else counts.

use proptest::prelude::*;
use qwire_engine::sampler::{Dry, Poison, Sampler, Sampling, logprob, top_logprobs};
use qwire_model::Ranked;

fn sample(sampling: &Sampling, logits: &[f32], history: &[u32], position: u64) -> u32 {
    let mut sampler = Sampler::new(sampling.clone(), logits.len()).expect("valid parameters");
    sampler.sample(logits, history, position, None).expect("sound logits")
}

/// Logits such as a model gives: a few high ones over a wide floor.
fn peaked(vocab: usize, seed: u64) -> Vec<f32> {
    let mut x = seed;
    let mut step = || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 40) as f32 / (1 << 24) as f32
    };
    (0..vocab).map(|_| (step() + step() + step() + step()) * 8.0 - 16.0).collect()
}

fn warm() -> Sampling {
    Sampling { temperature: 1.0, ..Sampling::default() }
}

#[test]
fn greedy_takes_the_best_and_the_lowest_of_equals() {
    let logits = [0.0, 3.0, -1.0, 3.0];
    for sampling in [Sampling::default(), Sampling { top_k: 1, ..warm() }] {
        for position in 0..50 {
            assert_eq!(sample(&sampling, &logits, &[], position), 1);
        }
    }
}

#[test]
fn a_draw_has_a_raw_logprob() {
    let logits = peaked(3000, 1);
    let all = top_logprobs(&logits, logits.len());
    let total: f64 = all.iter().map(|t| libm::exp(f64::from(t.1))).sum();
    assert!((total - 1.0).abs() < 1e-5, "probabilities sum to {total}");
    let sampling = Sampling {
        temperature: 1.7,
        repetition_penalty: 1.5,
        logit_bias: vec![(5, 20.0)],
        ..warm()
    };
    let mut sampler = Sampler::new(sampling, logits.len()).unwrap();
    for position in 0..20 {
        let token = sampler.sample(&logits, &[5, 6, 7], position, None).unwrap();
        let raw = all.iter().find(|t| t.0 == token).unwrap();
        assert_eq!(Ok(raw.1), logprob(&logits, token), "token {token}");
    }
}

#[test]
fn neutral_parameters_change_nothing() {
    let logits = peaked(1000, 2);
    let history: Vec<u32> = (0..200).map(|i| i % 7).collect();
    let neutral: [fn(&mut Sampling); 9] = [
        |s| s.top_k = 1000,
        |s| s.top_k = u32::MAX,
        |s| s.penalty_window = 0,
        |s| s.logit_bias = vec![(3, 0.0), (4, -0.0)],
        |s| s.dry = Dry { base: 9.0, ..Dry::default() },
        |s| s.dry = Dry { multiplier: 9.0, window: 0, ..Dry::default() },
        |s| s.dry = Dry { multiplier: 9.0, allowed_length: 500, ..Dry::default() },
        |s| s.dry = Dry { multiplier: 9.0, breakers: vec![vec![3]], ..Dry::default() },
        |s| (s.repetition_penalty, s.penalty_window) = (2.0, 0),
    ];
    for (row, change) in neutral.iter().enumerate() {
        let mut sampling = warm();
        change(&mut sampling);
        for position in 0..100 {
            let plain = sample(&warm(), &logits, &history, position);
            assert_eq!(sample(&sampling, &logits, &history, position), plain, "row {row}");
        }
    }
}

#[test]
fn only_seed_and_position_count() {
    let logits = peaked(500, 3);
    let forward: Vec<u32> = {
        let mut sampler = Sampler::new(warm(), 500).unwrap();
        (0..200).map(|p| sampler.sample(&logits, &[], p, None).unwrap()).collect()
    };
    let mut sampler = Sampler::new(warm(), 500).unwrap();
    for position in (0..200).rev() {
        let token = sampler.sample(&logits, &[], position, None).unwrap();
        assert_eq!(token, forward[position as usize], "position {position}");
    }
    let other = Sampling { seed: 1, ..warm() };
    let differing =
        (0..200).filter(|&p| sample(&other, &logits, &[], p) != forward[p as usize]).count();
    assert!(differing > 150, "another seed changed {differing} of 200 tokens");
}

#[test]
fn a_sampler_equals_a_fresh_one_after_any_past() {
    let sampling = Sampling {
        temperature: 0.9,
        top_p: 0.9,
        typical_p: 0.95,
        repetition_penalty: 1.2,
        frequency_penalty: 0.1,
        dry: Dry { multiplier: 0.8, ..Dry::default() },
        ..warm()
    };
    let mut used = Sampler::new(sampling.clone(), 800).unwrap();
    let mut history = Vec::new();
    for position in 0..150 {
        let logits = peaked(800, position % 5);
        let choice = used.sample(&logits, &history, position, None).unwrap();
        assert_eq!(choice, sample(&sampling, &logits, &history, position));
        history.push(choice);
    }
}

/// χ² of 100,000 draws against exact probabilities, 7 degrees of freedom: 29.9 is p = 1e-4.
#[test]
fn draws_follow_the_distribution() {
    let check = |name: &str, sampling: Sampling, parts: [f64; 8], expected: [f64; 8]| {
        let logits = parts.map(|p| libm::log(p) as f32);
        let mut sampler = Sampler::new(sampling, 8).unwrap();
        let draws = 100_000;
        let mut counts = [0u32; 8];
        for position in 0..draws {
            counts[sampler.sample(&logits, &[], position, None).unwrap() as usize] += 1;
        }
        let total: f64 = expected.iter().sum();
        let mut chi2 = 0.0;
        for (&count, weight) in counts.iter().zip(expected) {
            let mean = weight / total * draws as f64;
            if mean == 0.0 {
                assert_eq!(count, 0, "{name}: a token outside of the set");
            } else {
                chi2 += (f64::from(count) - mean) * (f64::from(count) - mean) / mean;
            }
        }
        assert!(chi2 < 29.9, "{name}: chi-square {chi2}, counts {counts:?}");
    };
    let parts = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 12.0];
    let top = [0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 7.0, 12.0];
    check("plain", warm(), parts, parts);
    check("seed", Sampling { seed: 99, ..warm() }, parts, parts);
    check("cool", Sampling { temperature: 0.5, ..warm() }, parts, parts.map(|p| p * p));
    check("hot", Sampling { temperature: 2.0, ..warm() }, parts, parts.map(f64::sqrt));
    check("top_k", Sampling { top_k: 3, ..warm() }, parts, top);
    check("top_p", Sampling { top_p: 0.6, ..warm() }, parts, top);
    check("min_p", Sampling { min_p: 0.45, ..warm() }, parts, top);
    let both = Sampling { temperature: 0.5, top_p: 0.6, ..warm() };
    check("truncated before the temperature", both, parts, top.map(|p| p * p));
}

/// The first tokens of each kind of chain and the bits of their log-probabilities, so that another
/// machine, compiler or order of operations cannot change them unseen.
#[test]
fn the_bits_are_pinned() {
    let check = |name: &str, sampling: Sampling, expected: u64| {
        let mut sampler = Sampler::new(sampling, 5000).unwrap();
        let mut history = vec![1, 2, 3];
        let mut digest = 0xcbf29ce484222325u64; // FNV-1a over words
        for position in 0..64 {
            let logits = peaked(5000, position % 7);
            let token = sampler.sample(&logits, &history, position, None).unwrap();
            history.push(token);
            for word in [token, logprob(&logits, token).unwrap().to_bits()] {
                digest = (digest ^ u64::from(word)).wrapping_mul(0x100000001b3);
            }
        }
        assert_eq!(digest, expected, "{name}: {digest:#x}");
    };
    let dry = Dry { multiplier: 0.8, allowed_length: 1, ..Dry::default() };
    check(
        "greedy",
        Sampling { repetition_penalty: 1.3, dry, ..Sampling::default() },
        0x2511b19ee2d46134,
    );
    check("plain", Sampling { temperature: 1.3, seed: 5, ..warm() }, 0xe2eb1ff93704798a);
    check(
        "top",
        Sampling { top_k: 50, top_p: 0.9, min_p: 0.02, temperature: 0.7, ..warm() },
        0x485f7abd5c78eff9,
    );
    check("typical", Sampling { typical_p: 0.7, ..warm() }, 0x9e7f25eeac0ca74b);
}

#[test]
fn the_chain_has_its_order() {
    // A bias is penalised: 4 + 4 over 2 is 4, below the other's 5.
    let sampling =
        Sampling { logit_bias: vec![(0, 4.0)], repetition_penalty: 2.0, ..Sampling::default() };
    assert_eq!(sample(&sampling, &[4.0, 5.0], &[0], 0), 1);
    // DRY lowers what would complete "1 2 3" again.
    let dry = Dry { multiplier: 3.0, ..Dry::default() };
    let sampling = Sampling { dry, ..Sampling::default() };
    let logits = [0.0, 1.0, 1.0, 2.0];
    assert_eq!(sample(&sampling, &logits, &[1, 2, 3, 1, 2], 0), 1);
    assert_eq!(sample(&sampling, &logits, &[1, 2, 3, 2, 1], 0), 3);
}

#[test]
fn poison_is_named() {
    let check = |logits: &[f32], bias: Vec<(u32, f32)>, expected: &str| {
        for temperature in [0.0, 1.0] {
            let sampling = Sampling { temperature, logit_bias: bias.clone(), ..warm() };
            let mut sampler = Sampler::new(sampling, logits.len()).unwrap();
            let error: Poison = sampler.sample(logits, &[], 0, None).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    };
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let accepted = "accepted is finite, or -inf";
    let empty = "every token is at -inf: accepted is at least one above";
    check(&[0.0, nan, inf], vec![], &format!("the logit of token 1 is NaN: {accepted}"));
    check(&[0.0, -inf, inf, nan], vec![], &format!("the logit of token 2 is inf: {accepted}"));
    check(&[-inf, -inf], vec![], empty);
    check(&[-inf, 0.0], vec![(1, -inf)], empty);
    let outside = Sampling { logit_bias: vec![(2, 1.0)], ..warm() };
    let error = Sampler::new(outside, 2).unwrap_err();
    assert_eq!(error, "logit_bias names token 2: accepted is below 2");
}

/// As a device ranks them.
fn best(logits: &[f32], few: usize) -> Vec<Ranked> {
    let all = (0..).zip(logits).map(|(token, logit)| Ranked { token, logit: *logit });
    let mut all: Vec<_> = all.collect();
    all.sort_by(|a, b| b.logit.partial_cmp(&a.logit).unwrap().then(a.token.cmp(&b.token)));
    all.truncate(few);
    all
}

/// Where a penalty may have put a token behind one that is not among the best, all are asked.
#[test]
fn the_best_tokens_may_not_be_enough() {
    let logits = [5.0, 4.0, 3.0, 2.0];
    let with = |presence_penalty| Sampling { presence_penalty, ..Sampling::default() };
    for (penalty, few, decided) in
        [(0.5, 1, None), (0.5, 2, Some(0)), (1.5, 2, None), (1.5, 3, Some(1)), (9.0, 4, Some(1))]
    {
        let mut sampler = Sampler::new(with(penalty), 4).unwrap();
        assert_eq!(sampler.decide(&best(&logits, few), &[0], 0), decided, "{penalty}, {few}");
    }
    let mut raised = Sampler::new(with(-1.0), 4).unwrap();
    assert_eq!(raised.decide(&best(&logits, 4), &[0], 0), None);
    let mut wide = Sampler::new(warm(), 4).unwrap();
    assert_eq!(wide.decide(&best(&logits, 4), &[], 0), None);
    for damaged in [f32::NAN, f32::INFINITY] {
        let mut list = best(&logits, 4);
        list[0].logit = damaged;
        let mut sampler = Sampler::new(Sampling::default(), 4).unwrap();
        assert_eq!(sampler.decide(&list, &[], 0), None);
    }
}

/// The ids in order with their probabilities, by a full sort.
fn ranked(logits: &[f32]) -> Vec<(u32, f64)> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = logits.iter().map(|&x| libm::exp(f64::from(x) - f64::from(max)));
    let mut all: Vec<(u32, f64)> = (0..).zip(weights).collect();
    let mass: f64 = all.iter().map(|c| c.1).sum();
    for candidate in &mut all {
        candidate.1 /= mass;
    }
    all.sort_by(|a, b| logits[b.0 as usize].total_cmp(&logits[a.0 as usize]));
    all
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        8 => -8.0f32..8.0,
        2 => (-3i8..3).prop_map(f32::from),
        1 => Just(f32::NEG_INFINITY),
    ];
    let vocab = prop_oneof![1usize..40, 500usize..600];
    (vocab, 0.0f32..8.0).prop_flat_map(move |(n, first)| {
        prop::collection::vec(logit.clone(), n).prop_map(move |mut logits| {
            logits[0] = first;
            logits
        })
    })
}

proptest! {
    #[test]
    fn a_token_is_inside_of_each_set(
        logits in logits(), p in 0.0f32..1.0, k in 1u32..60, position: u64, seed: u64,
    ) {
        let base = Sampling { seed, temperature: 1.5, ..Sampling::default() };
        let ranked = ranked(&logits);
        let rank = |s: &Sampling| {
            let token = sample(s, &logits, &[], position);
            ranked.iter().position(|c| c.0 == token).unwrap()
        };
        let at = rank(&Sampling { top_k: k, ..base.clone() });
        prop_assert!(at < k as usize, "rank {}", at);

        let at = rank(&Sampling { top_p: p, ..base.clone() });
        let before: f64 = ranked[..at].iter().map(|c| c.1).sum();
        prop_assert!(at == 0 || before < f64::from(p) + 1e-12, "rank {} after {}", at, before);

        let at = rank(&Sampling { min_p: p, ..base.clone() });
        prop_assert!(ranked[at].1 >= ranked[0].1 * f64::from(p) * (1.0 - 1e-12));

        let at = rank(&Sampling { typical_p: p, ..base });
        let surprise = |c: &(u32, f64)| -libm::log(c.1);
        let possible = ranked.iter().filter(|c| c.1 > 0.0);
        let entropy: f64 = possible.clone().map(|c| c.1 * surprise(c)).sum();
        let distance = |c: &(u32, f64)| (surprise(c) - entropy).abs();
        let nearer: f64 = possible
            .filter(|c| distance(c) < distance(&ranked[at]) - 1e-9)
            .map(|c| c.1)
            .sum();
        prop_assert!(nearer < f64::from(p) + 1e-12, "{} of the mass is nearer", nearer);
    }

    #[test]
    fn the_best_tokens_decide_as_all_do(
        logits in logits(), temperature in prop_oneof![Just(0.0f32), 0.3f32..2.0],
        top_k in 1u32..70, (top_p, min_p, typical_p) in (0.0f32..=1.0, 0.0f32..0.3, 0.0f32..=1.0),
        repetition_penalty in prop_oneof![Just(1.0f32), 1.0f32..2.0],
        (presence_penalty, frequency_penalty) in
            prop_oneof![Just((0.0f32, 0.0f32)), (0.0f32..4.0, 0.0f32..1.0)],
        history in prop::collection::vec(0u32..40, 0..60), few in 1usize..65,
        window in 0u32..70, position: u64, seed: u64,
    ) {
        let sampling = Sampling {
            temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty,
            frequency_penalty, penalty_window: window, seed, ..Sampling::default()
        };
        let mut sampler = Sampler::new(sampling.clone(), logits.len()).unwrap();
        let best = best(&logits, few);
        let decided = sampler.decide(&best, &history, position);
        if let Some(token) = decided {
            prop_assert_eq!(token, sample(&sampling, &logits, &history, position));
        }
        let needed = if sampling.is_greedy() { 1 } else { top_k as usize };
        let neutral = (repetition_penalty, presence_penalty, frequency_penalty);
        let unchanged = neutral == (1.0, 0.0, 0.0) || window == 0;
        if sampler.takes_best() && (few >= logits.len() || unchanged && few >= needed) {
            prop_assert!(decided.is_some());
        }
        // What it was asked leaves no trace.
        let after = sampler.sample(&logits, &history, position, None);
        prop_assert_eq!(after, Ok(sample(&sampling, &logits, &history, position)));
    }

    #[test]
    fn extremes_never_panic(
        logits in prop::collection::vec(
            prop_oneof![any::<f32>(), Just(f32::MAX), Just(f32::MIN), Just(f32::NEG_INFINITY)],
            1..30),
        history in prop::collection::vec(0u32..40, 0..60),
        (temperature, top_k, top_p, min_p, typical_p) in
            (prop_oneof![Just(0.0), 0.0f32..2.0, Just(f32::MAX), Just(f32::from_bits(1))],
             0u32..40, 0.0f32..=1.0, 0.0f32..=1.0, 0.0f32..=1.0),
        (repetition_penalty, presence_penalty, frequency_penalty) in
            (prop_oneof![Just(f32::MIN_POSITIVE), 0.5f32..2.0, Just(f32::MAX)],
             any::<f32>(), any::<f32>()),
        multiplier in prop_oneof![0.0f32..2.0, Just(f32::MAX)],
        bias in any::<f32>(), window: u32, position: u64,
    ) {
        let sampling = Sampling {
            temperature, top_k, top_p, min_p, typical_p,
            repetition_penalty, presence_penalty, frequency_penalty,
            penalty_window: window,
            dry: Dry { multiplier, window, breakers: vec![vec![7], vec![1, 2]], ..Dry::default() },
            logit_bias: vec![(0, bias)],
            seed: 11,
            choice: 3,
        };
        let bad = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY);
        match Sampler::new(sampling.clone(), logits.len()) {
            Err(reason) => prop_assert_eq!(sampling.validate(), Err(reason)),
            Ok(mut sampler) => match (sampler.sample(&logits, &history, position, None), bad) {
                (Ok(token), None) => {
                    prop_assert!(logits[token as usize] > f32::NEG_INFINITY);
                    prop_assert!((-9999.0..=0.0).contains(&logprob(&logits, token).unwrap()));
                }
                (Err(Poison::Logit { token, .. }), Some(first)) => {
                    prop_assert_eq!(token as usize, first);
                }
                (Err(Poison::Empty), None) => {
                    prop_assert!(logits[1..].iter().all(|x| *x == f32::NEG_INFINITY));
                }
                (found, bad) => prop_assert!(false, "{:?}, first bad {:?}", found, bad),
            },
        }
    }
}
