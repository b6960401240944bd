//! The scheduler: who is computed next, on which pages, and what follows from the outcome.
//!
//! ```text
//! submit ─► waiting ── admit ─► running ── plan ─► step, chunk ── commit ─► events
//!              ▲                   │                                │
//!              └───── preempt ─────┘            pages ── publish ── tree
//! ```
//! It is a machine without time, threads or devices of its own: time is an argument, the outcome of
//! a step is handed in, and a serving day replays in a test. Keys order everything: admission, who
//! may push whom aside, whose prompt is read first.

mod admission;
mod commit;
mod lookup;
mod pace;
mod plan;
mod repetition;
mod room;
mod sequence;
mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qwire_model::{Limits, Runner, TokenId};

use crate::constraint::Mask;
use crate::event::{Delivery, Event, Finish};
use crate::pages::{PAGE, Pages, Table};
use crate::request::{Bounds, Door, Refusal, Report, Request, RequestId, Salt, Settings};
use crate::sampler::Sampler;
use crate::stats::{Counters, Progress, Stats};
use crate::tree::{Explanation, Listing, Tree};
pub(crate) use commit::guarded;
pub use lookup::MOST_GUESSES;
use lookup::{Lookup, Odds};
use pace::{Pace, Turn};
pub use plan::Plan;
use repetition::Repetition;
use sequence::{Ask, Key, Sequence};
use storage::Shelf;

/// Every request under way.
pub struct Scheduler {
    settings: Settings,
    door: Arc<Door>,
    limits: Limits,
    layers: usize,
    pages: Pages,
    tree: Tree,
    waiting: BTreeMap<Key, Sequence>,
    running: BTreeMap<Key, Sequence>,
    /// Whose rows the step has, in order.
    stepping: Vec<Key>,
    /// Tokens after the row of the only one there, to be looked at as if they had been drawn.
    guessed: Vec<u32>,
    odds: Odds,
    parked: Option<Parked>,
    began: Duration,
    turn: Turn,
    pace: Pace,
    mask: Mask,
    outbox: Vec<Delivery>,
    counters: Counters,
    serial: u64,
    /// Whether somebody who waits may have got a place since the last look.
    moved: bool,
    shelf: Shelf,
    /// Seconds that pages took beyond the time of their turn.
    debt: f64,
}

/// A chunk of a prompt between two layers.
struct Parked {
    owner: Key,
    start: usize,
    rows: usize,
    outputs: Vec<usize>, // rows
    layers: usize,       // done
    cost: Option<f64>,   // of one layer, in seconds
    /// Begun with no answer beside it.
    alone: bool,
}

impl Scheduler {
    /// A scheduler for a runner with these limits.
    pub fn new(runner: &dyn Runner, settings: Settings) -> Self {
        let limits = runner.limits();
        let pages = Pages::new(limits.pages);
        let running = settings.running.min(limits.rows).min(limits.outputs).max(1);
        let context = settings.context.min(pages.total() * PAGE);
        let (vocab, choices) = (runner.vocab(), settings.waiting);
        let bounds = Bounds { context, vocab, choices, running };
        Self {
            door: Arc::new(Door::new(bounds)),
            settings: Settings { context, running, ..settings },
            limits,
            layers: runner.layers(),
            pages,
            tree: Tree::default(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            stepping: Vec::new(),
            guessed: Vec::new(),
            odds: Odds::default(),
            parked: None,
            began: Duration::ZERO,
            turn: Turn::default(),
            pace: Pace::new(settings.stall, settings.quantum),
            mask: Mask::new(runner.vocab()),
            outbox: Vec::new(),
            counters: Counters::default(),
            serial: 0,
            moved: false,
            shelf: Shelf::default(),
            debt: 0.0,
        }
    }

    /// What requests are accepted, for those who ask before they queue.
    pub fn bounds(&self) -> Bounds {
        self.door.bounds
    }

    /// Most tokens that are guessed ahead.
    pub fn guesses(&self) -> usize {
        self.settings.guesses
    }

    /// Where requests are checked, for other threads.
    pub(crate) fn door(&self) -> Arc<Door> {
        self.door.clone()
    }

    /// Queues a request, or refuses it at once.
    pub fn submit(
        &mut self,
        id: RequestId,
        request: Request,
        now: Duration,
    ) -> Result<(), Refusal> {
        self.door.pass(&request)?;
        self.queue(id, request, now);
        Ok(())
    }

    /// Queues a request that has passed the door.
    pub(crate) fn queue(&mut self, id: RequestId, request: Request, now: Duration) {
        let history: Vec<u32> = request.prompt.iter().map(|token| token.0).collect();
        let ask = Arc::new(Ask {
            id,
            prompt: history.len(),
            max_tokens: request.max_tokens,
            ends: request.ends,
            logprobs: request.logprobs,
            salt: request.salt,
            guard_repetition: request.guard_repetition,
            class: request.class,
            arrived: now,
        });
        let due = now + self.settings.patience[request.class as usize];
        // Several choices are never alone, and no answer is longer than the context.
        let mut prediction = request.prediction;
        prediction.truncate(if request.choices.len() == 1 { self.settings.context } else { 0 });
        for (at, choice) in request.choices.into_iter().enumerate() {
            let key = Key { due, serial: self.serial };
            self.serial += 1;
            let sampler = Sampler::new(choice.sampling, self.door.bounds.vocab);
            let sequence = Sequence {
                key,
                urged: key,
                ask: ask.clone(),
                choice: at,
                history: history.clone(),
                table: Table::default(),
                sampler: sampler.expect("the door has looked at its parameters"),
                constraint: choice.constraint,
                report: if at == 0 { request.report } else { Report::default() },
                reported: 0,
                pooled: Vec::new(),
                repetition: Repetition::default(),
                lookup: Lookup::new(&history, &prediction),
                cached: None,
                latest_token: None,
                leader: None,
                interrupted: false,
                restoring: None,
                kept: 0,
            };
            self.waiting.insert(key, sequence);
        }
        self.moved = true;
    }

    /// Takes a sequence out of the queue.
    fn call(&mut self, key: Key) -> Sequence {
        self.door.leave(1);
        self.waiting.remove(&key).expect("it waits")
    }

    /// Ends every choice of a request. What it has computed stays cached, and a chunk in the middle
    /// of its layers goes over to whoever waits for it.
    pub fn cancel(&mut self, id: RequestId, now: Duration) {
        let of_it = |sequence: &&Sequence| sequence.ask.id == id;
        let keys = |all: &BTreeMap<Key, Sequence>| -> Vec<Key> {
            all.values().filter(of_it).map(|sequence| sequence.key).collect()
        };
        for key in keys(&self.waiting) {
            let sequence = self.call(key);
            self.end(&sequence, Finish::Cancelled);
        }
        for key in keys(&self.running) {
            self.hand_over(key, now);
            self.finish(key, Finish::Cancelled, now);
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Answers that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Every answer under way, the most urgent first.
    pub fn under_way(&self) -> Vec<Progress> {
        self.running.values().map(Sequence::progress).collect()
    }

    /// The events since the last call.
    pub fn deliveries(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.outbox)
    }

    /// What there is to count and to measure.
    pub fn stats(&self) -> Stats {
        let refused = self.door.refused();
        Stats {
            running: self.running.len(),
            waiting: self.waiting.len(),
            pages: self.pages.total(),
            free_pages: self.pages.free(),
            cached_pages: self.tree.len(),
            idle_pages: self.pages.idle(),
            counters: Counters { refused, unkept: self.tree.lost(), ..self.counters.clone() },
        }
    }

    /// What is cached, of one tenant or of all, with the `most` longest prefixes.
    pub fn cache(&self, salt: Option<Salt>, most: usize, now: Duration) -> Listing {
        self.tree.listing(&self.pages, salt, (most, now))
    }

    /// Where and why a prompt would miss.
    pub fn explain(&self, salt: Salt, prompt: &[TokenId]) -> Explanation {
        let tokens: Vec<u32> = prompt.iter().map(|token| token.0).collect();
        self.tree.explain(salt, &tokens)
    }

    /// Forgets every prefix that nobody uses; how many pages that frees. What stays counts as kept
    /// nowhere else.
    pub fn forget(&mut self) -> usize {
        self.tree.keep_again();
        self.tree.clear(&mut self.pages)
    }

    /// Panics of the runner so far; one of these is an accident, two in a row are a pattern.
    pub fn crashes(&self) -> u64 {
        self.counters.crashes
    }

    /// Whether every page is used as often as tables and tree list it, and nothing is listed that
    /// the pool thinks free.
    pub fn audit(&self) -> Result<(), String> {
        let mut uses = vec![0_usize; self.pages.total()];
        let tables = self.running.values().flat_map(|sequence| sequence.table.pages());
        tables.copied().chain(self.tree.held()).for_each(|page| uses[page.0 as usize] += 1);
        for (page, expected) in uses.iter().enumerate() {
            let found = self.pages.uses(qwire_model::PageId(page as u32));
            if found != *expected {
                return Err(format!("page {page} is listed {expected} times, counted {found}"));
            }
        }
        self.tree.audit(&self.pages)?;
        let used = uses.iter().filter(|uses| **uses > 0).count();
        if used + self.pages.free() != self.pages.total() {
            return Err(format!("{used} pages used and {} free", self.pages.free()));
        }
        match self.waiting.values().find(|sequence| !sequence.table.is_empty()) {
            Some(sequence) => Err(format!("{:?} waits with pages", sequence.key)),
            None => Ok(()),
        }
    }

    fn deliver(&mut self, sequence: &Sequence, event: Event) {
        self.outbox.push(sequence.event(event));
    }

    /// The good ending of a sequence that has no pages any more.
    fn end(&mut self, sequence: &Sequence, finish: Finish) {
        self.counters.finished(finish);
        self.deliver(sequence, Event::Finished { finish, usage: sequence.usage() });
        self.moved = true;
    }
}
