//! A sequence: one choice of a request, from the queue to its ending.
//!
//! ```text
//! history   prompt and answer                          [ computed ........ | remaining ]
//! table     pages of what is computed                  one remaining: a row of every step
//!                                                      more: a chunk of a prompt
//! ```
//! A preempted sequence gives its table back and keeps its history; what it computes again has the
//! same bits, and so has everything that follows.

use std::sync::Arc;
use std::time::Duration;

use qwire_model::{Poison, Ranked, TokenId};

use super::lookup::Lookup;
use super::repetition::Repetition;
use crate::constraint::{Allowed, Constraint, Mask};
use crate::event::{Delivery, Event, Fault, Sampled, Usage};
use crate::pages::Table;
use crate::request::{Class, Pooling, Report, RequestId, Salt};
use crate::sampler::{self, Sampler, logprob, top_logprobs};
use crate::stats::Progress;
use crate::tree::Use;

/// Who goes first: the lower key. It never changes, so whoever has the lowest always gets on, and
/// everybody has the lowest in the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// When it came, and the patience of its class.
    pub due: Duration,
    /// Counts sequences.
    pub serial: u64,
}

/// What the choices of a request have in common.
#[derive(Debug)]
pub struct Ask {
    pub id: RequestId,
    pub prompt: usize, // tokens
    pub max_tokens: usize,
    pub ends: Vec<TokenId>,
    pub logprobs: Option<usize>,
    pub salt: Salt,
    pub guard_repetition: bool,
    pub class: Class,
    pub arrived: Duration,
}

/// One choice under way.
pub struct Sequence {
    pub key: Key,
    /// The lowest key of those who wait for what it computes.
    pub urged: Key,
    pub ask: Arc<Ask>,
    pub choice: usize,
    pub history: Vec<u32>,
    pub table: Table,
    pub sampler: Sampler,
    pub constraint: Option<Box<dyn Constraint>>,
    pub report: Report,
    /// Positions of the prompt that the report has seen.
    pub reported: usize,
    pub pooled: Vec<f64>, // [hidden], the sum
    pub repetition: Repetition,
    pub lookup: Lookup,
    /// What was cached when it first started.
    pub cached: Option<usize>,
    pub latest_token: Option<Duration>,
    /// While it waits: who computes a prefix of it.
    pub leader: Option<Key>,
    /// While its prefix comes from a store.
    pub restoring: Option<Restoring>,
    /// Positions up to which its pages did.
    pub kept: usize,
    /// A chunk begun alone had to make way for answers: its chunks are as small as beside them
    /// from then on, so that this is lost once.
    pub interrupted: bool,
}

/// Pages that are to come from a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restoring {
    /// The wish.
    pub id: u64,
    /// Positions with all of them.
    pub end: usize,
    /// When it began, or the latest one came.
    pub since: Duration,
}

/// What a token is drawn from.
#[derive(Clone, Copy)]
pub enum Row<'a> {
    /// All logits.
    Logits(&'a [f32]),
    /// The best of them, which left one token.
    Decided(u32),
}

impl Sequence {
    /// Its use of a page.
    pub fn uses(&self, now: Duration) -> Use {
        Use { class: self.ask.class, now }
    }

    /// Tokens whose positions are not computed.
    pub fn remaining(&self) -> usize {
        self.history.len() - self.table.len()
    }

    /// Whether its next position is a row of a step, not a chunk.
    pub fn is_decoding(&self) -> bool {
        self.remaining() == 1 && self.report == Report::Nothing && self.restoring.is_none()
    }

    /// Whether tokens are wanted once the prompt is read.
    pub fn samples(&self) -> bool {
        self.ask.max_tokens > 0 && !matches!(self.report, Report::Embedding(_))
    }

    /// How much of its history may come from the cache: the last position gives logits, and a
    /// report sees each position it has not seen.
    pub fn reusable(&self) -> &[u32] {
        let len = self.history.len() - 1;
        let len = if self.report.reads_all() { len.min(self.reported) } else { len };
        &self.history[..len]
    }

    /// Whether the report wants to see a position.
    pub fn reads(&self, position: usize) -> bool {
        match self.report {
            Report::Nothing => false,
            Report::Logprobs(_) => position >= self.reported && position + 1 < self.ask.prompt,
            Report::Embedding(Pooling::Mean) => position >= self.reported,
            Report::Embedding(Pooling::Last) => position + 1 == self.history.len(),
        }
    }

    /// Rows of a chunk whose outputs are needed.
    pub fn outputs(&self, start: usize, rows: usize) -> Vec<usize> {
        let draws = |position: usize| position + 1 == self.history.len() && self.samples();
        let needed = |row: &usize| self.reads(start + row) || draws(start + row);
        (0..rows).filter(needed).collect()
    }

    /// Scores the token of the prompt after `position`.
    pub fn score(&self, position: usize, tops: usize, logits: &[f32]) -> Result<Sampled, Fault> {
        let token = self.history[position + 1];
        let logprob = logprob(logits, token).map_err(Fault::Logits)?;
        Ok(Sampled { token: TokenId(token), logprob, top: top(logits, tops) })
    }

    /// Takes a row of the final norm into the embedding.
    pub fn pool(&mut self, row: &[f32]) {
        self.pooled.resize(row.len(), 0.0);
        self.pooled.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }

    /// The embedding of everything pooled.
    pub fn embedding(&self) -> Vec<f32> {
        let rows = match self.report {
            Report::Embedding(Pooling::Mean) => self.ask.prompt as f64,
            _ => 1.0,
        };
        self.pooled.iter().map(|sum| (sum / rows) as f32).collect()
    }

    /// Whether the best logits may be all that a draw reads.
    pub fn takes_best(&self) -> bool {
        let free = self.constraint.is_none() && self.ask.logprobs.is_none();
        free && self.samples() && self.sampler.takes_best()
    }

    /// What [`Sequence::draw`] would choose, by the best of the logits.
    pub fn decide(&mut self, best: &[Ranked]) -> Option<u32> {
        self.sampler.decide(best, &self.history, self.history.len() as u64)
    }

    /// Chooses the token that follows the history. The constraint has gone on after it.
    pub fn draw(&mut self, row: Row<'_>, mask: &mut Mask) -> Result<Sampled, Fault> {
        let logits = match row {
            Row::Logits(logits) => logits,
            Row::Decided(token) => {
                let token = TokenId(token);
                return Ok(Sampled { token, logprob: 0.0, top: Vec::new() });
            }
        };
        let mut allowed = Allowed::Everything;
        if let Some(constraint) = &mut self.constraint {
            mask.clear();
            allowed = constraint.allowed(mask).map_err(Fault::Constraint)?;
        }
        let masked = allowed == Allowed::Mask;
        let position = self.history.len() as u64;
        let mask = masked.then_some(&*mask);
        let token = self.sampler.sample(logits, &self.history, position, mask);
        let token = token.map_err(|poison| match poison {
            sampler::Poison::Empty if masked => Fault::Constraint("no token is allowed".into()),
            poison => Fault::Logits(poison),
        })?;
        let token = TokenId(token);
        if let Some(constraint) =
            self.constraint.as_mut().filter(|_| !self.ask.ends.contains(&token))
        {
            constraint.advance(token).map_err(Fault::Constraint)?;
        }
        // All of the vocabulary goes into it: a tenth of a step of a small model.
        let Some(tops) = self.ask.logprobs else {
            return Ok(Sampled { token, logprob: 0.0, top: Vec::new() });
        };
        let logprob = logprob(logits, token.0).map_err(Fault::Logits)?;
        Ok(Sampled { token, logprob, top: top(logits, tops) })
    }

    /// An event of this choice.
    pub fn event(&self, event: Event) -> Delivery {
        Delivery { request: self.ask.id, choice: self.choice, event }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            request: self.ask.id,
            choice: self.choice,
            usage: self.usage(),
            computed: self.table.len(),
            max_tokens: self.ask.max_tokens,
        }
    }

    /// What it took so far.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.ask.prompt,
            cached_tokens: self.cached.unwrap_or(0),
            answer_tokens: self.history.len() - self.ask.prompt,
        }
    }
}

fn top(logits: &[f32], n: usize) -> Vec<(TokenId, f32)> {
    let top = top_logprobs(logits, n).into_iter();
    top.map(|(token, logprob)| (TokenId(token), logprob)).collect()
}

/// The first fault of these rows.
pub fn first_fault(faults: &[Poison], rows: std::ops::Range<usize>) -> Option<Fault> {
    faults.iter().find(|poison| rows.contains(&poison.row)).map(|poison| Fault::Model(*poison))
}
