//! What serving promises, each in a small scene in model time.

use std::collections::BTreeMap;
use std::time::Duration;

use qwire_engine::toy::{Clock, Toy};
use qwire_engine::{
    Allowed, Choice, Class, Constraint, Engine, Event, Finish, MOST_GUESSES, Mask, Miss, Pooling,
    Refusal, Report, Request, RequestId, Salt, Sampling, Settings,
};
use qwire_model::TokenId;

const VOCAB: usize = 50;
const LAYERS: usize = 6;

/// An engine on a toy, and everything that was heard with its time.
struct Scene {
    engine: Engine,
    clock: Clock,
    heard: BTreeMap<(u64, usize), Vec<(Duration, Event)>>,
}

impl Scene {
    fn new(pages: usize, settings: Settings) -> Self {
        let clock = Clock::default();
        let mut toy = Toy::new(VOCAB, LAYERS, (512, 64, pages));
        toy.cost = (Duration::from_millis(2), Duration::from_micros(50));
        toy.head = Duration::from_millis(1);
        toy.clock = clock.clone();
        let engine = Engine::new(Box::new(toy), settings);
        Self { engine, clock, heard: BTreeMap::new() }
    }

    fn ask(&mut self, id: u64, request: Request) {
        let asked = self.engine.submit(RequestId(id), request, self.clock.now());
        asked.expect("it is accepted");
    }

    fn turn(&mut self) -> bool {
        let (clock, heard) = (self.clock.clone(), &mut self.heard);
        let worked = self.engine.turn(&|| clock.now(), &mut |delivery| {
            let key = (delivery.request.0, delivery.choice);
            heard.entry(key).or_default().push((clock.now(), delivery.event));
        });
        self.engine.scheduler().audit().expect("pages are conserved");
        worked
    }

    fn finish(&mut self) {
        while self.turn() {}
    }

    fn cancel(&mut self, id: u64) {
        self.engine.scheduler_mut().cancel(RequestId(id), self.clock.now());
    }

    fn tokens(&self, id: u64, choice: usize) -> Vec<u32> {
        let token = |(_, event): &(Duration, Event)| match event {
            Event::Token(sampled) => Some(sampled.token.0),
            _ => None,
        };
        self.heard[&(id, choice)].iter().filter_map(token).collect()
    }

    /// When each token came.
    fn times(&self, id: u64) -> Vec<Duration> {
        let tokens = self.heard[&(id, 0)].iter().filter(|(_, e)| matches!(e, Event::Token(_)));
        tokens.map(|(time, _)| *time).collect()
    }

    fn cached(&self, id: u64, choice: usize) -> usize {
        match self.heard[&(id, choice)].first() {
            Some((_, Event::Started { cached_tokens })) => *cached_tokens,
            first => panic!("not started: {first:?}"),
        }
    }

    fn ending(&self, id: u64) -> Option<Finish> {
        match self.heard.get(&(id, 0))?.last()?.1 {
            Event::Finished { finish, .. } => Some(finish),
            _ => None,
        }
    }

    /// Turns until the answer has at least so many tokens.
    fn until(&mut self, id: u64, tokens: usize) {
        while !self.heard.contains_key(&(id, 0)) || self.times(id).len() < tokens {
            assert!(self.turn());
        }
    }

    /// The longest time between two tokens of an answer after the first `from`.
    fn gap(&self, id: u64, from: usize) -> Duration {
        let times = &self.times(id)[from..];
        times.windows(2).map(|w| w[1].saturating_sub(w[0])).max().expect("two tokens")
    }

    fn computed(&self) -> u64 {
        self.engine.scheduler().stats().counters.computed
    }
}

fn prompt(seed: u32, len: u32) -> Vec<TokenId> {
    (0..len)
        .map(|at| TokenId((at * at * 7 + at * 13 + seed * 31 + at / 9) % VOCAB as u32))
        .collect()
}

fn request(prompt: Vec<TokenId>, max_tokens: usize) -> Request {
    let choices = vec![Choice::plain(Sampling::default())];
    Request { prompt, choices, max_tokens, ..Request::default() }
}

/// The answer of a request that is alone.
fn alone(request: Request) -> Vec<u32> {
    let mut scene = Scene::new(64, Settings::default());
    scene.ask(0, request);
    scene.finish();
    scene.tokens(0, 0)
}

#[test]
fn a_long_prompt_at_most_doubles_the_others_gaps() {
    for (streams, report) in [
        (1, Report::Nothing),
        (3, Report::Nothing),
        (8, Report::Nothing),
        (1, Report::Logprobs(2)),
        (4, Report::Logprobs(2)),
        (4, Report::Embedding(Pooling::Mean)),
    ] {
        let mut scene = Scene::new(200, Settings::default());
        for id in 0..streams {
            scene.ask(id, request(prompt(id as u32, 20), 1200));
        }
        (0..streams).for_each(|id| scene.until(id, 20));
        let quiet = scene.gap(0, 10);
        let before = scene.times(0).len();
        scene.ask(99, Request { report, ..request(prompt(77, 3000), 1) });
        while scene.ending(99).is_none() {
            assert!(scene.turn());
        }
        assert!(scene.times(0).len() > before + 20, "streams go on meanwhile");
        for id in 0..streams {
            let beside = scene.gap(id, before - 1);
            let what = format!("{streams} streams, {report:?}");
            assert!(beside <= 2 * quiet, "{what}: {beside:?}, {quiet:?} without");
        }
        let share = scene.times(0).len() - before;
        assert!(share < 900, "the prompt takes what it may: {share} tokens meanwhile");
    }
}

#[test]
fn a_chunk_begun_alone_makes_way_for_an_answer_and_only_once() {
    let mut scene = Scene::new(400, Settings::default());
    let short = || request(prompt(1, 100), 30);
    scene.ask(0, short());
    scene.finish();
    let quiet = scene.gap(0, 0);
    scene.ask(1, request(prompt(2, 20_000), 3));
    for id in 2..12 {
        for _ in 0..9 {
            scene.turn();
        }
        scene.ask(id, short());
        scene.until(id, 30);
        let beside = scene.gap(id, 0);
        assert!(beside <= 2 * quiet, "answer {id}: {beside:?}, {quiet:?} without");
    }
    scene.finish();
    let others = 11 * 30 + 100;
    assert!(scene.computed() <= 20_000 + 512 + others, "{}", scene.computed());
    assert_eq!(scene.times(1).len(), 3);
}

#[test]
fn a_start_is_told_before_anything_is_computed() {
    let mut scene = Scene::new(400, Settings::default());
    for (id, cached) in [(0, 0), (1, 0), (2, 256)] {
        let (asked, seed) = (scene.clock.now(), id as u32 % 2);
        scene.ask(id, request(prompt(seed, 300), 90));
        scene.turn();
        assert_eq!((scene.heard[&(id, 0)][0].0, scene.cached(id, 0)), (asked, cached));
        scene.until(id, 1);
    }
}

#[test]
fn who_waits_for_a_prefix_hears_how_far_it_is() {
    let mut scene = Scene::new(64, Settings::default());
    scene.ask(0, request(prompt(1, 2000), 5));
    scene.turn();
    let mut longer = prompt(1, 1500);
    longer.extend(prompt(2, 300));
    scene.ask(1, request(longer, 5));
    scene.finish();
    let heard = scene.heard[&(1, 0)].iter().map(|(_, event)| event);
    let progress = heard.clone().map_while(|event| match event {
        Event::Prefill { done, total: 1800 } => Some(*done),
        _ => None,
    });
    let progress: Vec<_> = progress.collect();
    assert!(progress.len() > 2 && progress.is_sorted(), "{progress:?}");
    let start = heard.clone().nth(progress.len());
    assert_eq!(start, Some(&Event::Started { cached_tokens: 1500 }), "{progress:?}");
}

#[test]
fn many_choices_do_not_hide_who_comes_later() {
    let settings = Settings { running: 4, ..Settings::default() };
    let mut scene = Scene::new(200, settings);
    let choices = Choice::several(&Sampling::default(), 8);
    scene.ask(0, Request { choices, ..request(prompt(1, 4000), 4) });
    scene.turn();
    scene.ask(1, request(prompt(2, 50), 4));
    scene.finish();
    assert!(scene.times(1)[3] < scene.times(0)[0], "it does not wait for the long prompt");
}

#[test]
fn nobody_is_pushed_aside_in_vain() {
    let settings = Settings { running: 2, ..Settings::default() };
    let mut scene = Scene::new(10, settings);
    let of = |class, seed, len| Request { class, ..request(prompt(seed, len), 40) };
    scene.ask(0, of(Class::Interactive, 0, 400));
    scene.ask(1, of(Class::Background, 1, 10));
    scene.until(1, 1);
    scene.ask(2, of(Class::Normal, 2, 250));
    scene.finish();
    let found = (scene.engine.scheduler().stats().counters.preempted, scene.times(1).len());
    assert_eq!(found, (0, 40), "there are no pages for the third, whoever goes");
}

#[test]
fn the_second_turn_computes_only_what_it_adds() {
    let mut scene = Scene::new(200, Settings::default());
    let first = prompt(1, 4000);
    scene.ask(0, request(first.clone(), 10));
    scene.finish();
    scene.ask(1, request(prompt(2, 500), 10));
    scene.finish();
    let mut second = first;
    second.extend(scene.tokens(0, 0).iter().map(|token| TokenId(*token)));
    let known = second.len() - 1; // the last token was told and never computed
    second.extend(prompt(3, 30));
    let before = scene.computed();
    scene.ask(2, request(second.clone(), 1));
    scene.finish();
    assert_eq!(scene.cached(2, 0), known);
    assert_eq!(scene.computed() - before, (second.len() - known) as u64);
    assert_eq!(scene.tokens(2, 0), alone(request(second, 1)));
}

#[test]
fn several_choices_compute_their_prompt_once() {
    let mut scene = Scene::new(64, Settings::default());
    let sampling = Sampling { temperature: 1.0, seed: 5, ..Sampling::default() };
    let asked = |n| {
        let choices = Choice::several(&sampling, n);
        Request { choices, ..request(prompt(1, 300), 6) }
    };
    scene.ask(0, asked(4));
    scene.finish();
    let positions = 300 + 5 + 3 * (1 + 5);
    assert_eq!(scene.computed(), positions);
    assert_eq!(scene.tokens(0, 0), alone(asked(1)), "the first choice is that of n = 1");
    let all: Vec<_> = (0..4).map(|choice| scene.tokens(0, choice)).collect();
    assert!(all.iter().skip(1).all(|tokens| *tokens != all[0]), "{all:?}");
}

#[test]
fn a_retry_attaches_to_the_prompt_that_is_being_read() {
    let mut scene = Scene::new(64, Settings::default());
    scene.ask(0, request(prompt(1, 1000), 5));
    scene.turn();
    scene.ask(1, request(prompt(1, 1000), 5));
    scene.cancel(0);
    scene.finish();
    assert_eq!(scene.ending(0), Some(Finish::Cancelled));
    assert_eq!(scene.computed(), 1000 + 4, "nothing was computed twice");
    assert_eq!(scene.engine.scheduler().stats().counters.handed_over, 1);
    assert_eq!(scene.tokens(1, 0), alone(request(prompt(1, 1000), 5)));
}

#[test]
fn a_prompt_of_one_chunk_is_shared_while_it_is_read() {
    let short = || request(prompt(1, 200), 5);
    let mut scene = Scene::new(64, Settings::default());
    scene.ask(0, short());
    scene.turn();
    scene.ask(1, short());
    scene.turn();
    scene.finish();
    assert_eq!(scene.computed(), 200 + 1 + 2 * 4, "only the last position was computed twice");
    assert_eq!(scene.tokens(0, 0), scene.tokens(1, 0));
}

#[test]
fn a_cancelled_prompt_stops_at_once_and_what_was_read_stays() {
    let mut scene = Scene::new(64, Settings::default());
    scene.ask(0, request(prompt(1, 2000), 5));
    while scene.computed() < 1000 {
        scene.turn();
    }
    let (asked, done) = (scene.clock.now(), scene.computed());
    scene.cancel(0);
    assert!(!scene.turn(), "nothing is left to do");
    assert_eq!((scene.clock.now(), scene.computed()), (asked, done));
    scene.ask(1, request(prompt(1, 2000), 5));
    scene.finish();
    assert_eq!(scene.cached(1, 0), done as usize / 64 * 64 + done as usize % 64);
}

#[test]
fn an_urgent_request_goes_first_and_no_class_starves() {
    let settings = Settings { running: 2, ..Settings::default() };
    let mut scene = Scene::new(64, settings);
    let of = |class, seed| Request { class, ..request(prompt(seed, 100), 10) };
    scene.ask(0, of(Class::Background, 0));
    scene.ask(1, of(Class::Normal, 1));
    scene.ask(2, of(Class::Interactive, 2));
    scene.ask(3, of(Class::Interactive, 3));
    scene.finish();
    let start = |id| scene.heard[&(id, 0)][0].0;
    assert!(start(2) <= start(3) && start(3) <= start(1) && start(1) <= start(0));

    // Interactive requests without end: more of them than can be served.
    let mut scene = Scene::new(64, settings);
    scene.ask(0, of(Class::Background, 0));
    let mut id = 1;
    while scene.ending(0).is_none() {
        while scene.engine.scheduler().waiting() < 8 {
            scene.ask(id, of(Class::Interactive, id as u32));
            id += 1;
        }
        assert!(scene.turn());
    }
    let took = scene.clock.now();
    assert!(took > settings.patience[2] && took < settings.patience[2] + Duration::from_secs(5));
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let mut scene = Scene::new(400, Settings::default());
    scene.ask(0, request(prompt(0, 600), 1));
    scene.finish();
    scene.ask(1, request(prompt(1, 20_000), 1));
    for _ in 0..3 {
        scene.turn();
    }
    let asked = scene.clock.now();
    scene.ask(2, request(prompt(2, 100), 1));
    scene.finish();
    let (short, long) = (scene.times(2)[0], scene.times(1)[0]);
    assert!(short < asked + Duration::from_millis(500) && short < long, "{short:?}, {long:?}");
}

#[test]
fn too_few_pages_cost_time_and_no_bits() {
    let mut scene = Scene::new(9, Settings::default());
    let asked = |id: u32| request(prompt(id, 150), 120);
    for id in 0..5 {
        scene.ask(u64::from(id), asked(id));
    }
    scene.finish();
    assert!(scene.engine.scheduler().stats().counters.preempted > 0);
    for id in 0..5 {
        assert_eq!(scene.tokens(u64::from(id), 0), alone(asked(id)), "request {id}");
    }
}

#[test]
fn tenants_share_nothing() {
    let mut scene = Scene::new(64, Settings::default());
    let of = |salt| Request { salt: Salt(salt), ..request(prompt(1, 300), 2) };
    for (id, salt, cached) in [(0, 1, 0), (1, 2, 0), (2, 1, 299)] {
        scene.ask(id, of(salt));
        scene.finish();
        assert_eq!(scene.cached(id, 0), cached, "request {id}");
    }
    let scheduler = scene.engine.scheduler();
    let mut other = prompt(1, 300);
    other[200] = TokenId(49);
    let found = scheduler.explain(Salt(1), &other);
    assert_eq!(found.cached_tokens, 200);
    assert!(matches!(found.miss, Miss::Diverged { position: 200, .. }), "{found:?}");
    assert_eq!(scheduler.explain(Salt(3), &other).miss, Miss::Unknown);
    let listed = |salt| scheduler.cache(salt, 9, scene.clock.now()).prefixes.len();
    assert_eq!([None, Some(Salt(1)), Some(Salt(3))].map(listed), [2, 1, 0]);
}

/// Allows one token only.
struct Monotone(TokenId);

impl Constraint for Monotone {
    fn allowed(&mut self, mask: &mut Mask) -> Result<Allowed, String> {
        mask.allow(self.0);
        Ok(Allowed::Mask)
    }

    fn advance(&mut self, token: TokenId) -> Result<(), String> {
        if token == self.0 { Ok(()) } else { Err(format!("{token:?} was not allowed")) }
    }
}

#[test]
fn an_answer_that_goes_round_ends() {
    let mut scene = Scene::new(64, Settings::default());
    let constraint = || Some(Box::new(Monotone(TokenId(7))) as Box<dyn Constraint>);
    for (id, guard_repetition) in [(0, true), (1, false)] {
        let choices = vec![Choice { constraint: constraint(), ..Choice::default() }];
        scene.ask(id, Request { choices, guard_repetition, ..request(prompt(1, 10), 700) });
    }
    scene.finish();
    assert_eq!((scene.ending(0), scene.tokens(0, 0)), (Some(Finish::Repetition), vec![7; 512]));
    assert_eq!((scene.ending(1), scene.tokens(1, 0)), (Some(Finish::Length), vec![7; 700]));
}

#[test]
fn what_can_never_be_served_is_refused_at_once() {
    let settings = Settings { waiting: 3, ..Settings::default() };
    let mut scene = Scene::new(4, settings);
    let mut check = |request: Request, expected: &Refusal| {
        let found = scene.engine.submit(RequestId(9), request, Duration::ZERO);
        assert_eq!(found.as_ref(), Err(expected));
    };
    check(request(vec![], 1), &Refusal::Empty);
    check(request(prompt(1, 257), 1), &Refusal::TooLong { tokens: 257, context: 256 });
    check(request(vec![TokenId(50)], 1), &Refusal::Vocabulary { token: 50, vocab: VOCAB });
    let many = Choice::several(&Sampling::default(), 4);
    let asked = Request { choices: many, ..request(prompt(1, 9), 1) };
    check(asked, &Refusal::Choices { found: 4, most: 3 });
    let hot = Sampling { temperature: -1.0, ..Sampling::default() };
    let asked = Request { choices: vec![Choice::plain(hot)], ..request(prompt(1, 9), 1) };
    let found = scene.engine.submit(RequestId(9), asked, Duration::ZERO);
    assert!(matches!(found, Err(Refusal::Sampling(_))), "{found:?}");
    for id in 0..3 {
        scene.ask(id, request(prompt(1, 9), 1));
    }
    let found = scene.engine.submit(RequestId(9), request(prompt(1, 9), 1), Duration::ZERO);
    assert_eq!(found, Err(Refusal::Full { waiting: 3 }));
}

/// Titles, summaries and probes are many and short of memory; the conversation they are about goes
/// on where it was.
#[test]
fn what_runs_in_the_background_evicts_no_conversation() {
    let mut scene = Scene::new(24, Settings::default());
    let of = |class, seed, len| Request { class, ..request(prompt(seed, len), 4) };
    // A conversation of 10 pages, and an older one of 8.
    scene.ask(0, of(Class::Normal, 1, 500));
    scene.finish();
    scene.ask(1, of(Class::Interactive, 2, 630));
    scene.finish();
    for id in 2..40 {
        scene.ask(id, of(Class::Background, id as u32, 300));
        scene.finish();
    }
    scene.ask(40, of(Class::Interactive, 2, 630));
    scene.finish();
    assert_eq!(scene.cached(40, 0), 629);
}

/// An answer that goes round in thirteen tokens, and may end at one of them.
fn circling(tokens: usize, end: Option<u32>) -> Request {
    struct Round(u32, Option<u32>);
    impl Constraint for Round {
        fn allowed(&mut self, mask: &mut Mask) -> Result<Allowed, String> {
            let ends = self.1 == Some(self.0);
            mask.allow(TokenId(if ends { 0 } else { 1 + self.0 % 13 }));
            Ok(Allowed::Mask)
        }
        fn advance(&mut self, _: TokenId) -> Result<(), String> {
            self.0 += 1;
            Ok(())
        }
    }
    let mut request = Request { ends: vec![TokenId(0)], ..request(prompt(3, 40), tokens) };
    request.choices[0].constraint = Some(Box::new(Round(0, end)));
    request
}

#[test]
fn what_is_guessed_comes_sooner_and_is_the_same() {
    let scene = |guesses: usize| {
        let mut scene = Scene::new(64, Settings { guesses, ..Settings::default() });
        scene.ask(0, circling(300, None));
        scene.finish();
        scene
    };
    let (without, with) = (scene(0), scene(MOST_GUESSES));
    assert_eq!(with.tokens(0, 0), without.tokens(0, 0));
    let counters = |scene: &Scene| scene.engine.scheduler().stats().counters;
    let (few, many) = (counters(&with), counters(&without));
    assert_eq!((many.steps, many.guessed), (300 - 1, 0));
    assert!(few.guessed_right > 250, "{} of {} right", few.guessed_right, few.guessed);
    assert_eq!(few.steps + few.guessed_right, many.steps, "each right guess spares a step");
    assert!(3 * with.clock.now() < without.clock.now(), "{:?}", with.clock.now());
}

#[test]
fn what_was_predicted_comes_sooner_and_is_the_same() {
    let said = alone(request(prompt(4, 70), 200));
    let predicted = |prediction: Vec<u32>| {
        let mut scene = Scene::new(64, Settings::default());
        let prediction = prediction.into_iter().map(TokenId).collect();
        scene.ask(0, Request { prediction, ..request(prompt(4, 70), 200) });
        scene.finish();
        assert_eq!(scene.tokens(0, 0), said);
        let told = scene.heard[&(0, 0)].iter().rev().find_map(|(_, event)| match event {
            Event::Predicted { accepted, rejected } => Some((*accepted, *rejected)),
            _ => None,
        });
        (told.unwrap_or_default(), scene.engine.scheduler().stats().counters.steps)
    };
    let (_, many) = predicted(Vec::new());
    let ((accepted, rejected), few) = predicted(said.clone());
    assert!(accepted > 150 && rejected == 0, "{accepted} accepted, {rejected} rejected");
    assert!(4 * few < many, "{few} steps instead of {many}");
    // One line of it is another, and it does not begin with the beginning.
    let mut other = said[20..].to_vec();
    other[80..90].fill(1);
    let ((accepted, rejected), few) = predicted(other);
    assert!(accepted > 100 && rejected > 0, "{accepted} accepted, {rejected} rejected");
    assert!(2 * few < many, "{few} steps instead of {many}");
    let ((accepted, _), steps) = predicted(vec![1; 300]);
    assert!(accepted == 0 && steps <= many, "{accepted} accepted, {steps} steps");
}

#[test]
fn what_is_forced_comes_sooner_and_a_false_promise_costs_no_token() {
    /// Says what comes next, perhaps falsely.
    struct Spelt(usize, fn(usize) -> u32);
    impl Constraint for Spelt {
        fn allowed(&mut self, mask: &mut Mask) -> Result<Allowed, String> {
            mask.allow(TokenId(letter(self.0)));
            Ok(Allowed::Mask)
        }
        fn advance(&mut self, _: TokenId) -> Result<(), String> {
            self.0 += 1;
            Ok(())
        }
        fn forced(&self) -> Vec<TokenId> {
            (self.0..self.0 + 4).map(|at| TokenId(self.1(at))).collect()
        }
    }
    /// Nothing comes again.
    fn letter(at: usize) -> u32 {
        (at * at * 5 + at / 3) as u32 % 48
    }
    let steps = |promise: Option<fn(usize) -> u32>| {
        let mut asked = request(prompt(3, 40), 120);
        let guesses = if promise.is_some() { MOST_GUESSES } else { 0 };
        let spelt = Spelt(0, promise.unwrap_or(letter));
        asked.choices[0].constraint = Some(Box::new(spelt));
        let mut scene = Scene::new(64, Settings { guesses, ..Settings::default() });
        scene.ask(0, asked);
        scene.finish();
        let spelt: Vec<u32> = (0..120).map(letter).collect();
        assert_eq!(scene.tokens(0, 0), spelt);
        scene.engine.scheduler().stats().counters.steps
    };
    let plain = steps(None);
    let (kept, broken) = (steps(Some(letter)), steps(Some(|at| letter(at) ^ 1)));
    assert!(3 * kept < plain && broken <= plain, "{kept} and {broken} of {plain} steps");
}

#[test]
fn guesses_take_nobody_elses_time() {
    let mut scene = Scene::new(64, Settings::default());
    scene.ask(0, circling(300, None));
    scene.ask(1, request(prompt(5, 90), 100));
    scene.until(1, 100);
    assert_eq!(scene.engine.scheduler().stats().counters.guessed, 0);
    scene.finish();
    assert!(scene.engine.scheduler().stats().counters.guessed > 0, "the other is alone now");
}

#[test]
fn a_guess_pushes_no_cached_page_out() {
    // Two pages are cached from before, one is for an answer that ends before it is full.
    let guessed = [3, 4].map(|pages| {
        let mut scene = Scene::new(pages, Settings::default());
        scene.ask(0, request(prompt(1, 70), 1));
        scene.finish();
        scene.ask(1, circling(99, Some(23)));
        scene.finish();
        assert_eq!((scene.ending(1), scene.tokens(1, 0).len()), (Some(Finish::Stop), 23));
        let counters = scene.engine.scheduler().stats().counters;
        assert_eq!(counters.evicted, 0);
        counters.guessed
    });
    assert!(guessed[0] == 0 && guessed[1] > 0, "{guessed:?}");
}
