//! Events: what is heard of a request on its way to exactly one ending per choice.
//!
//! ```text
//! Prefill .. ─ Started ─ Prefill .. ─ Prompt .. ─ Token .. ─┬─ Finished
//!                    └──────────────── Embedding ───────────┴─ Failed
//! ```
//! An ending may come at any moment. Before its start a choice hears how far somebody else has
//! computed what it will find cached.

use std::fmt;

use qwire_model::{Poison, TokenId};

use crate::request::RequestId;
use crate::sampler;

/// An event and whose it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    /// The request.
    pub request: RequestId,
    /// Which of its choices.
    pub choice: usize,
    /// What happened.
    pub event: Event,
}

/// What happens to a choice.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// It left the queue, and has the pages of what was cached. Nothing else was computed for it.
    Started {
        /// Tokens of its prompt that need no computing.
        cached_tokens: usize,
    },
    /// More of its prompt is computed.
    Prefill {
        /// Tokens that are done.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// The next tokens of the prompt with their log-probabilities; the very first has none.
    Prompt(Vec<Sampled>),
    /// The prompt as one vector [hidden].
    Embedding(Vec<f32>),
    /// The next token of the answer.
    Token(Sampled),
    /// What the request's prediction has been good for so far.
    Predicted {
        /// Tokens of the answer that were guessed from it.
        accepted: usize,
        /// Guesses from it that were wrong.
        rejected: usize,
    },
    /// The good ending.
    Finished {
        /// Why.
        finish: Finish,
        /// What it took.
        usage: Usage,
    },
    /// The bad ending.
    Failed(Fault),
}

impl Event {
    /// Whether nothing follows it.
    pub fn is_ending(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Failed(_))
    }
}

/// A token of the answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Its log-probability under the raw logits; 0 where nobody asked.
    pub logprob: f32,
    /// The likeliest tokens, best first.
    pub top: Vec<(TokenId, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Finish {
    /// The model ended its answer.
    Stop,
    /// `max_tokens` or the context is used up.
    Length,
    /// The answer repeats itself.
    Repetition,
    /// Nobody wants it any more.
    Cancelled,
}

/// Tokens of one choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: usize,
    /// Of those, what was cached when it started.
    pub cached_tokens: usize,
    /// Of the answer.
    pub answer_tokens: usize,
}

/// Why an answer cannot go on.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// The model computed a number that is not finite.
    Model(Poison),
    /// The logits hold nothing to sample.
    Logits(sampler::Poison),
    /// The constraint cannot be met, or broke.
    Constraint(String),
    /// A panic; its text is for logs.
    Panic(String),
    /// The engine ended first.
    Shutdown,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(poison) => poison.fmt(f),
            Self::Logits(poison) => poison.fmt(f),
            Self::Constraint(fault) => write!(f, "the constraint cannot be met: {fault}"),
            Self::Panic(_) => f.write_str("an internal fault ended the answer"),
            Self::Shutdown => f.write_str("the engine is shutting down"),
        }
    }
}

impl std::error::Error for Fault {}
