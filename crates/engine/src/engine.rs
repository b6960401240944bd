//! The engine: one runner, one pool of pages, any number of sequences.

use std::fmt;
use std::ops::Range;

use qwire_model::{Batch, Poison, Runner, Span, TokenId};

use crate::pages::{Full, PAGE, Pages, Table};
use crate::sampler;

/// Why a sequence cannot go on.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// No page is left, or the context is full.
    Full,
    /// The model computed a number that is not finite.
    Model(Poison),
    /// The logits hold nothing to sample.
    Logits(sampler::Poison),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the key/value cache is full"),
            Self::Model(poison) => poison.fmt(f),
            Self::Logits(poison) => poison.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Full> for Fault {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// The life of a request inside the engine: tokens, and the positions computed for them.
#[derive(Debug, Default)]
pub struct Sequence {
    tokens: Vec<TokenId>,
    table: Table,
}

impl Sequence {
    /// Every token that is computed.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }
}

/// Which rows of a step give logits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outputs {
    /// Each.
    Every,
    /// Only the last.
    Last,
    /// None.
    None,
}

/// One runner and its pages.
pub struct Engine {
    runner: Box<dyn Runner>,
    pages: Pages,
    context: usize,
}

impl Engine {
    /// An engine whose sequences have at most `context` positions.
    pub fn new(runner: Box<dyn Runner>, context: usize) -> Self {
        let pages = Pages::new(runner.limits().pages);
        let context = context.min(pages.total() * PAGE);
        Self { runner, pages, context }
    }

    /// The longest sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Most rows of one step.
    pub fn chunk(&self) -> usize {
        self.runner.limits().rows
    }

    /// Tokens of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.runner.vocab()
    }

    /// The pool.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Computes tokens at the end of a sequence, in one step: at most [`Engine::chunk`] of them.
    /// After a fault the sequence is as it was.
    pub fn extend(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[TokenId],
        outputs: Outputs,
    ) -> Result<(), Fault> {
        let start = sequence.table.len();
        if start + tokens.len() > self.context {
            return Err(Fault::Full);
        }
        if let Some((from, to)) = self.pages.grow(&mut sequence.table, tokens.len())? {
            self.runner.copy_page(from, to);
        }
        let span = Span { start, len: tokens.len(), pages: sequence.table.pages().to_vec() };
        let outputs = match outputs {
            Outputs::Every => (0..tokens.len()).collect(),
            Outputs::Last => vec![tokens.len() - 1],
            Outputs::None => Vec::new(),
        };
        let batch = Batch { tokens: tokens.to_vec(), spans: vec![span], outputs };
        let faults = self.runner.step(&batch);
        if let Some(poison) = faults.first() {
            self.pages.truncate(&mut sequence.table, start);
            return Err(Fault::Model(*poison));
        }
        sequence.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Logits of some outputs of the last step, [outputs, vocab]; at most 64 at once.
    pub fn logits(&mut self, outputs: Range<usize>) -> &[f32] {
        self.runner.logits(outputs)
    }

    /// A sequence that begins with the first `len` tokens of another, sharing its pages.
    pub fn fork(&mut self, sequence: &Sequence, len: usize) -> Sequence {
        let table = self.pages.fork(&sequence.table, len);
        Sequence { tokens: sequence.tokens[..len].to_vec(), table }
    }

    /// Takes back every token from `len` on.
    pub fn truncate(&mut self, sequence: &mut Sequence, len: usize) {
        self.pages.truncate(&mut sequence.table, len);
        sequence.tokens.truncate(len);
    }

    /// Ends a sequence; its pages are free again unless a fork uses them.
    pub fn release(&mut self, sequence: Sequence) {
        self.pages.release(sequence.table);
    }
}
