//! The service from other threads: events, cancels, slow readers, faults, and the end.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use qwire_engine::toy::Toy;
use qwire_engine::{
    Answer, Choice, Engine, Event, Fault, Finish, Health, Miss, Refusal, Request, Salt, Sampling,
    Service, Settings, TokenId,
};
use qwire_model::{Batch, Limits, PageForm, PageId, Poison, Runner};

const VOCAB: usize = 50;

/// A toy whose steps take real time, and that panics on one token.
struct Slow {
    toy: Toy,
    pause: Duration,
}

const FATAL: TokenId = TokenId(49);

impl Runner for Slow {
    fn vocab(&self) -> usize {
        self.toy.vocab()
    }

    fn layers(&self) -> usize {
        self.toy.layers()
    }

    fn limits(&self) -> Limits {
        self.toy.limits()
    }

    fn step(&mut self, batch: &Batch) -> Vec<Poison> {
        std::thread::sleep(self.pause);
        self.toy.step(batch)
    }

    fn park(&mut self, batch: Batch) {
        assert!(!batch.tokens.contains(&FATAL), "provoked");
        self.toy.park(batch);
    }

    fn advance(&mut self, layers: usize) -> Option<Vec<Poison>> {
        std::thread::sleep(self.pause);
        self.toy.advance(layers)
    }

    fn logits(&mut self, outputs: Range<usize>) -> &[f32] {
        self.toy.logits(outputs)
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        self.toy.hidden(outputs)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.toy.copy_page(from, to);
    }

    fn page_form(&self) -> PageForm {
        self.toy.page_form()
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        self.toy.read_page(page, bytes);
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        self.toy.write_page(page, bytes);
    }
}

fn service(pause_us: u64, waiting: usize) -> Service {
    let pause = Duration::from_micros(pause_us);
    let runner = Slow { toy: Toy::new(VOCAB, 4, (64, 8, 64)), pause };
    let settings = Settings { waiting, ..Settings::default() };
    Service::start(Engine::new(Box::new(runner), settings)).expect("a thread starts")
}

fn request(seed: u32, len: u32, max_tokens: usize) -> Request {
    let token = |at: u32| TokenId((at * at * 7 + seed * 31 + at / 9) % FATAL.0);
    Request {
        prompt: (0..len).map(token).collect(),
        choices: vec![Choice::plain(Sampling::default())],
        max_tokens,
        ..Request::default()
    }
}

/// Reads an answer to its end.
fn read(answer: &Answer) -> (Vec<u32>, Event) {
    let mut tokens = Vec::new();
    loop {
        match answer.events.recv().expect("an ending comes first").1 {
            Event::Token(sampled) => tokens.push(sampled.token.0),
            event if event.is_ending() => return (tokens, event),
            _ => {}
        }
    }
}

fn finish(event: &Event) -> Option<Finish> {
    match event {
        Event::Finished { finish, .. } => Some(*finish),
        _ => None,
    }
}

#[test]
fn many_threads_get_what_each_gets_alone() {
    let service = Arc::new(service(0, 256));
    let alone: Vec<_> =
        (0..8).map(|seed| read(&service.answer(request(seed, 90, 30)).unwrap())).collect();
    let threads: Vec<_> = (0..32_u32)
        .map(|i| {
            let (service, expected) = (service.clone(), alone[i as usize % 8].0.clone());
            std::thread::spawn(move || {
                let answer = service.answer(request(i % 8, 90, 30)).expect("accepted");
                assert_eq!(read(&answer).0, expected);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("the same tokens"));
    let stats = service.ask(|scheduler, _| scheduler.stats()).expect("it lives");
    assert_eq!((stats.counters.exhausted, stats.running, stats.waiting), (40, 0, 0));
    assert!(stats.counters.hit_ratio() > 0.5);
}

#[test]
fn dropping_the_handle_cancels() {
    let service = service(300, 256);
    let long = service.answer(request(1, 60, 100_000)).unwrap();
    let (sender, events) = mpsc::channel();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let sink = move |_, event: Event| {
        let ending = event.is_ending();
        sender.send(event).expect("the test listens");
        // Takes five events and then no more.
        ending || count.fetch_add(1, Ordering::Relaxed) < 5
    };
    let refusing = service.submit(request(2, 60, 100_000), Box::new(sink)).unwrap();
    let last = events.iter().last().expect("events");
    assert_eq!(finish(&last), Some(Finish::Cancelled));
    assert!(taken.load(Ordering::Relaxed) < 9, "it ends within a step or two");
    drop(refusing);
    let Answer { handle, events } = long;
    drop(handle);
    let last = events.iter().last().expect("events").1;
    assert_eq!(finish(&last), Some(Finish::Cancelled));
    let stats = service.ask(|scheduler, _| scheduler.stats()).unwrap();
    assert_eq!((stats.running, stats.kv_use()), (0, 0.0));
}

#[test]
fn a_sink_that_stops_hears_the_end_though_nothing_else_runs() {
    let service = service(0, 256);
    let (sender, events) = mpsc::channel();
    let sink = move |_, event: Event| {
        let more = !matches!(event, Event::Token(_));
        sender.send(event).expect("the test listens");
        more
    };
    let _handle = service.submit(request(1, 60, 100_000), Box::new(sink)).unwrap();
    let ending = loop {
        let event = events.recv_timeout(Duration::from_secs(20)).expect("an ending comes");
        if event.is_ending() {
            break event;
        }
    };
    assert_eq!(finish(&ending), Some(Finish::Cancelled));
}

#[test]
fn a_queue_that_was_cancelled_has_room_again() {
    let service = service(20_000, 2);
    let first = service.answer(request(1, 10, 100_000)).unwrap();
    let others: Vec<_> =
        (2..4).filter_map(|seed| service.answer(request(seed, 10, 9)).ok()).collect();
    drop((first, others));
    std::thread::sleep(Duration::from_millis(300)); // the engine has nothing to do
    assert!(service.answer(request(9, 10, 1)).is_ok(), "nobody waits");
}

#[test]
fn the_queue_is_bounded_and_nobody_waits_to_hear_so() {
    let service = service(2000, 4);
    let mut kept = Vec::new();
    let started = Instant::now();
    let refused = (0..100).find_map(|seed| match service.answer(request(seed, 60, 1000)) {
        Ok(answer) => {
            kept.push(answer);
            None
        }
        Err(refusal) => Some(refusal),
    });
    assert_eq!(refused, Some(Refusal::Full { waiting: 4 }));
    assert!(started.elapsed() < Duration::from_millis(500));
}

#[test]
fn what_is_accepted_is_never_refused_later_and_refusals_are_counted() {
    // Too few pages for two answers, so that some go back to the queue during a turn.
    let runner = Slow { toy: Toy::new(VOCAB, 2, (64, 8, 5)), pause: Duration::from_micros(300) };
    let settings = Settings { waiting: 1, ..Settings::default() };
    let service = Service::start(Engine::new(Box::new(runner), settings)).expect("a thread starts");
    let (mut kept, mut refused) = (Vec::new(), 0);
    for seed in 0..4000 {
        let asked = Request { ends: vec![FATAL], ..request(seed % 40, 60, 120) };
        match service.answer(asked) {
            Ok(answer) => kept.push(answer),
            Err(Refusal::Full { .. }) => refused += 1,
            Err(refusal) => panic!("{refusal}"),
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    for answer in &kept {
        let end = finish(&read(answer).1);
        assert!(matches!(end, Some(Finish::Length | Finish::Stop)), "{end:?}");
    }
    let counters = service.ask(|scheduler, _| scheduler.stats()).expect("it lives").counters;
    assert!(counters.preempted > 0 && refused > 0 && kept.len() > 2, "{counters:?}");
    assert_eq!((counters.refused, service.stats().counters.refused), (refused, refused));
}

#[test]
fn the_cache_is_shown_explained_and_cleared() {
    let service = service(0, 4);
    let prompt = request(1, 200, 1).prompt;
    read(&service.answer(request(1, 200, 1)).unwrap());
    let listing = service.ask(|scheduler, now| scheduler.cache(None, 1, now)).unwrap();
    assert_eq!((listing.pages, listing.tokens, listing.prefixes[0].tokens), (4, 200, 200));
    let mut other = prompt.clone();
    other[100] = FATAL;
    let found = service.ask(move |scheduler, _| scheduler.explain(Salt(0), &other)).unwrap();
    let cached = prompt[100..116].to_vec();
    assert_eq!((found.tokens, found.cached_tokens), (200, 100));
    assert_eq!(found.miss, Miss::Diverged { position: 100, cached });
    assert_eq!(service.ask(|scheduler, _| scheduler.forget()), Some(4));
    let found = service.ask(move |scheduler, _| scheduler.explain(Salt(0), &prompt)).unwrap();
    assert_eq!((found.cached_tokens, found.miss), (0, Miss::Evicted { position: 0 }));
}

#[test]
fn a_reader_that_does_not_read_stops_nobody() {
    let service = service(0, 256);
    let asleep = service.answer(request(1, 60, 1900)).unwrap();
    let awake = read(&service.answer(request(2, 60, 1900)).unwrap());
    assert_eq!(awake.0.len(), 1900);
    let late = read(&asleep);
    assert_eq!((late.0.len(), finish(&late.1)), (1900, Some(Finish::Length)));
}

#[test]
fn a_drain_lets_answers_end_until_its_time_is_over() {
    let service = service(100, 256);
    let short = service.answer(request(1, 60, 20)).unwrap();
    service.drain(Duration::from_mins(1));
    assert_eq!(finish(&read(&short).1), Some(Finish::Length));
    assert!(matches!(service.answer(request(1, 9, 1)), Err(Refusal::Draining)));
    let service = self::service(1000, 256);
    let long = service.answer(request(1, 60, 1_000_000)).unwrap();
    service.drain(Duration::from_millis(50));
    assert_eq!(read(&long).1, Event::Failed(Fault::Shutdown));
    assert!(service.ask(|_, _| ()).is_none());
}

#[test]
fn a_panic_ends_whose_rows_it_had_and_two_in_a_minute_are_a_pattern() {
    let service = service(200, 256);
    let (alone, _) = read(&service.answer(request(1, 60, 300)).unwrap());
    for (crashes, health) in [(1, Health::Sound), (2, Health::Broken)] {
        let other = service.answer(request(1, 60, 300)).unwrap();
        let mut fatal = request(2, 60, 5);
        fatal.prompt[30] = FATAL;
        let fatal = service.answer(fatal).unwrap();
        assert!(matches!(read(&fatal).1, Event::Failed(Fault::Panic(_))));
        assert_eq!(read(&other).0, alone, "the others go on");
        assert_eq!((service.stats().counters.crashes, service.health()), (crashes, health));
    }
    assert!(service.ask(|_, _| panic!("provoked")).is_none());
    assert!(service.ask(|scheduler, _| scheduler.audit()).expect("it lives").is_ok());
}
