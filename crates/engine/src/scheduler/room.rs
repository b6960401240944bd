//! Room: pages for those who go on, and what becomes of the pages of those who do not.
//!
//! ```text
//! free ─ idle leaves of the tree ─ the tree's use of one's own last page ─ whoever is behind
//! ```

use std::time::Duration;

use qwire_model::PageId;

use super::sequence::Key;
use super::{Parked, Scheduler};
use crate::event::{Event, Fault, Finish};
use crate::pages::Table;
use crate::tree::common;

impl Scheduler {
    /// Makes the next positions of a sequence writable; false if those before it in the order have
    /// all pages. Pages to copy first are noted in the order in which they must be.
    pub(super) fn grow(
        &mut self,
        key: Key,
        rows: usize,
        copies: &mut Vec<(PageId, PageId)>,
        now: Duration,
    ) -> bool {
        loop {
            let sequence = self.running.get_mut(&key).expect("it runs");
            if let Ok(copy) = self.pages.grow(&mut sequence.table, rows) {
                copies.extend(copy);
                return true;
            }
            let table = std::mem::take(&mut sequence.table);
            let found = self.evict(now) || self.disown_tail(&table);
            self.running.get_mut(&key).expect("it runs").table = table;
            if !found {
                match self.running.last_key_value().map(|(victim, _)| *victim) {
                    Some(victim) if victim > key => self.preempt(victim, now),
                    _ => return false,
                }
            }
        }
    }

    /// Frees an idle page.
    fn evict(&mut self, now: Duration) -> bool {
        let found = self.tree.evict(&mut self.pages, now);
        self.counters.evicted += u64::from(found);
        found
    }

    /// Takes a table's partly filled last page out of the tree, so that it need not be copied.
    fn disown_tail(&mut self, table: &Table) -> bool {
        let shared = table.tail().filter(|page| self.pages.uses(*page) > 1);
        shared.is_some_and(|page| self.tree.disown(&mut self.pages, page))
    }

    /// Sends a sequence back to the queue. What it has computed stays cached as long as it can.
    pub(super) fn preempt(&mut self, key: Key, now: Duration) {
        self.publish(key, true, now);
        let mut sequence = self.running.remove(&key).expect("it runs");
        self.pages.release(std::mem::take(&mut sequence.table));
        sequence.restoring = None;
        self.waiting.insert(key, sequence);
        self.door.come_back();
        self.counters.preempted += 1;
        self.moved = true;
    }

    /// The good ending of a sequence that runs.
    pub(super) fn finish(&mut self, key: Key, finish: Finish, now: Duration) {
        self.publish(key, true, now);
        let mut sequence = self.running.remove(&key).expect("it runs");
        self.pages.release(std::mem::take(&mut sequence.table));
        self.end(&sequence, finish);
    }

    /// The bad ending of a sequence that runs: nothing more of it is published.
    pub(super) fn fail(&mut self, key: Key, fault: Fault) {
        self.unpark(key);
        self.turn.heads = 0; // read in part, they tell nothing of their cost
        let mut sequence = self.running.remove(&key).expect("it runs");
        self.pages.release(std::mem::take(&mut sequence.table));
        self.counters.failed += 1;
        self.counters.panics += u64::from(matches!(fault, Fault::Panic(_)));
        self.deliver(&sequence, Event::Failed(fault));
        self.moved = true;
    }

    /// Puts what a sequence has computed into the tree.
    pub(super) fn publish(&mut self, key: Key, tail: bool, now: Duration) {
        self.unpark(key);
        let sequence = self.running.get_mut(&key).expect("it runs");
        let prefix = (sequence.ask.salt, &sequence.history[..]);
        let (table, kept) = (&mut sequence.table, sequence.kept);
        self.tree.publish(&mut self.pages, prefix, table, kept, (tail, now));
    }

    /// Forgets the parked chunk if it is this sequence's.
    pub(super) fn unpark(&mut self, key: Key) {
        if let Some(parked) = self.parked.take_if(|parked| parked.owner == key) {
            let sequence = self.running.get_mut(&key).expect("it runs");
            self.pages.truncate(&mut sequence.table, parked.start);
        }
    }

    /// Gives the parked chunk of a sequence that ends to the first who waits for all of it.
    pub(super) fn hand_over(&mut self, key: Key, now: Duration) {
        let Some(parked) = self.parked.take_if(|parked| parked.owner == key) else { return };
        let leader = self.running.get_mut(&key).expect("it runs");
        let end = parked.start + parked.rows;
        let sampled = parked.outputs.last() == Some(&(parked.rows - 1));
        let table = std::mem::take(&mut leader.table);
        let (salt, history) = (leader.ask.salt, leader.history.clone());
        let fits = |(_, heir): &(&Key, &super::Sequence)| {
            let ends = heir.history.len() == end;
            heir.ask.salt == salt
                && !heir.report.reads_all()
                && (heir.history.len() > end || ends && sampled && heir.samples())
                && common(&heir.history, &history) >= end
        };
        let heir = self.waiting.iter().find(fits).map(|(key, _)| *key);
        let Some(heir) = heir else {
            self.running.get_mut(&key).expect("it runs").table = table;
            self.parked = Some(parked);
            return;
        };
        let mut heir = self.call(heir);
        heir.table = table;
        heir.urged = heir.key;
        self.counters.handed_over += 1;
        let (key, cached_tokens) = (heir.key, parked.start);
        self.parked = Some(Parked { owner: key, ..parked });
        self.running.insert(key, heir);
        self.start(key, cached_tokens, now);
    }
}
