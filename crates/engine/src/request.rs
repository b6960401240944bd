//! A request: everything that may be asked of the engine, and why it may be refused.
//!
//! A refusal comes at once, before anything is queued; what is accepted gets exactly one ending per
//! choice.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use qwire_model::TokenId;

use crate::constraint::Constraint;
use crate::sampler::Sampling;
use crate::scheduler::MOST_GUESSES;

/// Names a request from outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Whose prefixes a request may read: tenants with different salts share none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Salt(pub u128);

/// How urgent a request is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Class {
    /// Somebody looks at the screen.
    Interactive,
    /// An agent at work.
    #[default]
    Normal,
    /// Titles, summaries, batches.
    Background,
}

/// What is asked for.
#[derive(Default)]
pub struct Request {
    /// At least one token.
    pub prompt: Vec<TokenId>,
    /// The answers to one prompt, computed side by side.
    pub choices: Vec<Choice>,
    /// Most tokens of each answer; 0 only reads the prompt.
    pub max_tokens: usize,
    /// Tokens that end an answer; they are not part of it.
    pub ends: Vec<TokenId>,
    /// Log-probabilities with each token, and of so many alternatives.
    pub logprobs: Option<usize>,
    /// What is reported of the prompt, by the first choice.
    pub report: Report,
    /// How urgent it is.
    pub class: Class,
    /// Whose prefixes it may read.
    pub salt: Salt,
    /// Ends an answer that only repeats itself.
    pub guard_repetition: bool,
    /// What the answer should be, roughly: it is guessed from first. Changes no token.
    pub prediction: Vec<TokenId>,
}

/// One answer.
#[derive(Default)]
pub struct Choice {
    /// How its tokens are chosen.
    pub sampling: Sampling,
    /// Which tokens may be chosen.
    pub constraint: Option<Box<dyn Constraint>>,
}

/// What is reported of a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Report {
    /// Nothing.
    #[default]
    Nothing,
    /// The log-probability of each token after the first, and so many alternatives.
    Logprobs(usize),
    /// The final norm: of the last position, or the mean over all.
    Embedding(Pooling),
}

/// Which positions an embedding is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pooling {
    /// The last.
    Last,
    /// All, in equal parts.
    Mean,
}

impl Choice {
    /// One answer without a constraint.
    pub fn plain(sampling: Sampling) -> Self {
        Self { sampling, constraint: None }
    }

    /// `n` answers under one seed.
    pub fn several(sampling: &Sampling, n: usize) -> Vec<Self> {
        let choice = |at| Self::plain(Sampling { choice: at as u32, ..sampling.clone() });
        (0..n).map(choice).collect()
    }
}

impl Report {
    /// Whether every position of the prompt must be computed for it.
    pub(crate) fn reads_all(self) -> bool {
        matches!(self, Self::Logprobs(_) | Self::Embedding(Pooling::Mean))
    }
}

/// The engine's measures, and its rules of pace and queueing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// The longest sequence; the pages may allow less.
    pub context: usize,
    /// Most answers computed side by side; the runner may allow less.
    pub running: usize,
    /// Most answers that wait.
    pub waiting: usize,
    /// With a prompt beside them, others' tokens take at most this many times as long.
    pub stall: f64,
    /// Most rows of a chunk while nothing else is there.
    pub chunk_alone: usize,
    /// Most rows of a chunk while anything else runs or waits.
    pub chunk_beside: usize,
    /// Most tokens that are guessed ahead of an answer with nothing beside it, at most
    /// [`MOST_GUESSES`].
    pub guesses: usize,
    /// Between two looks around while only a prompt is read.
    pub quantum: Duration,
    /// How much later than an interactive request one of each class counts as come.
    pub patience: [Duration; 3],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            context: usize::MAX,
            running: 64,
            waiting: 256,
            stall: 2.0,
            chunk_alone: 2048,
            chunk_beside: 512,
            guesses: MOST_GUESSES,
            quantum: Duration::from_millis(100),
            patience: [0, 5, 60].map(Duration::from_secs),
        }
    }
}

/// Why a request is not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The prompt has no tokens.
    Empty,
    /// The request has no choices, or more than may wait or run at once.
    Choices {
        /// Choices asked for.
        found: usize,
        /// Most that are accepted.
        most: usize,
    },
    /// A token is not in the vocabulary.
    Vocabulary {
        /// The token.
        token: u32,
        /// Tokens of the vocabulary.
        vocab: usize,
    },
    /// The prompt can never fit.
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions of the context.
        context: usize,
    },
    /// A parameter of the sampler is out of its range.
    Sampling(String),
    /// The queue is full: try again later.
    Full {
        /// Answers that wait.
        waiting: usize,
    },
    /// The engine ends and accepts nothing more.
    Draining,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the prompt has no tokens"),
            Self::Choices { found, most } => {
                write!(f, "{found} choices: accepted is 1 to {most}")
            }
            Self::Vocabulary { token, vocab } => {
                write!(f, "token {token} is not in the vocabulary of {vocab}")
            }
            Self::TooLong { tokens, context } => {
                write!(f, "the prompt has {tokens} tokens; the context holds {context}")
            }
            Self::Sampling(fault) => f.write_str(fault),
            Self::Full { waiting } => write!(f, "{waiting} answers wait already"),
            Self::Draining => f.write_str("the engine is shutting down"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What is accepted, as far as it can be known without the queue.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest sequence.
    pub context: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Most choices of a request, and most that wait.
    pub choices: usize,
    /// Most answers computed side by side.
    pub running: usize,
}

impl Bounds {
    /// Refuses what can never be computed.
    pub fn check(&self, request: &Request) -> Result<(), Refusal> {
        let (tokens, found) = (request.prompt.len(), request.choices.len());
        if tokens == 0 {
            return Err(Refusal::Empty);
        }
        if tokens > self.context {
            return Err(Refusal::TooLong { tokens, context: self.context });
        }
        if found == 0 || found > self.choices {
            return Err(Refusal::Choices { found, most: self.choices });
        }
        let strange = |token: &&TokenId| token.0 as usize >= self.vocab;
        let tokens = request.prompt.iter().chain(&request.ends);
        if let Some(token) = tokens.clone().find(strange) {
            return Err(Refusal::Vocabulary { token: token.0, vocab: self.vocab });
        }
        request.choices.iter().try_for_each(|choice| {
            choice.sampling.validate_for(self.vocab).map_err(Refusal::Sampling)
        })
    }
}

/// The way into the queue, from any thread: each request passes here once, and what has passed is
/// never refused later.
#[derive(Debug)]
pub(crate) struct Door {
    pub bounds: Bounds,
    waiting: AtomicUsize, // choices that passed and do not run
    refused: AtomicU64,
}

impl Door {
    /// Nobody waits.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, waiting: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }

    /// Takes places in the queue for a request.
    pub fn pass(&self, request: &Request) -> Result<(), Refusal> {
        let fit = |waiting: usize| {
            let waiting = waiting + request.choices.len();
            (waiting <= self.bounds.choices).then_some(waiting)
        };
        let verdict = self.bounds.check(request).and_then(|()| {
            let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fit);
            taken.map(drop).map_err(|waiting| Refusal::Full { waiting })
        });
        verdict.map_err(|refusal| self.refuse(refusal))
    }

    /// Counts a refusal.
    pub fn refuse(&self, refusal: Refusal) -> Refusal {
        self.refused.fetch_add(1, Ordering::Relaxed);
        refusal
    }

    /// Choices leave the queue.
    pub fn leave(&self, choices: usize) {
        self.waiting.fetch_sub(choices, Ordering::Relaxed);
    }

    /// A choice comes back, whether there is a place or not.
    pub fn come_back(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were not accepted.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
