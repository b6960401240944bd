//! Storage: pages that come from a store before their sequence is computed, and go there after.
//!
//! ```text
//! seat ─► wish ─► place: a page of its table, to be written ─► .. ─► end ─► start
//! publish ─► due ─► said
//! ```
//! A sequence whose prefix is looked up has its place and its pages, and is not planned. What is
//! found is computed no more than what the tree holds is, and is published like it.

use std::time::Duration;

use qwire_model::PageId;

use super::Scheduler;
use super::sequence::{Key, Restoring, Sequence};
use crate::event::Fault;
use crate::pages::PAGE;
use crate::pages::store::{Fetch, Named, Store};
use crate::tree::Due;

/// Nobody waits longer than this for the next page, or longer than it takes to compute it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The share of a turn that pages get on their way to a store even where no time is left.
const SHARE: f64 = 0.05;

/// What the scheduler knows of a store.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Whether pages can be found there.
    open: bool,
    wishes: Vec<Fetch>,
    /// Counts wishes.
    serial: u64,
    /// What a page took on its way.
    cost: f64,
}

impl Scheduler {
    /// Pages are to be kept once there is a place for them.
    pub fn keep_pages(&mut self) {
        self.tree.keep_pages();
    }

    /// Says whether pages can be found in a store by now.
    pub fn open_store(&mut self, open: bool) {
        self.shelf.open = open;
    }

    /// Looks for more of a sequence's prefix than memory has, if there may be more.
    pub(super) fn wish(&mut self, sequence: &mut Sequence, now: Duration) {
        let (have, full) = (sequence.table.len() / PAGE, sequence.reusable().len() / PAGE);
        if !self.shelf.open || full <= have {
            return;
        }
        self.shelf.serial += 1;
        let (id, end) = (self.shelf.serial, full * PAGE);
        sequence.restoring = Some(Restoring { id, end, since: now });
        let (salt, tokens) = (sequence.ask.salt, sequence.history[..end].to_vec());
        self.shelf.wishes.push(Fetch { id, salt, tokens, skip: have });
    }

    /// What is to be looked for since the last call.
    pub fn wishes(&mut self) -> Vec<Fetch> {
        std::mem::take(&mut self.shelf.wishes)
    }

    fn restoring(&self, id: u64) -> Option<(Key, Restoring)> {
        self.running.values().find_map(|sequence| {
            sequence.restoring.filter(|wish| wish.id == id).map(|wish| (sequence.key, wish))
        })
    }

    /// Where the next page of a wish is to be written; none if nobody wants it.
    pub fn place(&mut self, id: u64, now: Duration) -> Option<PageId> {
        let (key, wish) = self.restoring(id)?;
        let sequence = self.running.get_mut(&key).expect("it runs");
        let whole = sequence.table.len() / PAGE * PAGE;
        if whole >= wish.end {
            return None;
        }
        self.pages.truncate(&mut sequence.table, whole);
        let mut copies = Vec::new();
        if !self.grow(key, PAGE, &mut copies, now) {
            self.preempt(key, now);
            return None;
        }
        assert!(copies.is_empty(), "a page that begins is nobody else's");
        let sequence = self.running.get_mut(&key).expect("it runs");
        sequence.kept = sequence.table.len();
        sequence.restoring = Some(Restoring { since: now, ..wish });
        self.counters.restored_tokens += PAGE as u64;
        sequence.table.pages().last().copied()
    }

    /// The page was not written, and nobody knows what it holds.
    pub fn place_failed(&mut self, id: u64, fault: Fault) {
        self.counters.crashes += 1;
        if let Some((key, _)) = self.restoring(id) {
            self.fail(key, fault);
        }
    }

    /// No more pages of a wish come: its sequence goes on from there.
    pub fn restored(&mut self, id: u64, now: Duration) {
        let Some((key, _)) = self.restoring(id) else { return };
        self.publish(key, false, now);
        let sequence = self.running.get_mut(&key).expect("it runs");
        sequence.restoring = None;
        let cached_tokens = sequence.table.len();
        self.start(key, cached_tokens, now);
        self.moved = true;
    }

    /// Goes on without pages that take too long; their wishes.
    pub fn lose_patience(&mut self, now: Duration) -> Vec<u64> {
        let computing = Duration::from_secs_f64(self.pace.reading(PAGE, self.layers));
        let patience = PATIENCE.max(computing);
        let late = |wish: &Restoring| now.saturating_sub(wish.since) > patience;
        let wishes = self.running.values().filter_map(|sequence| sequence.restoring);
        let late: Vec<u64> = wishes.filter(late).map(|wish| wish.id).collect();
        late.iter().for_each(|id| self.restored(*id, now));
        late
    }

    /// Whether there is time to move another page from a store.
    pub fn has_time(&self) -> bool {
        self.pace.moves(self.turn, self.shelf.cost)
    }

    /// The same for one on its way there.
    pub fn has_time_to_keep(&self, now: Duration) -> bool {
        let share = SHARE * now.saturating_sub(self.began).as_secs_f64();
        self.has_time() || self.turn.pages as f64 * self.shelf.cost <= share
    }

    /// A page took so long on its way. What no time was left for, the next turn gives.
    pub fn page_moved(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if !self.pace.moves(super::Turn { pages: 1, ..self.turn }, seconds) {
            self.debt += seconds;
        }
        self.shelf.cost = seconds;
        self.turn.spent += seconds;
        self.turn.pages += 1;
    }

    /// What a store shall hear next.
    pub fn due(&mut self, store: &dyn Store) -> Option<(Named, Due)> {
        let (at, due) = self.tree.due()?;
        Some((self.tree.name(at, store), due))
    }

    /// It has heard it.
    pub fn said(&mut self, now: Duration) {
        self.tree.said(now);
    }
}
