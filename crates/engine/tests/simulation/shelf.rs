//! A shelf: a store in model time that is slow, full, forgetful, and lies about what it sends.
//!
//! What it never does is send a page that is not what was kept: that is what a store is for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use qwire_engine::toy::Clock;
use qwire_engine::{Arrival, Bell, Fetch, Holding, Key, Named, Salt, Store};

use crate::shaky::Random;

const PAGE: usize = 64;

pub struct Shelf {
    clock: Clock,
    desk: Mutex<Desk>,
}

struct Desk {
    random: Random,
    opens: Duration,
    /// Between two events.
    pace: Duration,
    pages: BTreeMap<Key, Vec<u8>>,
    /// When each is there, in order.
    arrivals: VecDeque<(Duration, Arrival)>,
    /// When each is free again.
    sheets: Vec<Duration>,
    /// How rarely it breaks a rule.
    rarely: u64,
}

impl Shelf {
    pub fn new(random: &mut Random, clock: Clock) -> Self {
        let us = Duration::from_micros;
        let desk = Desk {
            opens: us(random.below(3) * random.below(300_000)),
            pace: us(random.between(1, 9_000)),
            pages: BTreeMap::new(),
            arrivals: VecDeque::new(),
            sheets: vec![Duration::ZERO; random.between(1, 4) as usize],
            rarely: *random.pick(&[5, 50, u64::MAX]),
            random: Random(random.next()),
        };
        Self { clock, desk: Mutex::new(desk) }
    }

    /// When something may be different.
    pub fn next(&self) -> Option<Duration> {
        let desk = self.desk.lock().unwrap();
        let arrival = desk.arrivals.front().map(|(at, _)| *at);
        let now = self.clock.now();
        let others = desk.sheets.iter().copied().chain([desk.opens]).filter(|at| *at > now);
        arrival.into_iter().chain(others).min()
    }
}

impl Desk {
    fn breaks(&mut self) -> bool {
        self.rarely < u64::MAX && self.random.one_in(self.rarely)
    }

    fn send(&mut self, now: Duration, arrival: Arrival) {
        let last = self.arrivals.back().map_or(now, |(at, _)| (*at).max(now));
        let slow = if self.breaks() { Duration::from_secs(3) } else { Duration::ZERO };
        self.arrivals.push_back((last + self.pace + slow, arrival));
    }
}

impl Store for Shelf {
    fn attach(&self, _: Bell) {}

    fn is_open(&self) -> bool {
        self.clock.now() >= self.desk.lock().unwrap().opens
    }

    fn key(&self, salt: Salt, above: Option<Key>, tokens: &[u32]) -> Key {
        assert_eq!(tokens.len(), PAGE);
        let mut random = Random(salt.0 as u64);
        let above = above.map_or([0; 32], |key| key.0);
        let above = above.as_chunks().0.iter().map(|part| u64::from_le_bytes(*part));
        for part in above.chain(tokens.iter().map(|token| u64::from(*token))) {
            random = Random(random.next() ^ part);
        }
        let parts = [(); 4].map(|()| random.next().to_le_bytes());
        Key(*parts.as_flattened().as_array().expect("four times eight bytes"))
    }

    fn sheet(&self) -> Option<Vec<u8>> {
        let (now, mut desk) = (self.clock.now(), self.desk.lock().unwrap());
        let free = desk.sheets.iter().position(|at| *at <= now)?;
        desk.sheets[free] = now + desk.pace;
        Some(Vec::new())
    }

    fn keep(&self, name: Named, sheet: Vec<u8>) {
        let mut desk = self.desk.lock().unwrap();
        if !desk.breaks() {
            let before = desk.pages.insert(name.key, sheet.clone());
            assert!(before.is_none_or(|before| before == sheet), "one key, two pages");
        }
        if desk.breaks() {
            desk.pages.pop_first();
        }
    }

    fn touch(&self, _: Named) {}

    fn fetch(&self, fetch: Fetch) {
        let (now, mut desk) = (self.clock.now(), self.desk.lock().unwrap());
        assert!(fetch.tokens.len().is_multiple_of(PAGE) && fetch.skip * PAGE < fetch.tokens.len());
        let mut above = None;
        for (i, tokens) in fetch.tokens.chunks(PAGE).enumerate() {
            let key = self.key(fetch.salt, above.replace(Key([0; 32])), tokens);
            above = Some(key);
            if i < fetch.skip {
                continue;
            }
            let Some(mut page) = desk.pages.get(&key).cloned() else { break };
            if desk.breaks() {
                page.pop();
            }
            desk.send(now, Arrival::Page(fetch.id, page));
        }
        if desk.breaks() {
            let id = fetch.id + desk.random.below(3);
            desk.send(now, Arrival::Page(id, vec![1; PAGE])); // more than there is
        }
        if !desk.breaks() {
            desk.send(now, Arrival::End(fetch.id));
        }
    }

    fn arrived(&self) -> Option<Arrival> {
        let (now, mut desk) = (self.clock.now(), self.desk.lock().unwrap());
        let there = desk.arrivals.front().is_some_and(|(at, _)| *at <= now);
        there.then(|| desk.arrivals.pop_front().expect("one is there").1)
    }

    fn recycle(&self, _: Vec<u8>) {}

    fn abandon(&self, id: u64) {
        let mut desk = self.desk.lock().unwrap();
        if !desk.breaks() {
            let wanted = |arrival: &Arrival| match arrival {
                Arrival::Page(of, _) | Arrival::End(of) => *of != id,
            };
            desk.arrivals.retain(|(_, arrival)| wanted(arrival));
        }
    }

    fn holding(&self) -> Holding {
        Holding::default()
    }

    fn place(&self) -> String {
        "model time".into()
    }

    fn reach(&self, _: Salt, _: &[u32]) -> usize {
        0
    }

    fn clear(&self) -> usize {
        std::mem::take(&mut self.desk.lock().unwrap().pages).len()
    }

    fn settle(&self, _: Duration) {}
}
