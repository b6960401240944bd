//! Admission: who leaves the queue.
//!
//! The lowest key goes first, and while it finds no room nobody behind it does: otherwise small
//! requests would keep a large one out for ever. Only who waits for a prefix that is being computed
//! right now is passed by; its urgency is lent to the one that computes.

use std::collections::HashMap;
use std::time::Duration;

use qwire_model::PageId;

use super::Scheduler;
use super::sequence::{Key, Sequence};
use crate::event::Event;
use crate::pages::PAGE;
use crate::request::RequestId;
use crate::tree::common;

impl Scheduler {
    /// Starts everyone who finds a place.
    pub(super) fn admit(&mut self, now: Duration) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        self.running.values_mut().for_each(|sequence| sequence.urged = sequence.key);
        // Choices that have not begun wait for the same: one look does for all of a request.
        let mut latest: Option<(RequestId, Key)> = None;
        for key in self.waiting.keys().copied().collect::<Vec<_>>() {
            let follower = &self.waiting[&key];
            let unbegun =
                (follower.history.len() == follower.ask.prompt).then_some(follower.ask.id);
            let sibling = latest.filter(|(request, _)| Some(*request) == unbegun);
            let Some(leader) = sibling.map(|(_, key)| key).or_else(|| self.leader(follower)) else {
                if self.seat(key, now) {
                    continue;
                }
                return;
            };
            latest = unbegun.map(|request| (request, leader)).or(latest);
            self.waiting.get_mut(&key).expect("it waits").leader = Some(leader);
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
            let ahead = parked || sequence.restoring.is_some() || sequence.remaining() > 1;
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
        let mut sequence = self.waiting.remove(&key).expect("it waits");
        sequence.kept = 0;
        sequence.table =
            self.tree.fork(&mut self.pages, sequence.ask.salt, sequence.reusable(), now);
        let Some(victims) = self.victims(&sequence) else {
            self.pages.release(std::mem::take(&mut sequence.table));
            self.waiting.insert(key, sequence);
            self.moved = false;
            return false;
        };
        for _ in 0..victims {
            let (victim, _) = self.running.last_key_value().expect("as many are behind it");
            self.preempt(*victim, now);
        }
        self.door.leave(1);
        let cached_tokens = sequence.table.len();
        self.wish(&mut sequence, now);
        self.running.insert(key, sequence);
        if self.running[&key].restoring.is_none() {
            self.start(key, cached_tokens, now);
        }
        true
    }

    /// A sequence that runs has all of its prompt that need not be computed.
    pub(super) fn start(&mut self, key: Key, cached_tokens: usize, now: Duration) {
        let sequence = self.running.get_mut(&key).expect("it runs");
        if sequence.cached.is_none() {
            sequence.cached = Some(cached_tokens);
            self.counters.started(sequence.ask.prompt, cached_tokens);
            self.counters.queue.add(now.saturating_sub(sequence.ask.arrived));
            self.outbox.push(sequence.event(Event::Started { cached_tokens }));
        }
    }

    /// How many of those behind a sequence must go, the last first, for it to have a place and
    /// pages; `None` if that takes more than all of them.
    fn victims(&self, sequence: &Sequence) -> Option<usize> {
        let wanted = self.outstanding(sequence);
        let mut claimed: usize = self.running.values().map(|other| self.outstanding(other)).sum();
        let mut there = self.pages.free() + self.pages.idle();
        let mut behind = self.running.range(sequence.key..).rev();
        let mut theirs: HashMap<PageId, usize> = HashMap::new();
        let mut victims = 0;
        loop {
            let place = self.running.len() - victims < self.settings.running;
            if place && wanted <= there.saturating_sub(claimed) {
                return Some(victims);
            }
            let (_, victim) = behind.next()?;
            victims += 1;
            claimed -= self.outstanding(victim);
            for page in victim.table.pages() {
                let uses = theirs.entry(*page).or_default();
                *uses += 1;
                let others = self.pages.uses(*page) - *uses;
                there += usize::from(others == usize::from(self.pages.node(*page).is_some()));
            }
        }
    }

    /// Pages that a sequence needs for its history and a first token, and does not have. A last
    /// page that only the tree uses too is not copied but taken from it, if need be.
    fn outstanding(&self, sequence: &Sequence) -> usize {
        let len = (sequence.history.len() + 1).min(self.settings.context);
        let more = len.saturating_sub(sequence.table.len());
        let ours = |page: &PageId| self.pages.uses(*page) == 2 && self.pages.node(*page).is_some();
        let taken = more > 0 && sequence.table.tail().is_some_and(|page| ours(&page));
        self.pages.wanted(&sequence.table, more) - usize::from(taken)
    }
}
