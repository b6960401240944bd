//! The sampler: logits and history in, one token out.
//!
//! It is the definition for the whole system. Where a device has ranked the best tokens, those may
//! be all that a draw can see ([`Sampler::decide`]): then the rest stay where they are.
//! The chain has one order, llama.cpp's default, and temperature comes last: the truncations see
//! probabilities at temperature 1.
//!
//! ```text
//! logits ─ logit_bias ─ repetition, presence, frequency ─ DRY ─ mask ─┬─ greedy: the best score
//!                            ┌─ top_k ─ typical ─ top_p ─ min_p ──────┘
//!                            └─ temperature ─ draw
//! ```
//! Greedy is `temperature = 0` or `top_k = 1`. Each truncation keeps at least one token, renewing
//! probabilities over what the one before it kept. Ties go to the lowest id everywhere.
//!
//! Equal inputs give equal tokens on every machine: scores are f32, weights and sums f64 in a
//! fixed order, the random number is a function of (seed, choice, position). Nothing is carried
//! from one token to the next except memory.

mod candidates;
mod dry;
mod philox;
mod sampling;
mod softmax;

use candidates::{Candidate, Candidates};
pub use dry::Dry;
pub use sampling::Sampling;
pub use softmax::top_logprobs;

use std::fmt;

use qwire_model::Ranked;
use qwire_model::backend::BEST;

use crate::constraint::Mask;

/// The sampler of one sequence: its parameters and scratch.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    vocab: usize,
    /// `[vocab]` where a step edits logits, else unused.
    scores: Vec<f32>,
    /// `[vocab]`, zero between steps: what a penalty counts per token.
    tally: Vec<u32>,
    candidates: Candidates,
    dry: dry::Work,
    typical: Typical,
}

/// Logits from which no token can be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Poison {
    /// The first logit that is NaN or +∞.
    Logit {
        /// Its token.
        token: u32,
        /// What was found there.
        found: f32,
    },
    /// Every token is at −∞, by the logits, the biases or the mask.
    Empty,
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Logit { token, found } => {
                write!(f, "the logit of token {token} is {found}: accepted is finite, or -inf")
            }
            Self::Empty => write!(f, "every token is at -inf: accepted is at least one above"),
        }
    }
}

impl std::error::Error for Poison {}

impl Sampler {
    /// A sampler for logits over `vocab` tokens; refuses parameters out of range.
    pub fn new(sampling: Sampling, vocab: usize) -> Result<Self, String> {
        sampling.validate_for(vocab)?;
        Ok(Self {
            sampling,
            vocab,
            scores: Vec::new(),
            tally: Vec::new(),
            candidates: Candidates::default(),
            dry: dry::Work::default(),
            typical: Typical::default(),
        })
    }

    /// The parameters.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Chooses the token that follows `history` (prompt and generated) at `position`, among those
    /// that a mask allows.
    pub fn sample(
        &mut self,
        logits: &[f32],
        history: &[u32],
        position: u64,
        mask: Option<&Mask>,
    ) -> Result<u32, Poison> {
        assert_eq!(logits.len(), self.vocab, "logits of another vocabulary");
        let max = checked_max(logits)?;
        if self.edits() || mask.is_some() {
            self.edit(logits, history);
            if let Some(mask) = mask {
                mask.forbid(&mut self.scores);
            }
            let scores = std::mem::take(&mut self.scores);
            let token = self.choose(&scores, None, position);
            self.scores = scores;
            token
        } else {
            self.choose(logits, Some(max), position)
        }
    }

    /// Whether the best tokens may be enough for a draw.
    pub fn takes_best(&self) -> bool {
        let s = &self.sampling;
        let lowers =
            s.repetition_penalty >= 1.0 && s.presence_penalty >= 0.0 && s.frequency_penalty >= 0.0;
        // The last of the best is no better, once it is lowered, than those behind it.
        let most = if self.penalises() { BEST - 1 } else { BEST };
        let few = s.top_k > 0 && (s.top_k as usize) < self.vocab && s.top_k as usize <= most;
        let simple = s.logit_bias.is_empty() && !s.dry.is_on();
        simple && (s.is_greedy() || few) && (lowers || !self.penalises())
    }

    /// What [`Sampler::sample`] would choose from all logits without a mask, by the best of them
    /// alone; none where it may depend on others.
    pub fn decide(&mut self, best: &[Ranked], history: &[u32], position: u64) -> Option<u32> {
        let sound = |logit: f32| f32::NEG_INFINITY < logit && logit < f32::INFINITY;
        if !self.takes_best() || !sound(best.first()?.logit) {
            return None;
        }
        let needed = if self.sampling.is_greedy() { 1 } else { self.sampling.top_k as usize };
        // What is not among them is no better than the last of them.
        let last = best.last()?.logit;
        let whole = best.len() == self.vocab || last == f32::NEG_INFINITY;
        let edited = self.penalises();
        let window = if edited { self::last(history, self.sampling.penalty_window) } else { &[] };
        self.tally.resize(if edited { self.vocab } else { 0 }, 0);
        count(window, &mut self.tally);
        let (s, tally) = (&self.sampling, &self.tally);
        let lowered = best.iter().filter(|ranked| sound(ranked.logit)).map(|ranked| {
            let times = tally.get(ranked.token as usize).copied().unwrap_or(0);
            let score = penalised(s, ranked.logit, times);
            Candidate { id: ranked.token, score }
        });
        self.candidates.take(lowered);
        for token in window {
            self.tally.get_mut(*token as usize).into_iter().for_each(|count| *count = 0);
        }
        self.candidates.truncate(&[], needed);
        let worst = self.candidates.all(&[]).get(needed - 1).map(|candidate| candidate.score);
        let enough = if edited { worst.is_some_and(|worst| worst > last) } else { worst.is_some() };
        if !enough && !whole {
            return None;
        }
        if self.sampling.is_greedy() {
            return self.candidates.get(&[], 0).map(|candidate| candidate.id);
        }
        self.narrow(&[], position).ok()
    }

    /// Whether any step changes a logit.
    fn edits(&self) -> bool {
        !self.sampling.logit_bias.is_empty() || self.penalises() || self.sampling.dry.is_on()
    }

    fn penalises(&self) -> bool {
        let s = &self.sampling;
        let neutral = (s.repetition_penalty, s.presence_penalty, s.frequency_penalty);
        s.penalty_window > 0 && neutral != (1.0, 0.0, 0.0)
    }

    /// Leaves in `scores` the logits after bias, penalties and DRY; without any, the logits.
    fn edit(&mut self, logits: &[f32], history: &[u32]) {
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        for &(token, bias) in &self.sampling.logit_bias {
            let score = &mut self.scores[token as usize];
            *score = if bias == f32::NEG_INFINITY { bias } else { lowered(*score, -bias) };
        }
        self.tally.resize(self.vocab, 0);
        if self.penalises() {
            let window = last(history, self.sampling.penalty_window);
            penalise(&self.sampling, &mut self.scores, window, &mut self.tally);
        }
        if self.sampling.dry.is_on() {
            let dry = &self.sampling.dry;
            let window = last(history, dry.window);
            dry.apply(&mut self.scores, window, &mut self.dry, &mut self.tally);
        }
    }

    /// One of the tokens by their scores, the best of which may be known.
    fn choose(&mut self, scores: &[f32], max: Option<f32>, position: u64) -> Result<u32, Poison> {
        let s = &self.sampling;
        if s.is_greedy() {
            return first(scores, max.unwrap_or_else(|| softmax::max(scores)));
        }
        self.candidates.reset();
        // A k that covers the vocabulary is off, so that it cannot change the order of a sum.
        if s.top_k > 0 && (s.top_k as usize) < scores.len() {
            self.candidates.truncate(scores, s.top_k as usize);
        }
        self.narrow(scores, position)
    }

    /// A draw from the candidates, of which there are no more than top_k.
    fn narrow(&mut self, scores: &[f32], position: u64) -> Result<u32, Poison> {
        let (s, set) = (&self.sampling, &mut self.candidates);
        if s.typical_p < 1.0 {
            self.typical.truncate(set, scores, s.typical_p);
        }
        if s.top_p < 1.0 {
            top_p(set, scores, s.top_p);
        }
        if s.min_p > 0.0 {
            min_p(set, scores, s.min_p);
        }
        draw(set, scores, s.temperature, philox::uniform(s.seed, s.choice, position))
    }
}

/// The log-probability of one token under raw logits, before any bias or penalty; at least −9999.
pub fn logprob(logits: &[f32], token: u32) -> Result<f32, Poison> {
    let max = checked_max(logits)?;
    Ok(softmax::logprob(logits[token as usize], max, softmax::mass(logits, max, 1.0)))
}

/// The largest logit, unless one is NaN or +∞.
fn checked_max(logits: &[f32]) -> Result<f32, Poison> {
    let sound = |logit: &f32| *logit < f32::INFINITY;
    if !logits.iter().fold(true, |all, logit| all & sound(logit)) {
        let index = logits.iter().position(|logit| !sound(logit)).expect("one is not sound");
        return Err(Poison::Logit { token: index as u32, found: logits[index] });
    }
    let max = softmax::max(logits);
    if max == f32::NEG_INFINITY { Err(Poison::Empty) } else { Ok(max) }
}

/// The last `window` tokens.
fn last(history: &[u32], window: u32) -> &[u32] {
    &history[history.len().saturating_sub(window as usize)..]
}

/// score − penalty, where a finite score stays finite and −∞ stays what it is.
fn lowered(score: f32, penalty: f32) -> f32 {
    finite(score - penalty, score)
}

/// `edited`, unless the edit of a finite `score` left the finite numbers.
fn finite(edited: f32, score: f32) -> f32 {
    if score == f32::NEG_INFINITY { score } else { edited.clamp(f32::MIN, f32::MAX) }
}

/// Per distinct token of the window: r = repetition, p = presence, f = frequency, n = its count;
/// x > 0: x/r, else x·r; then − (n·f + p).
fn penalise(s: &Sampling, scores: &mut [f32], window: &[u32], tally: &mut [u32]) {
    count(window, tally);
    for &token in window {
        let Some(count) = tally.get_mut(token as usize) else { continue };
        let count = std::mem::take(count);
        let score = &mut scores[token as usize];
        *score = penalised(s, *score, count);
    }
}

/// How often the window has each token.
fn count(window: &[u32], tally: &mut [u32]) {
    for &token in window {
        if let Some(count) = tally.get_mut(token as usize) {
            *count += 1;
        }
    }
}

fn penalised(s: &Sampling, x: f32, count: u32) -> f32 {
    if count == 0 {
        return x;
    }
    let r = s.repetition_penalty;
    let repeated = finite(if x > 0.0 { x / r } else { x * r }, x);
    let counted = (count as f32 * s.frequency_penalty).clamp(f32::MIN, f32::MAX);
    lowered(repeated, counted + s.presence_penalty)
}

/// The first token with this score.
fn first(scores: &[f32], score: f32) -> Result<u32, Poison> {
    const STRIDE: usize = 256; // compared without a look at each
    if score == f32::NEG_INFINITY {
        return Err(Poison::Empty);
    }
    let equal = |part: &[f32]| part.iter().map(|other| u32::from(*other == score)).sum::<u32>();
    let part =
        scores.chunks(STRIDE).position(|part| equal(part) > 0).expect("it is a score") * STRIDE;
    let place = scores[part..].iter().position(|other| *other == score);
    Ok((part + place.expect("it is in this part")) as u32)
}

/// Keeps the shortest head whose mass reaches p of the whole.
fn top_p(set: &mut Candidates, scores: &[f32], p: f32) {
    let enough = set.mass(scores, 1.0) * f64::from(p);
    let Some(best) = set.get(scores, 0) else { return };
    let mut mass = 0.0;
    let mut kept = 0;
    while let Some(candidate) = set.get(scores, kept) {
        mass += softmax::weight(candidate.score, best.score, 1.0);
        kept += 1;
        if mass >= enough {
            break;
        }
    }
    set.truncate(scores, kept);
}

/// Keeps the tokens with probability ≥ p · (the best one's): score ≥ best + ln p.
fn min_p(set: &mut Candidates, scores: &[f32], p: f32) {
    let Some(best) = set.get(scores, 0) else { return };
    let bar = f64::from(best.score) + libm::log(f64::from(p));
    let mut kept = 1;
    while set.get(scores, kept).is_some_and(|c| f64::from(c.score) >= bar) {
        kept += 1;
    }
    set.truncate(scores, kept);
}

/// Walks the set by rank until the mass walked exceeds u of the whole, at temperature t.
fn draw(set: &mut Candidates, scores: &[f32], t: f32, u: f64) -> Result<u32, Poison> {
    let beta = 1.0 / f64::from(t);
    let best = set.get(scores, 0).ok_or(Poison::Empty)?;
    let target = set.mass(scores, beta) * u;
    let mut mass = 0.0;
    let mut token = best.id;
    for rank in 0.. {
        let Some(candidate) = set.get(scores, rank) else { break };
        let weight = softmax::weight(candidate.score, best.score, beta);
        if weight == 0.0 {
            break;
        }
        // Rounding may leave the walk short of the target: then the last one with any mass.
        token = candidate.id;
        mass += weight;
        if mass > target {
            break;
        }
    }
    Ok(token)
}

/// The typical step's scratch.
#[derive(Debug, Default)]
struct Typical {
    /// `[candidates]`: |surprise − entropy| and rank.
    distances: Vec<(f64, usize)>,
    kept: Vec<Candidate>,
}

impl Typical {
    /// Keeps the tokens whose surprise −ln p is nearest the entropy H, until their mass reaches
    /// `p`; equal distances in the order of the set. With w the weights and d = score − best:
    /// p = w/Σw,   −ln p = ln Σw − d,   H = ln Σw − Σ w·d / Σw
    fn truncate(&mut self, set: &mut Candidates, scores: &[f32], p: f32) {
        let all = set.all(scores);
        let Some(best) = all.first().map(|c| c.score) else { return };
        let below = |c: &Candidate| f64::from(c.score) - f64::from(best);
        let weight = |c: &Candidate| softmax::weight(c.score, best, 1.0);
        let (mut mass, mut weighted) = (0.0, 0.0);
        for c in all {
            mass += weight(c);
            weighted += weight(c) * below(c);
        }
        let mean = weighted / mass; // −ln p − H = mean − d
        self.distances.clear();
        self.distances
            .extend(all.iter().enumerate().map(|(rank, c)| ((mean - below(c)).abs(), rank)));
        self.distances.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let enough = mass * f64::from(p);
        let mut reached = 0.0;
        let mut count = 0;
        while count < all.len() && (count == 0 || reached < enough) {
            reached += weight(&all[self.distances[count].1]);
            count += 1;
        }
        let ranks = self.distances[..count].iter().map(|d| d.1);
        set.keep(ranks, &mut self.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits whose softmax is exactly these parts of their sum, up to rounding.
    fn logits(parts: &[f32]) -> Vec<f32> {
        parts.iter().map(|&p| libm::log(f64::from(p)) as f32).collect()
    }

    fn ids(set: &mut Candidates, scores: &[f32]) -> Vec<u32> {
        set.all(scores).iter().map(|c| c.id).collect()
    }

    #[test]
    fn top_p_keeps_the_head_that_reaches_it() {
        let check = |parts: &[f32], p, expected: &[u32]| {
            let scores = logits(parts);
            let mut set = Candidates::default();
            top_p(&mut set, &scores, p);
            assert_eq!(ids(&mut set, &scores), expected, "{parts:?}, p {p}");
        };
        check(&[1.0, 4.0, 3.0, 2.0], 0.0, &[1]);
        check(&[1.0, 4.0, 3.0, 2.0], 0.39, &[1]);
        check(&[1.0, 4.0, 3.0, 2.0], 0.41, &[1, 2]);
        check(&[1.0, 4.0, 3.0, 2.0], 0.71, &[1, 2, 3]);
        check(&[1.0, 4.0, 3.0, 2.0], 0.91, &[1, 2, 3, 0]);
        check(&[1.0, 1.0, 1.0, 1.0], 0.5, &[0, 1]); // ties to the lower id
        check(&[0.0, 1.0, 0.0], 0.99, &[1]); // −∞ is no candidate
    }

    #[test]
    fn top_p_renews_probabilities_over_top_k() {
        let scores = logits(&[1.0, 4.0, 3.0, 2.0]);
        let mut set = Candidates::default();
        set.truncate(&scores, 2);
        top_p(&mut set, &scores, 0.5); // 4/7, where 4/10 of the whole would need another token
        assert_eq!(ids(&mut set, &scores), [1]);
    }

    #[test]
    fn min_p_is_relative_to_the_best() {
        let check = |parts: &[f32], p, expected: &[u32]| {
            let scores = logits(parts);
            let mut set = Candidates::default();
            min_p(&mut set, &scores, p);
            assert_eq!(ids(&mut set, &scores), expected, "{parts:?}, p {p}");
        };
        check(&[1.0, 4.0, 3.0, 2.0], 1.0, &[1]);
        check(&[1.0, 4.0, 3.0, 2.0], 0.74, &[1, 2]);
        check(&[1.0, 4.0, 3.0, 2.0], 0.76, &[1]);
        check(&[1.0, 4.0, 3.0, 2.0], 0.1, &[1, 2, 3, 0]);
        check(&[2.0, 2.0, 1.0], 1.0, &[0, 1]);
    }

    #[test]
    fn typical_prefers_the_expected_surprise() {
        let check = |parts: &[f32], p, expected: &[u32]| {
            let scores = logits(parts);
            let mut set = Candidates::default();
            Typical::default().truncate(&mut set, &scores, p);
            assert_eq!(ids(&mut set, &scores), expected, "{parts:?}, p {p}");
        };
        // H = 1.168; −ln p = 0.693, 1.609, 1.609, 2.303; distances 0.475, 0.441, 0.441, 1.134
        check(&[5.0, 2.0, 2.0, 1.0], 0.1, &[1]);
        check(&[5.0, 2.0, 2.0, 1.0], 0.3, &[1, 2]);
        check(&[5.0, 2.0, 2.0, 1.0], 0.5, &[0, 1, 2]);
        check(&[5.0, 2.0, 2.0, 1.0], 0.95, &[0, 1, 2, 3]);
        check(&[1.0, 1.0], 0.0, &[0]);
    }

    #[test]
    fn penalties_by_hand() {
        let check = |(r, p, f): (f32, f32, f32), window: &[u32], expected: [f32; 4]| {
            let sampling = Sampling {
                repetition_penalty: r,
                presence_penalty: p,
                frequency_penalty: f,
                ..Sampling::default()
            };
            let mut scores = [4.0, -4.0, 0.0, f32::NEG_INFINITY];
            let mut tally = [0; 4];
            penalise(&sampling, &mut scores, window, &mut tally);
            assert_eq!(scores, expected, "{r} {p} {f} over {window:?}");
            assert_eq!(tally, [0; 4], "the tally is left as it was found");
        };
        let inf = f32::NEG_INFINITY;
        check((2.0, 0.0, 0.0), &[], [4.0, -4.0, 0.0, inf]);
        check((2.0, 0.0, 0.0), &[0, 1, 2, 3, 0], [2.0, -8.0, 0.0, inf]); // once each, sign-aware
        check((0.5, 0.0, 0.0), &[0, 1], [8.0, -2.0, 0.0, inf]);
        check((1.0, 0.5, 0.0), &[0, 0, 0], [3.5, -4.0, 0.0, inf]); // once
        check((1.0, 0.0, 0.5), &[0, 0, 2], [3.0, -4.0, -0.5, inf]); // each time
        check((2.0, 1.0, 0.5), &[0, 0], [0.0, -4.0, 0.0, inf]); // 4/2 − (2·0.5 + 1)
        check((1.0, -1.0, -1.0), &[1], [4.0, -2.0, 0.0, inf]); // negative ones encourage
        check((2.0, 0.0, 0.0), &[7, 1], [4.0, -8.0, 0.0, inf]); // 7 is no token of the vocabulary
    }

    #[test]
    fn edits_stay_finite() {
        assert_eq!(lowered(f32::MAX, f32::MIN), f32::MAX);
        assert_eq!(lowered(f32::MIN, f32::MAX), f32::MIN);
        assert_eq!(lowered(f32::NEG_INFINITY, f32::MIN), f32::NEG_INFINITY);
    }

    #[test]
    fn draw_walks_by_rank() {
        let scores = logits(&[1.0, 4.0, 3.0, 2.0]); // by rank: 1 to 0.4, 2 to 0.7, 3 to 0.9, 0
        let check = |t, u, expected| {
            let drawn = draw(&mut Candidates::default(), &scores, t, u);
            assert_eq!(drawn, Ok(expected), "t {t}, u {u}");
        };
        for (u, token) in [(0.0, 1), (0.399, 1), (0.401, 2), (0.699, 2), (0.701, 3), (0.901, 0)] {
            check(1.0, u, token);
        }
        let last = 1.0 - f64::EPSILON / 2.0;
        check(1.0, last, 0);
        check(f32::MIN_POSITIVE, last, 1);
        check(f32::from_bits(1), last, 1);
        check(0.5, 0.52, 1); // squares: 16 of 30
        check(0.5, 0.54, 2);
        check(f32::MAX, 0.26, 2); // uniform
    }

    #[test]
    fn the_last_tokens_are_the_window() {
        let check = |window, expected: &[u32]| assert_eq!(last(&[1, 2, 3], window), expected);
        check(0, &[]);
        check(2, &[2, 3]);
        check(3, &[1, 2, 3]);
        check(u32::MAX, &[1, 2, 3]);
    }
}
