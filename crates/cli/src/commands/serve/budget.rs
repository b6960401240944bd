//! Budget: all memory that the server takes, decided before any is taken.
//!
//! ```text
//! total     --memory, or nine tenths of what this machine or the control group leaves
//!  weights    as large as the file
//!  scratch    what a step writes, and the program itself
//!  cache      pages: the context at least; the rest keeps prefixes
//! ```

use qwire_model::{KvType, Shape};

use crate::arguments::CHUNK;
use crate::failure::Failure;
use crate::memory::{self, MARGIN_BYTES, PAGE, Wish};

/// Rows of a prompt's step while nobody else is there, at most.
const CHUNK_ALONE: usize = 2048;

/// What is wished for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub memory: Option<u64>,
    pub context: Option<usize>,
    pub parallel: usize,
    pub chunk: Option<usize>,
    pub kv: KvType,
}

/// What there will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    pub weights_bytes: u64,
    pub scratch_bytes: u64,
    pub cache_bytes: u64,
    /// The longest sequence.
    pub context: usize,
    /// Answers side by side.
    pub parallel: usize,
    /// Rows of a prompt's step while nobody else is there.
    pub rows: usize,
    pub pages: usize,
}

impl Budget {
    /// Divides what is available.
    pub fn of(
        shape: &Shape,
        vocab: usize,
        weights_bytes: u64,
        available: Option<u64>,
        terms: Terms,
    ) -> Result<Self, Failure> {
        let scratch = |rows| memory::scratch_bytes(shape, vocab, rows);
        let fits = |rows: &usize| scratch(*rows) <= MARGIN_BYTES;
        let quickest = || (CHUNK..=CHUNK_ALONE).rev().step_by(PAGE).find(fits).unwrap_or(CHUNK);
        let rows = terms.chunk.unwrap_or_else(quickest).max(terms.parallel);
        let scratch_bytes = scratch(rows);
        let total = terms.memory.or(available.map(|bytes| bytes - bytes / 10));
        let wish = Wish {
            context: terms.context,
            cache_bytes: None,
            kv: terms.kv,
            scratch_bytes: Some(scratch_bytes),
            positions: usize::MAX,
            checked: true,
            last_resort: "say with --memory how much it may take",
        };
        let plan = memory::plan(shape, weights_bytes, total, wish)?;
        let most = Shape::pages_for(plan.context).saturating_mul(terms.parallel);
        let room = total.map_or(0, |total| total.saturating_sub(weights_bytes + scratch_bytes));
        let fit = usize::try_from(room / shape.page_bytes(terms.kv) as u64).unwrap_or(usize::MAX);
        let pages = fit.min(most).max(plan.pages);
        let cache_bytes = memory::cache_bytes(shape, pages.saturating_mul(PAGE), terms.kv);
        memory::probe(cache_bytes)?;
        let parallel = terms.parallel.min(pages);
        Ok(Self {
            weights_bytes,
            scratch_bytes,
            cache_bytes,
            context: plan.context,
            parallel,
            rows,
            pages,
        })
    }

    /// Tokens that the cache holds.
    pub fn positions(&self) -> usize {
        self.pages.saturating_mul(PAGE)
    }

    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.weights_bytes + self.scratch_bytes + self.cache_bytes
    }
}
