//! A world: one engine on a shaky toy, a cast that comes, goes and comes back, and what must hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qwire_engine::toy::{Clock, Toy};
use qwire_engine::{
    Delivery, Engine, Event, Fault, Finish, MOST_GUESSES, Refusal, RequestId, Settings, Stats,
};

use crate::alone::{Alone, End, Heard, alone};
use crate::cast::{VOCAB, Wish};
use crate::shaky::{LEAST_ROWS, Leaving, Random, Seen, Shaky};
use crate::shelf::Shelf;

/// Turns after which a world counts as stuck.
const TURNS: usize = 200_000;

/// Longer than anybody waits for a page.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct World {
    random: Random,
    engine: Engine,
    clock: Clock,
    shelf: Option<Arc<Shelf>>,
    seen: Arc<Mutex<Seen>>,
    settings: Settings,
    layers: usize,
    context: usize,
    stems: Vec<Vec<u32>>,
    arrivals: Vec<(Duration, Wish)>, // the latest first
    /// Arrivals that are likely to be dropped soon.
    hasty: Vec<Duration>,
    cancels: Vec<(Duration, RequestId)>,
    asked: BTreeMap<RequestId, Wish>,
    cancelled: Vec<RequestId>,
    leaving: Leaving,
    heard: BTreeMap<(RequestId, usize), Heard>,
    cost: (Duration, Duration),
    shaky: bool,
    turns_left: usize,
    next: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1);
        let pages = random.between(3, 16) as usize;
        let (rows, outputs) = (random.between(1, 130) as usize, random.between(1, 40) as usize);
        let layers = random.between(1, 4) as usize;
        let us = Duration::from_micros;
        let clock = Clock::default();
        let mut toy = Toy::new(VOCAB, layers, (rows, outputs, pages));
        toy.cost = (us(random.between(10, 3000)), us(random.between(1, 200)));
        toy.head = us(random.between(1, 300));
        toy.page = us(random.below(100));
        toy.clock = clock.clone();
        let cost = toy.cost;
        let rarely = if random.one_in(4) { random.between(20, 400) } else { 0 };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let settings = Settings {
            context: if random.one_in(3) { random.between(70, 1000) as usize } else { usize::MAX },
            running: random.between(1, 10) as usize,
            waiting: random.between(3, 60) as usize,
            stall: *random.pick(&[1.5, 2.0, 3.0]),
            chunk_alone: random.between(1, 200) as usize,
            chunk_beside: random.between(1, 100) as usize,
            guesses: *random.pick(&[0, 1, 4, MOST_GUESSES]),
            quantum: us(random.between(1000, 50_000)),
            patience: [0, 1, 5].map(|factor| us(factor * random.between(1, 300_000))),
        };
        let runner = Shaky::new(toy, Random(random.next()), rarely, seen.clone());
        let leaving = runner.leaving.clone();
        let mut engine = Engine::new(Box::new(runner), settings);
        let shelf = random.one_in(2).then(|| Arc::new(Shelf::new(&mut random, clock.clone())));
        if let Some(shelf) = &shelf {
            engine = engine.with_store(shelf.clone());
        }
        let context = engine.scheduler().bounds().context;
        let stem = |random: &mut Random| {
            let len = random.between(1, 200).min(context as u64);
            (0..len).map(|_| random.below(VOCAB as u64) as u32).collect()
        };
        let stems = (0..random.between(1, 3)).map(|_| stem(&mut random)).collect();
        Self {
            engine,
            clock,
            shelf,
            seen,
            settings,
            layers,
            context,
            stems,
            arrivals: Vec::new(),
            hasty: Vec::new(),
            cancels: Vec::new(),
            asked: BTreeMap::new(),
            cancelled: Vec::new(),
            leaving,
            heard: BTreeMap::new(),
            cost,
            shaky: rarely > 0,
            turns_left: random.between(0, 12) as usize,
            next: 0,
            random,
        }
    }

    pub fn run(&mut self) -> Stats {
        let span = *self.random.pick(&[1_000, 100_000, 2_000_000]);
        for _ in 0..self.random.between(1, 14) {
            let at = Duration::from_micros(self.random.below(span));
            let wish = Wish::any(&mut self.random, &self.stems, self.context);
            if self.random.one_in(3) {
                self.retry(at, &wish);
            }
            self.arrivals.push((at, wish));
        }
        self.arrivals.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        for turn in 0.. {
            assert!(turn < TURNS, "it goes on and on");
            self.arrive();
            self.cancel();
            if self.turn() {
                continue;
            }
            let idle = self.engine.scheduler().is_idle();
            let next = self.arrivals.last().map(|(at, _)| *at);
            let next = next.into_iter().chain(self.shelf.as_ref().and_then(|shelf| shelf.next()));
            match next.min() {
                Some(next) => self.clock.pass(next.saturating_sub(self.clock.now())),
                None if idle => break,
                None => {
                    assert!(self.shelf.is_some(), "somebody waits and nothing happens");
                    self.clock.pass(PATIENCE);
                }
            }
        }
        self.judge()
    }

    /// The same prompt comes again, perhaps for something else, and perhaps the first is dropped.
    fn retry(&mut self, at: Duration, wish: &Wish) {
        let mut again = wish.clone();
        if self.random.one_in(2) {
            let prompt = wish.prompt.clone();
            again = Wish { salt: wish.salt, ..Wish::of(&mut self.random, prompt) };
        }
        self.arrivals.push((at + Duration::from_micros(self.random.below(9000)), again));
        self.hasty.push(at);
    }

    fn arrive(&mut self) {
        let now = self.clock.now();
        while self.arrivals.last().is_some_and(|(at, _)| *at <= now) {
            let (at, wish) = self.arrivals.pop().expect("there is one");
            let id = RequestId(self.next);
            self.next += 1;
            match self.engine.submit(id, wish.request(), now) {
                Ok(()) => {
                    let odds = if self.hasty.contains(&at) { 2 } else { 5 };
                    if self.random.one_in(odds) {
                        let most = *self.random.pick(&[3_000, 60_000]);
                        let after = Duration::from_micros(self.random.below(most));
                        self.cancels.push((now + after, id));
                    }
                    for choice in 0..wish.choices {
                        self.heard.insert((id, choice), Heard::default());
                    }
                    self.asked.insert(id, wish);
                }
                Err(Refusal::Full { waiting }) => {
                    assert!(waiting + wish.choices > self.settings.waiting);
                }
                Err(Refusal::Choices { .. }) => assert!(wish.choices > self.settings.waiting),
                Err(refusal) => panic!("{refusal}: {wish:?}"),
            }
        }
    }

    fn cancel(&mut self) {
        let now = self.clock.now();
        let due = self.cancels.extract_if(.., |(at, _)| *at <= now);
        for (_, id) in due.collect::<Vec<_>>() {
            self.drop(id, now);
        }
    }

    fn drop(&mut self, id: RequestId, now: Duration) {
        self.engine.cancel(id, now);
        self.cancelled.push(id);
        self.hold();
    }

    /// Somebody who would be cancelled later may leave in the middle of the next work.
    fn leave(&mut self) -> Option<RequestId> {
        if !self.random.one_in(4) {
            return None;
        }
        let (_, id) = self.cancels.pop()?;
        *self.leaving.lock().unwrap() = Some((self.engine.watch(), id));
        Some(id)
    }

    fn turn(&mut self) -> bool {
        let mut seen = self.seen.lock().unwrap();
        let last_step = seen.step.or(seen.last_step);
        *seen = Seen { last_step, alone: seen.alone, ..Seen::default() };
        drop(seen);
        let clock = self.clock.clone();
        let leaving = self.leave();
        let mut deliveries = Vec::new();
        let worked = self.engine.turn(&|| clock.now(), &mut |delivery| deliveries.push(delivery));
        deliveries.into_iter().for_each(|delivery| self.hear(delivery));
        self.hold();
        self.pace();
        if let Some(id) = leaving {
            self.leaving.lock().unwrap().take(); // perhaps nothing was computed
            self.drop(id, self.clock.now());
            return true;
        }
        worked
    }

    /// After every step.
    fn hold(&self) {
        if let Err(fault) = self.engine.scheduler().audit() {
            panic!("{fault}");
        }
    }

    /// Layers and the logits after them take no more than the time agreed beside a step, or it is
    /// one layer that fits no turn, of a chunk begun beside steps; and that is only begun so large
    /// that a layer of it fits beside a step like the last one.
    fn pace(&self) {
        let seen = *self.seen.lock().unwrap();
        let Some(step) = seen.step else { return };
        let room = |step: Duration| step.as_secs_f64() * (self.settings.stall - 1.0) * (1.0 + 1e-9);
        let kept = seen.advanced.as_secs_f64() <= room(step);
        assert!(kept || seen.layers == 1 && !seen.alone, "{seen:?} with room for {}", room(step));
        if let Some(rows) = seen.parked.filter(|rows| *rows > LEAST_ROWS) {
            let layer = (self.cost.0 + self.cost.1 * rows as u32).as_secs_f64();
            assert!(
                seen.last_step.is_some_and(|step| layer <= room(step)),
                "{rows} rows: {seen:?}"
            );
        }
    }

    fn hear(&mut self, delivery: Delivery) {
        let Delivery { request, choice, event } = delivery;
        let heard = self.heard.get_mut(&(request, choice)).expect("somebody asked");
        assert!(!heard.is_over(), "{event:?} after the ending");
        let started = heard.events.iter().any(|event| matches!(event, Event::Started { .. }));
        match &event {
            Event::Started { cached_tokens } => {
                assert!(!started && *cached_tokens < self.asked[&request].prompt.len());
            }
            Event::Finished { finish: Finish::Cancelled, .. } => {
                assert!(self.cancelled.contains(&request));
            }
            Event::Prefill { done, total } => {
                assert!(done <= total && *total == self.asked[&request].prompt.len());
            }
            // A page from the shelf that could not be written.
            Event::Failed(Fault::Panic(_)) if self.shelf.is_some() => {}
            _ => assert!(started, "{event:?} before the start"),
        }
        heard.events.push(event);
        let over = heard.is_over();
        if over && choice == 0 && self.turns_left > 0 && self.random.one_in(2) {
            self.turns_left -= 1;
            self.next_turn(request);
        }
    }

    /// The conversation goes on: prompt, answer, and something more.
    fn next_turn(&mut self, request: RequestId) {
        let wish = &self.asked[&request];
        let mut prompt = wish.prompt.clone();
        prompt.extend(self.heard[&(request, 0)].tokens().iter().map(|sampled| sampled.token.0));
        prompt.extend((0..self.random.between(1, 9)).map(|_| self.random.below(8) as u32));
        prompt.truncate(self.context);
        let salt = wish.salt;
        let wish = Wish { salt, ..Wish::of(&mut self.random, prompt) };
        self.arrivals.push((self.clock.now() + Duration::from_micros(self.random.below(9)), wish));
        self.arrivals.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    }

    /// At the end; what the world has shown.
    fn judge(&mut self) -> Stats {
        let stats = self.engine.scheduler().stats();
        assert_eq!((stats.running, stats.waiting, stats.kv_use()), (0, 0, 0.0));
        for ((request, choice), heard) in &self.heard {
            let wish = &self.asked[request];
            let expected = alone(wish, *choice, self.layers, self.context);
            let (tokens, prompt) = (heard.tokens(), heard.prompt());
            if self.is_whole(heard, &expected) {
                assert_eq!(tokens, expected.tokens, "{wish:?}");
                assert_eq!(prompt, expected.prompt, "{wish:?}");
                assert_eq!(heard.embedding(), expected.embedding, "{wish:?}");
            } else {
                assert!(expected.tokens.starts_with(&tokens), "{wish:?}: {tokens:?} {expected:?}");
                assert!(expected.prompt.starts_with(&prompt), "{wish:?}: {prompt:?}");
            }
        }
        self.engine.scheduler_mut().forget();
        let empty = self.engine.scheduler().stats();
        assert_eq!((empty.free_pages, empty.cached_pages), (empty.pages, 0));
        stats
    }

    /// Whether an answer ended on its own, as it must; false if something ended it early.
    fn is_whole(&self, heard: &Heard, expected: &Alone) -> bool {
        match heard.events.last() {
            Some(Event::Finished { finish: Finish::Cancelled, .. }) => false,
            Some(Event::Finished { finish, usage }) => {
                assert_eq!(End::Finished(*finish), expected.end);
                assert_eq!(usage.answer_tokens, expected.tokens.len());
                true
            }
            Some(Event::Failed(fault)) => {
                let own = matches!(fault, Fault::Panic(_) | Fault::Constraint(_));
                let own = own && expected.end == End::Failed && heard.tokens() == expected.tokens;
                let own = own && heard.prompt() == expected.prompt;
                assert!(own || self.shaky && !matches!(fault, Fault::Constraint(_)), "{fault:?}");
                own
            }
            end => panic!("no ending: {end:?}"),
        }
    }
}
