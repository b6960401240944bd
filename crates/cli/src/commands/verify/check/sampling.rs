//! Sampling: the best token where it was asked for, draws that follow their seed, guesses, and
//! penalties.

use std::collections::VecDeque;

use qwire_engine::{
    Allowed, Choice, Constraint, Engine, MOST_GUESSES, Mask, Request, Sampler, Sampling, Settings,
    Table, TokenId,
};

use super::super::contract::Samples;
use super::super::subject::{Size, Subject, best, digest};
use super::{Measured, put};
use crate::failure::Failure;

pub const GREEDY: &[&str] = &["other_tokens", "drawn"];
pub const SEEDS: &[&str] = &["repeat_differing", "answers"];
pub const GUESSES: &[&str] = &["differing_tokens", "differing_logprobs", "right"];
pub const PENALTIES: &[&str] = &["wrong_neutral", "wrong_sign", "wrong_window"];

/// Rows of logits to choose from.
const ROWS: usize = 64;
/// Tokens of an answer that is drawn.
const DRAWN: usize = 24;

/// The token that a sampler chooses, broken where it shall be.
fn choose(
    subject: &Subject<'_>,
    mut sampling: Sampling,
    logits: &[f32],
    history: &[u32],
) -> Result<u32, Failure> {
    if let Some(fault) = subject.fault {
        fault.sampling(&mut sampling, logits.iter().all(|logit| *logit < 0.0));
    }
    let mut sampler = Sampler::new(sampling, logits.len()).map_err(Failure::new)?;
    let token = sampler.sample(logits, history, history.len() as u64, None);
    token.map_err(Failure::new)
}

/// Logits of real text, [ROWS, vocab].
fn rows(subject: &Subject<'_>) -> Result<(Vec<f32>, usize), Failure> {
    let mut desk = subject.desk(Size { rows: ROWS, positions: ROWS })?;
    let mut table = Table::default();
    let logits = desk.extend(&mut table, &subject.tokens(ROWS), (ROWS, true))?;
    Ok((logits, desk.runner.vocab()))
}

/// The best token if temperature is 0 or top_k is 1, whatever the rest says; else a draw.
pub fn greedy(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let (logits, vocab) = rows(subject)?;
    for (at, row) in logits.chunks_exact(vocab).enumerate() {
        let seed = at as u64;
        let cold =
            Sampling { temperature: 0.0, top_k: 40, top_p: 0.9, seed, ..Sampling::default() };
        let one = Sampling { temperature: 1.5, top_k: 1, seed, ..Sampling::default() };
        for sampling in [cold, one] {
            let token = choose(subject, sampling, row, &[])?;
            put(samples, "other_tokens", f64::from(token != best(row).0));
        }
        // A hot draw from two tokens of any model takes the second now and then.
        let hot = Sampling { temperature: 50.0, top_k: 2, seed, ..Sampling::default() };
        put(samples, "drawn", f64::from(choose(subject, hot, row, &[])? != best(row).0));
    }
    Ok(Measured::Done)
}

/// The same seed gives the same answer, another one another.
pub fn seeds(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let prompt = subject.tokens(ROWS);
    let context = prompt.len() + DRAWN + 1;
    let mut engine = subject.engine(Size { rows: ROWS, positions: 2 * context }, context)?;
    for seed in 1..=4 {
        let mut both = Vec::new();
        for _ in 0..2 {
            let mut sampling = Sampling { temperature: 1.5, seed, ..Sampling::default() };
            if let Some(fault) = subject.fault {
                fault.sampling(&mut sampling, false);
            }
            let choices = vec![Choice::plain(sampling)];
            let prompt = prompt.clone();
            let request = Request { prompt, choices, max_tokens: DRAWN, ..Request::default() };
            both.push(subject.answer(&mut engine, request)?.tokens);
        }
        let others = both[0].iter().zip(&both[1]).filter(|(a, b)| a != b).count();
        put(samples, "repeat_differing", others as f64);
        put(samples, "answers", digest(both[0].iter().copied()));
    }
    Ok(Measured::Done)
}

/// An answer that writes its prompt out again, but for one token in sixteen.
struct Rewritten(VecDeque<TokenId>);

impl Constraint for Rewritten {
    fn allowed(&mut self, mask: &mut Mask) -> Result<Allowed, String> {
        self.0.front().into_iter().for_each(|token| mask.allow(*token));
        Ok(Allowed::Mask)
    }

    fn advance(&mut self, _: TokenId) -> Result<(), String> {
        self.0.pop_front();
        Ok(())
    }
}

/// The same answer with guesses and without, of which some were right.
pub fn guesses(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let prompt = subject.tokens(2 * ROWS);
    let context = 2 * prompt.len();
    let mut answers = Vec::new();
    for guesses in [0, MOST_GUESSES] {
        let runner = subject.runner(subject.device, Size { rows: ROWS, positions: context })?;
        let mut engine = Engine::new(runner, Settings { context, guesses, ..Settings::default() });
        let other = |at: usize| if at % 16 == 15 { prompt[at / 2] } else { prompt[at] };
        let answer = Rewritten((0..prompt.len()).map(other).collect());
        let constraint: Option<Box<dyn Constraint>> = Some(Box::new(answer));
        let request = Request {
            prompt: prompt.clone(),
            choices: vec![Choice { sampling: Sampling::default(), constraint }],
            max_tokens: prompt.len(),
            logprobs: Some(0),
            ..Request::default()
        };
        answers.push(subject.answer(&mut engine, request)?);
        if guesses > 0 {
            let counters = engine.scheduler().stats().counters;
            put(samples, "right", counters.guessed_right as f64);
        }
    }
    let [without, with] = [&answers[0], &answers[1]];
    let missing = without.tokens.len().abs_diff(with.tokens.len());
    let tokens = without.tokens.iter().zip(&with.tokens).filter(|(a, b)| a != b).count();
    put(samples, "differing_tokens", (tokens + missing) as f64);
    let bits = without.logprobs.iter().zip(&with.logprobs);
    let logprobs = bits.filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    put(samples, "differing_logprobs", (logprobs + missing) as f64);
    Ok(Measured::Done)
}

/// Penalties do nothing where they are neutral, lower a logit whatever its sign, and see no further
/// than their window.
pub fn penalties(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let (logits, vocab) = rows(subject)?;
    let history: Vec<u32> = subject.tokens(ROWS).iter().map(|token| token.0).collect();
    for (at, row) in logits.chunks_exact(vocab).enumerate() {
        let seed = at as u64;
        let plain = Sampling { temperature: 1.0, seed, ..Sampling::default() };
        let neutral = Sampling { repetition_penalty: 1.0, penalty_window: 64, ..plain.clone() };
        // Without a history a penalty has nothing to act on: it is the plain draw.
        let strong = Sampling { repetition_penalty: 3.0, penalty_window: 0, ..plain.clone() };
        let expected = choose(subject, plain, row, &history)?;
        for sampling in [neutral, strong] {
            let token = choose(subject, sampling, row, &history)?;
            put(samples, "wrong_neutral", f64::from(token != expected));
        }
    }
    let repetition = |window| Sampling {
        repetition_penalty: 1.5,
        penalty_window: window,
        ..Sampling::default()
    };
    // (logits, what the best is once token 0 is penalised)
    for logits in [[2.0, 1.9, -3.0], [-1.0, -1.2, -9.0], [0.5, 0.4, 0.1]] {
        let token = choose(subject, repetition(8), &logits, &[0])?;
        put(samples, "wrong_sign", f64::from(token != 1));
        let token = choose(subject, repetition(2), &logits, &[0, 2, 2])?;
        put(samples, "wrong_window", f64::from(token != 0));
        let token = choose(subject, repetition(3), &logits, &[0, 2, 2])?;
        put(samples, "wrong_window", f64::from(token != 1));
    }
    for presence in [true, false] {
        let (presence_penalty, frequency_penalty) = if presence { (0.5, 0.0) } else { (0.0, 0.5) };
        let sampling = Sampling { presence_penalty, frequency_penalty, ..Sampling::default() };
        // Once is not enough to fall behind by 0.6; three times is, where occurrences count.
        let once = choose(subject, sampling.clone(), &[1.0, 0.4], &[0])?;
        let thrice = choose(subject, sampling, &[1.0, 0.4], &[0, 0, 0])?;
        put(samples, "wrong_sign", f64::from(once != 0));
        put(samples, "wrong_sign", f64::from(thrice != u32::from(!presence)));
    }
    Ok(Measured::Done)
}
