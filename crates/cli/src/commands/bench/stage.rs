//! Stage: a loaded model, sequences that stand at any depth, and the clock.
//!
//! ```text
//! trunk   pages of the deepest prefix, computed once, never written again
//! tail    pages that each trial writes: positions from its depth on
//! ```
//! A trial at depth d reads trunk pages 0..d / 64, and its tail begins with a copy of the page that
//! d cuts. Every sequence has pages of its own: sharing them would flatter the cache.

use std::time::Instant;

use qwire_model::backend::LOGIT_ROWS;
use qwire_model::{Batch, PageId, Runner, Shape, Span, TokenId};

use super::trial::{Kind, Trial};
use crate::failure::Failure;
use crate::memory::PAGE;
use crate::signals::Interrupt;

/// How much is needed for all trials.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Sequences side by side.
    pub parallel: usize,
    /// Positions before the deepest trial.
    pub deepest: usize,
    /// Tokens of the longest trial.
    pub longest: usize,
}

impl Extent {
    fn trunk(self) -> usize {
        Shape::pages_for(self.deepest)
    }

    /// One page more than the tokens need: they may begin anywhere in the first.
    fn tail(self) -> usize {
        Shape::pages_for(self.longest) + 1
    }

    /// Pages of the pool.
    pub fn pages(self) -> usize {
        (self.trunk() + self.tail()).saturating_mul(self.parallel)
    }
}

/// A model that is ready to be timed.
pub struct Stage<'a> {
    runner: Box<dyn Runner>,
    extent: Extent,
    random: u64,
    interrupt: &'a Interrupt,
}

impl<'a> Stage<'a> {
    /// Takes a runner that has reserved the extent's pages.
    pub fn new(
        runner: Box<dyn Runner>,
        extent: Extent,
        seed: u64,
        interrupt: &'a Interrupt,
    ) -> Self {
        assert!(runner.limits().pages >= extent.pages(), "pages reserved");
        Self { runner, extent, random: seed, interrupt }
    }

    /// Computes the deepest prefix. False where an interrupt came first.
    pub fn deepen(&mut self, progress: &mut dyn FnMut(usize, usize)) -> Result<bool, Failure> {
        let (deepest, rows) = (self.extent.deepest, self.runner.limits().rows);
        let pages: Vec<_> = (0..self.extent.trunk()).map(|at| self.trunk_page(0, at)).collect();
        for start in (0..deepest).step_by(rows) {
            if self.interrupt.raised() {
                return Ok(false);
            }
            let len = rows.min(deepest - start);
            let tokens = self.tokens(len);
            let spans = vec![Span { start, len, pages: pages.clone() }];
            self.step(&Batch { tokens, spans, outputs: Vec::new() })?;
            progress(start + len, deepest);
        }
        for sequence in 1..self.extent.parallel {
            for at in 0..self.extent.trunk() {
                self.runner.copy_page(self.trunk_page(0, at), self.trunk_page(sequence, at));
            }
        }
        Ok(true)
    }

    /// Tokens per second of one run of a trial; none where an interrupt came first.
    pub fn sample(&mut self, trial: Trial) -> Result<Option<f64>, Failure> {
        let tables: Vec<_> =
            (0..self.extent.parallel).map(|sequence| self.table(sequence, trial.depth)).collect();
        let batches = match trial.kind {
            Kind::Prefill => self.prompt(trial, &tables),
            Kind::Decode => self.answer(trial, &tables),
        };
        let start = Instant::now();
        for batch in &batches {
            if self.interrupt.raised() {
                return Ok(None);
            }
            self.step(batch)?;
        }
        Ok(Some((trial.n * tables.len()) as f64 / start.elapsed().as_secs_f64()))
    }

    /// Steps of one run of a trial.
    pub fn steps(&self, trial: Trial) -> usize {
        match trial.kind {
            Kind::Prefill => (trial.n * self.extent.parallel).div_ceil(self.runner.limits().rows),
            Kind::Decode => trial.n,
        }
    }

    /// Steps that read the prompts of all sequences, one after the other, in full batches.
    fn prompt(&mut self, trial: Trial, tables: &[Vec<PageId>]) -> Vec<Batch> {
        let (total, rows) = (trial.n * tables.len(), self.runner.limits().rows);
        let mut batches = Vec::new();
        for first in (0..total).step_by(rows) {
            let end = total.min(first + rows);
            let mut batch = Batch { tokens: self.tokens(end - first), ..Batch::default() };
            let mut at = first;
            while at < end {
                let (sequence, done) = (at / trial.n, at % trial.n);
                let len = (trial.n - done).min(end - at);
                let pages = tables[sequence].clone();
                batch.spans.push(Span { start: trial.depth + done, len, pages });
                at += len;
                if at.is_multiple_of(trial.n) {
                    batch.outputs.push(at - 1 - first);
                }
            }
            batches.push(batch);
        }
        batches
    }

    /// Steps that take one token of every sequence.
    fn answer(&mut self, trial: Trial, tables: &[Vec<PageId>]) -> Vec<Batch> {
        let step = |at| {
            let span = |pages: &Vec<PageId>| Span { start: at, len: 1, pages: pages.clone() };
            let tokens = self.tokens(tables.len());
            let spans = tables.iter().map(span).collect();
            Batch { tokens, spans, outputs: (0..tables.len()).collect() }
        };
        (trial.depth..trial.depth + trial.n).map(step).collect()
    }

    /// One step, with what a greedy choice reads of its outputs.
    fn step(&mut self, batch: &Batch) -> Result<(), Failure> {
        if let Some(poison) = self.runner.step(batch).first() {
            return Err(Failure::new(poison));
        }
        let outputs = batch.outputs.len();
        for first in (0..outputs).step_by(LOGIT_ROWS) {
            let outputs = first..outputs.min(first + LOGIT_ROWS);
            if self.runner.best(outputs.clone()).is_none() {
                self.runner.logits(outputs);
            }
        }
        Ok(())
    }

    /// Pages of a sequence that stands at this depth, ready to be written from there on.
    fn table(&mut self, sequence: usize, depth: usize) -> Vec<PageId> {
        let tail = self.extent.pages() - (sequence + 1) * self.extent.tail();
        let tail: Vec<_> = (tail..tail + self.extent.tail()).map(page).collect();
        if !depth.is_multiple_of(PAGE) {
            self.runner.copy_page(self.trunk_page(sequence, depth / PAGE), tail[0]);
        }
        let trunk = (0..depth / PAGE).map(|at| self.trunk_page(sequence, at));
        trunk.chain(tail).collect()
    }

    fn trunk_page(&self, sequence: usize, at: usize) -> PageId {
        page(sequence * self.extent.trunk() + at)
    }

    /// Random tokens: the path through the experts is another one each time.
    fn tokens(&mut self, n: usize) -> Vec<TokenId> {
        let vocab = self.runner.vocab() as u64;
        let mut next = || {
            // A counter, mixed.
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let x = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            TokenId(((x ^ (x >> 31)) % vocab) as u32)
        };
        (0..n).map(|_| next()).collect()
    }
}

fn page(at: usize) -> PageId {
    PageId(at as u32)
}
