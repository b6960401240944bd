//! Budget: all memory that the server takes, decided before any is taken.
//!
//! ```text
//! total     --memory, or nine tenths of what this machine or the control group leaves
//!  weights    as large as the file
//!  scratch    what a step writes, and the program itself
//!  cache      pages: the context at least; the rest keeps prefixes
//! ```

use qwire_model::{KvType, Shape};

use crate::failure::Failure;
use crate::memory::{self, PAGE, Wish};

/// What is wished for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub memory: Option<u64>,
    pub context: Option<usize>,
    pub parallel: usize,
    pub chunk: Option<usize>,
    pub kv: KvType,
    /// For pages on their way to a disk and back.
    pub aside_bytes: u64,
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
        let quickest = || memory::quickest_rows(shape);
        let rows = terms.chunk.unwrap_or_else(quickest).max(terms.parallel);
        let scratch = memory::scratch_bytes(shape, vocab, rows);
        let scratch_bytes = scratch.saturating_add(terms.aside_bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::shape;

    const MB: u64 = 1 << 20;
    const TERMS: Terms = Terms {
        memory: None,
        context: None,
        parallel: 4,
        chunk: None,
        kv: KvType::F16,
        aside_bytes: 0,
    };

    fn budget(available: Option<u64>, terms: Terms) -> Result<Budget, String> {
        Budget::of(&shape(), 1000, 100 * MB, available, terms).map_err(|failure| failure.message())
    }

    #[test]
    fn everything_fits_into_what_was_granted() {
        for (available, memory, context) in [
            (Some(1000 * MB), None, None),
            (Some(200 * MB), None, None),
            (Some(100 * MB), Some(190 * MB), None),
            (None, Some(200 * MB), Some(64)),
        ] {
            let budget = budget(available, Terms { memory, context, ..TERMS }).unwrap();
            let granted = memory.or(available.map(|bytes| bytes / 10 * 9)).unwrap();
            assert!(budget.total_bytes() <= granted, "{budget:?}");
            assert!(budget.positions() >= budget.context, "{budget:?}");
            assert!(
                budget.parallel <= budget.pages && budget.rows <= memory::quickest_rows(&shape()),
                "{budget:?}"
            );
        }
    }

    #[test]
    fn no_more_is_taken_than_all_answers_can_fill() {
        let all = 4 * Shape::pages_for(shape().context);
        assert_eq!(budget(Some(64 << 30), TERMS).unwrap().pages, all);
        let short = Terms { context: Some(100), ..TERMS };
        assert_eq!(budget(Some(64 << 30), short).unwrap().pages, 8);
        assert_eq!(budget(None, short).unwrap().pages, 2, "nobody knows what is there");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fault = |memory, context| budget(None, Terms { memory, context, ..TERMS }).unwrap_err();
        assert!(fault(Some(100 * MB), None).contains("the weights take 105 MB"));
        assert!(fault(Some(180 * MB), Some(10_000)).contains("of cache"));
    }
}
