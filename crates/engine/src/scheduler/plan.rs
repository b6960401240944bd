//! A plan: what the runner does next. Every sequence that wants one position is a row of the step;
//! one prompt at a time has a chunk, parked between layers.

use std::time::Duration;

use qwire_model::{Batch, PageId, Span, TokenId};

use super::commit::guarded;
use super::pace::Work;
use super::sequence::{Key, Sequence};
use super::{Parked, Scheduler, Turn};
use crate::pages::PAGE;
use crate::request::Report;

/// Work for the runner, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// Pages to copy, from and to.
    pub copies: Vec<(PageId, PageId)>,
    /// One row for each answer, and one for each token that was guessed; may be empty.
    pub step: Batch,
    /// A chunk to park.
    pub park: Option<Batch>,
}

impl Scheduler {
    /// What to do now, or nothing.
    pub fn plan(&mut self, now: Duration) -> Option<Plan> {
        self.admit(now);
        self.began = now;
        self.turn = Turn { spent: std::mem::take(&mut self.debt), ..Turn::default() };
        self.stepping.clear();
        self.guessed.clear();
        if self.running.values().all(|sequence| sequence.restoring.is_some()) {
            return None;
        }
        let mut plan = Plan::default();
        let reader = self.reader();
        let beside = self.running.values().any(Sequence::is_decoding);
        // In the order of keys: whoever is pushed aside comes later, so no row of the plan is lost.
        for key in self.running.keys().copied().collect::<Vec<_>>() {
            let Some(sequence) = self.running.get(&key) else { continue };
            if self.parked.as_ref().is_some_and(|parked| parked.owner == key) {
                continue;
            }
            let (start, is_decoding) = (sequence.table.len(), sequence.is_decoding());
            let rows = if is_decoding {
                self.guess(key);
                1 + self.guessed.len()
            } else if Some(key) == reader {
                self.chunk(sequence, beside || sequence.interrupted)
            } else {
                continue;
            };
            if !self.grow(key, rows, &mut plan.copies, now) {
                self.preempt(key, now);
            } else if is_decoding {
                self.row(key, &mut plan.step);
            } else {
                plan.park = Some(self.park(key, start, rows, !beside));
            }
        }
        Some(plan)
    }

    /// Whose prompt is read next, if none is being read: the one that is due first once the time
    /// it takes is added. A short prompt does not wait for a long one that came a little earlier,
    /// and the long one waits at most as long as it takes itself.
    fn reader(&self) -> Option<Key> {
        if self.parked.is_some() {
            return None;
        }
        let due = |sequence: &Sequence| {
            let reading = self.pace.reading(sequence.remaining(), self.layers);
            sequence.urged.due.as_secs_f64() + reading
        };
        let reads = |sequence: &&Sequence| !sequence.is_decoding() && sequence.restoring.is_none();
        let readers = self.running.values().filter(reads);
        let first = readers.min_by(|a, b| due(a).total_cmp(&due(b)).then(a.urged.cmp(&b.urged)));
        first.map(|sequence| sequence.key)
    }

    /// Rows of the next chunk of a sequence, beside a step or not.
    fn chunk(&self, sequence: &Sequence, beside: bool) -> usize {
        let alone = !beside && self.running.len() == 1 && self.waiting.is_empty();
        let most = if alone { self.settings.chunk_alone } else { self.settings.chunk_beside };
        let outputs = if sequence.report.reads_all() { self.limits.outputs } else { usize::MAX };
        let most = most.min(self.limits.rows).min(outputs).min(sequence.remaining()).max(1);
        let scored = matches!(sequence.report, Report::Logprobs(_));
        self.pace.rows(beside, scored, most)
    }

    /// Guesses what follows, where nothing else is there: beside others it would take their time.
    fn guess(&mut self, key: Key) {
        if self.running.len() > 1 || !self.waiting.is_empty() {
            return;
        }
        let limits = self.limits.rows.min(self.limits.outputs);
        let sequence = self.running.get_mut(&key).expect("it runs");
        let answered = sequence.history.len() - sequence.ask.prompt;
        let left = sequence.ask.max_tokens.saturating_sub(answered);
        let left = left.min(self.settings.context.saturating_sub(sequence.history.len()));
        let most = self.settings.guesses.min(left.min(limits).saturating_sub(1));
        if most == 0 {
            return;
        }
        let constraint = sequence.constraint.as_ref();
        let forced = constraint.and_then(|constraint| guarded(|| constraint.forced()).ok());
        let forced: Vec<u32> = forced.into_iter().flatten().map(|token| token.0).collect();
        self.guessed.extend(sequence.lookup.find(&sequence.history, &forced, most));
        let worth = self.odds.worth(self.guessed.len(), &mut sequence.lookup);
        let fits = self.pages.wanted(&sequence.table, 1 + worth) <= self.pages.free();
        self.guessed.truncate(if fits { worth } else { 0 });
    }

    fn row(&mut self, key: Key, step: &mut Batch) {
        let sequence = &self.running[&key];
        let rows = 1 + self.guessed.len();
        let start = sequence.table.len() - rows;
        step.outputs.extend(step.tokens.len()..step.tokens.len() + rows);
        step.tokens.push(TokenId(sequence.history[start]));
        step.tokens.extend(self.guessed.iter().map(|token| TokenId(*token)));
        step.spans.push(self.span(sequence, start, rows));
        self.stepping.push(key);
    }

    fn park(&mut self, key: Key, start: usize, rows: usize, alone: bool) -> Batch {
        let sequence = &self.running[&key];
        let outputs = sequence.outputs(start, rows);
        let tokens = sequence.history[start..start + rows].iter().map(|token| TokenId(*token));
        let batch = Batch {
            tokens: tokens.collect(),
            spans: vec![self.span(sequence, start, rows)],
            outputs: outputs.clone(),
        };
        let (owner, layers, cost) = (key, 0, None);
        self.parked = Some(Parked { owner, start, rows, outputs, layers, cost, alone });
        batch
    }

    /// How many layers of the parked chunk to run before looking around again; 0 for none.
    pub fn layers(&mut self) -> usize {
        let Some(parked) = &self.parked else { return 0 };
        let Parked { owner, rows, cost, alone, .. } = *parked;
        let work =
            Work { rows, cost, left: self.layers - parked.layers, heads: self.heads(parked) };
        if alone && !self.pace.fits(self.turn, work) {
            self.unpark(owner);
            self.running.get_mut(&owner).expect("its owner runs").interrupted = true;
            self.moved = true;
            return 0;
        }
        self.pace.layers(self.turn, work)
    }

    /// Rows of logits that are read after the last layer of a chunk.
    pub(super) fn heads(&self, parked: &Parked) -> usize {
        let owner = &self.running[&parked.owner];
        let is_scored = matches!(owner.report, Report::Logprobs(_));
        let draws = parked.start + parked.rows == owner.history.len() && owner.samples();
        if is_scored { parked.outputs.len() + usize::from(draws) } else { usize::from(draws) }
    }

    fn span(&self, sequence: &Sequence, start: usize, len: usize) -> Span {
        let pages = sequence.table.pages();
        let mut written = pages[start / PAGE..(start + len).div_ceil(PAGE)].iter();
        assert!(
            written.all(|page| self.pages.uses(*page) == 1),
            "nobody else uses what is written"
        );
        Span { start, len, pages: pages.to_vec() }
    }
}
