//! Cache: what is computed with it against what is computed anew.

use qwire_engine::{Choice, Finish, Request, Table};
use qwire_model::{Batch, Runner, TokenId};

use super::super::contract::{Pace, Samples};
use super::super::subject::{Desk, Size, Subject, best, differing, digest, outputs};
use super::{Measured, put};
use crate::failure::Failure;
use crate::signals::Interrupt;

pub const CANARY: &[&str] = &["differing", "not_finite"];
pub const CACHED: &[&str] =
    &["prompt_tokens", "differing", "other_tokens", "reread_differing", "reread_other_tokens"];
pub const FULL: &[&str] = &["other_endings", "unused_positions"];

/// Tokens of the prompt: no multiple of a page.
const PROMPT: usize = 520;
/// Tokens that are generated.
const GENERATED: usize = 64;
/// What a canary reads, and writes.
const SHORT: (usize, usize) = (100, 8);
/// Tokens of the golden continuation.
const GOLDEN: usize = 32;

impl Desk<'_> {
    /// Reads a list anew on pages of its own, in one step where it fits; the logits of its last
    /// positions.
    fn reread(&mut self, tokens: &[TokenId], last: usize) -> Result<Vec<f32>, Failure> {
        let rows = self.runner.limits().rows;
        let (before, end) = tokens.split_at(tokens.len().saturating_sub(rows));
        let mut table = Table::default();
        self.extend(&mut table, before, (rows, false))?;
        let start = table.len();
        self.pages.grow(&mut table, end.len()).expect("there is room for two lists");
        let mut batch = Batch::single(end, start, table.pages().to_vec(), true);
        batch.outputs.drain(..end.len() - last);
        if let Some(poison) = self.runner.step(&batch).first() {
            return Err(Failure::new(poison));
        }
        let logits = outputs(&mut *self.runner, last);
        self.pages.release(table);
        Ok(logits)
    }

    /// Greedy tokens after a prompt, one by one, with the logits that each was chosen from.
    fn continued(
        &mut self,
        prompt: &[TokenId],
        n: usize,
    ) -> Result<(Vec<TokenId>, Vec<f32>), Failure> {
        let (mut table, mut tokens) = (Table::default(), Vec::new());
        let rows = self.runner.limits().rows;
        let mut logits = self.extend(&mut table, prompt, (rows, false))?;
        let vocab = logits.len();
        loop {
            tokens.push(best(&logits[logits.len() - vocab..]));
            if tokens.len() == n {
                self.pages.release(table);
                return Ok((tokens, logits));
            }
            let step = &tokens[tokens.len() - 1..];
            logits.extend(self.extend(&mut table, step, (1, true))?);
        }
    }
}

/// Cached tokens and logits are those of reading everything anew.
pub fn cached(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let context = subject.opened.shape.context;
    if context < PROMPT + GENERATED {
        return Ok(Measured::Skipped(format!("its context has {context} positions")));
    }
    let prompt = subject.tokens(PROMPT);
    let positions = PROMPT + GENERATED;
    let mut desk = subject.desk(Size { rows: positions, positions: 2 * positions + 128 })?;
    let vocab = desk.runner.vocab();
    let (tokens, with) = desk.continued(&prompt, GENERATED)?;
    put(samples, "prompt_tokens", PROMPT as f64);
    let list = [&prompt[..], &tokens].concat();
    let without = desk.reread(&list[..positions - 1], GENERATED)?;
    for (i, (a, b)) in with.chunks_exact(vocab).zip(without.chunks_exact(vocab)).enumerate() {
        put(samples, "differing", differing(a, b));
        put(samples, "other_tokens", f64::from(best(b) != tokens[i]));
    }
    // Every token as if there were no cache at all: the whole list for each.
    let step = match subject.pace {
        Pace::Start | Pace::Quick => 21,
        Pace::Usual => 7,
        Pace::Full => 1,
    };
    for i in (0..GENERATED).step_by(step) {
        let logits = desk.reread(&list[..PROMPT + i], 1)?;
        let expected = &with[i * vocab..][..vocab];
        put(samples, "reread_differing", differing(&logits, expected));
        put(samples, "reread_other_tokens", f64::from(best(&logits) != tokens[i]));
    }
    Ok(Measured::Done)
}

/// What is computed wrongly and taken back leaves no trace.
pub fn rollback(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let tokens = subject.tokens(320);
    let (good, wrong) = tokens.split_at(250);
    let mut desk = subject.desk(Size { rows: 64, positions: 1000 })?;
    let mut straight = Table::default();
    let expected = desk.extend(&mut straight, good, (64, true))?;
    let (mut table, mut found) = (Table::default(), Vec::new());
    for chunk in good.chunks(101) {
        let kept = table.len();
        desk.extend(&mut table, wrong, (64, true))?;
        desk.pages.truncate(&mut table, kept);
        found.extend(desk.extend(&mut table, chunk, (64, true))?);
    }
    compare(samples, &found, &expected, desk.runner.vocab());
    Ok(Measured::Done)
}

/// Two sequences that share a beginning, in the middle of a page, do not disturb each other.
pub fn fork(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let tokens = subject.tokens(340);
    let (at, (ours, other)) = (130, tokens.split_at(250));
    let theirs = [&ours[..at], other].concat();
    let mut desk = subject.desk(Size { rows: 64, positions: 1200 })?;
    let vocab = desk.runner.vocab();
    let straight = |desk: &mut Desk<'_>, tokens: &[TokenId]| {
        let mut table = Table::default();
        let logits = desk.extend(&mut table, tokens, (64, true));
        desk.pages.release(table);
        logits.map(|logits| logits[at * vocab..].to_vec())
    };
    let (expected, expected_child) = (straight(&mut desk, ours)?, straight(&mut desk, &theirs)?);
    let mut parent = Table::default();
    desk.extend(&mut parent, &ours[..at], (64, true))?;
    let mut child = desk.pages.fork(&parent, at);
    // The child writes into what is the parent's page too, then the parent does.
    let found = desk.extend(&mut child, other, (64, true))?;
    compare(samples, &found, &expected_child, vocab);
    let found = desk.extend(&mut parent, &ours[at..], (64, true))?;
    compare(samples, &found, &expected, vocab);
    [parent, child].into_iter().for_each(|table| desk.pages.release(table));
    put(samples, "lost_pages", (desk.pages.total() - desk.pages.free()) as f64);
    Ok(Measured::Done)
}

fn compare(samples: &mut Samples, found: &[f32], expected: &[f32], vocab: usize) {
    for (a, b) in found.chunks_exact(vocab).zip(expected.chunks_exact(vocab)) {
        put(samples, "differing", differing(a, b));
    }
}

/// An answer that fills the context uses all of it, and says so.
pub fn full(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let (context, prompt) = (128, subject.tokens(100));
    let read = prompt.len();
    let mut engine = subject.engine(Size { rows: read, positions: context }, context)?;
    // Nothing ends it but its length.
    let choices = vec![Choice::default()];
    let request = Request { prompt, choices, max_tokens: usize::MAX, ..Request::default() };
    let answer = subject.answer(&mut engine, request)?;
    let finish = answer.finish.map(|finish| match subject.fault {
        Some(fault) => fault.ending(finish),
        None => finish,
    });
    put(samples, "other_endings", f64::from(finish != Some(Finish::Length)));
    // The last token is never read, and needs no position.
    let used = read + answer.tokens.len() - 1;
    put(samples, "unused_positions", context as f64 - used as f64);
    Ok(Measured::Done)
}

/// The canary on a runner of its own.
pub fn with_canary(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let (read, written) = SHORT;
    let size = Size { rows: read + written, positions: 2 * (read + written) };
    let mut runner = subject.runner(subject.device, size)?;
    let tokens = subject.tokens(read);
    runner = canary(runner, &tokens, subject.interrupt, samples)?;
    drop(runner);
    Ok(Measured::Done)
}

/// The real path, briefly: numbers are finite, and what was cached is what is read anew. Takes the
/// runner and gives it back; its pages hold nothing of use before it and after it.
pub fn canary(
    runner: Box<dyn Runner>,
    prompt: &[TokenId],
    interrupt: &Interrupt,
    samples: &mut Samples,
) -> Result<Box<dyn Runner>, Failure> {
    let mut desk = Desk::new(runner, interrupt);
    let vocab = desk.runner.vocab();
    let (_, written) = SHORT;
    let (tokens, with) = desk.continued(prompt, written)?;
    let list = [prompt, &tokens[..written - 1]].concat();
    let without = desk.reread(&list, written)?;
    compare(samples, &with, &without, vocab);
    let wrong = with.iter().filter(|logit| !logit.is_finite()).count();
    put(samples, "not_finite", wrong as f64);
    Ok(desk.runner)
}

/// How a model that is known goes on.
pub fn golden(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let prompt = subject.tokens(200);
    let positions = prompt.len() + GOLDEN;
    let mut desk = subject.desk(Size { rows: prompt.len(), positions })?;
    let (tokens, logits) = desk.continued(&prompt, GOLDEN)?;
    let words = tokens.iter().map(|token| token.0).chain(logits.iter().map(|x| x.to_bits()));
    put(samples, "continuation", digest(words));
    Ok(Measured::Done)
}
