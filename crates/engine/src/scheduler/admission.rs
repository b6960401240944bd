//! Admission: who leaves the queue.
//!
//! The lowest key goes first, and while it finds no room nobody behind it does: otherwise small
//! requests would keep a large one out for ever. Only who waits for a prefix that is being computed
//! right now is passed by; its urgency is lent to the one that computes.

use std::time::Duration;

use super::Scheduler;
use super::sequence::{Key, Sequence};
use crate::event::Event;
use crate::pages::PAGE;
use crate::tree::common;

impl Scheduler {
    /// Starts everyone who finds a place.
    pub(super) fn admit(&mut self, now: Duration) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        self.running.values_mut().for_each(|sequence| sequence.urged = sequence.key);
        // More than may run need not be looked at: whoever is passed by waits for one that runs.
        let first = self.waiting.keys().copied().take(self.settings.running);
        for key in first.collect::<Vec<_>>() {
            let Some(leader) = self.leader(&self.waiting[&key]) else {
                if self.seat(key, now) {
                    continue;
                }
                return;
            };
            let leader = self.running.get_mut(&leader).expect("a leader runs");
            leader.urged = leader.urged.min(key);
        }
    }

    /// Who is computing a prefix of this sequence that is worth waiting for: another page at least,
    /// or all that it could reuse.
    fn leader(&self, follower: &Sequence) -> Option<Key> {
        let reusable = follower.reusable();
        let cached = self.tree.reach(follower.ask.salt, reusable);
        let worth = (cached + PAGE).min(reusable.len());
        let leads = |sequence: &&Sequence| {
            // Rows of a parked chunk count as computed, and are not there yet.
            let parked = self.parked.as_ref().is_some_and(|parked| parked.owner == sequence.key);
            let ahead = parked || sequence.remaining() > 1;
            let salt = sequence.ask.salt == follower.ask.salt;
            ahead && salt && common(&sequence.history, reusable) >= worth
        };
        self.running.values().find(leads).filter(|_| worth > cached).map(|leader| leader.key)
    }

    /// Whether somebody waits for tokens of this sequence that end within its last page.
    pub(super) fn tail_is_wanted(&self, sequence: &Sequence) -> bool {
        let full = sequence.table.len() / PAGE * PAGE;
        let wants = |other: &Sequence| {
            other.ask.salt == sequence.ask.salt
                && common(&sequence.history, other.reusable()) > full
        };
        self.waiting.values().any(wants)
    }

    /// Starts one sequence, at the cost of those behind it; false if there is no room even so.
    fn seat(&mut self, key: Key, now: Duration) -> bool {
        if !self.unseat_for(key, now) {
            return false;
        }
        let mut sequence = self.waiting.remove(&key).expect("it waits");
        sequence.table =
            self.tree.fork(&mut self.pages, sequence.ask.salt, sequence.reusable(), now);
        loop {
            let wanted = self.outstanding(&sequence);
            if wanted <= self.unclaimed() {
                break;
            }
            let behind = self.running.range(key..);
            let theirs: usize = behind.map(|(_, other)| self.claim(other)).sum();
            let victim = self.running.last_key_value().map(|(victim, _)| *victim);
            let Some(victim) =
                victim.filter(|victim| *victim > key && wanted <= self.unclaimed() + theirs)
            else {
                self.pages.release(std::mem::take(&mut sequence.table));
                self.waiting.insert(key, sequence);
                self.moved = false;
                return false;
            };
            self.preempt(victim, now);
        }
        if sequence.cached.is_none() {
            let cached_tokens = sequence.table.len();
            sequence.cached = Some(cached_tokens);
            self.counters.started(sequence.ask.prompt, cached_tokens);
            self.counters.queue.add(now.saturating_sub(sequence.ask.arrived));
            self.deliver(&sequence, Event::Started { cached_tokens });
        }
        self.running.insert(key, sequence);
        true
    }

    /// Makes sure that fewer run than may.
    fn unseat_for(&mut self, key: Key, now: Duration) -> bool {
        while self.running.len() >= self.settings.running {
            match self.running.last_key_value().map(|(victim, _)| *victim) {
                Some(victim) if victim > key => self.preempt(victim, now),
                _ => return false,
            }
        }
        true
    }

    /// Pages that a sequence needs for its history and a first token, and does not have. A last
    /// page that only the tree uses too is not copied but taken from it, if need be.
    fn outstanding(&self, sequence: &Sequence) -> usize {
        let len = (sequence.history.len() + 1).min(self.settings.context);
        let more = len.saturating_sub(sequence.table.len());
        let tail = sequence.table.tail().filter(|page| self.pages.uses(*page) == 2 && more > 0);
        let taken = tail.is_some_and(|page| self.tree.held().any(|held| held == page));
        self.pages.wanted(&sequence.table, more) - usize::from(taken)
    }

    /// Pages that are free or idle and that nobody who runs needs.
    fn unclaimed(&self) -> usize {
        let claimed: usize = self.running.values().map(|other| self.outstanding(other)).sum();
        (self.pages.free() + self.tree.idle(&self.pages)).saturating_sub(claimed)
    }

    /// Pages that are there for others once a sequence is gone, at most.
    fn claim(&self, sequence: &Sequence) -> usize {
        sequence.table.pages().len() + self.outstanding(sequence)
    }
}
