//! The same tokens and log-probabilities for a request, whatever else the engine does meanwhile:
//! alone, among others, after a cache hit, after preemption, with any threads and chunks, and with
//! pages that an earlier engine left on the disk.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qwire_backend_cpu::Cpu;
use qwire_disk::{Disk, Identity, Terms};
use qwire_engine::{
    Choice, Engine, Event, MOST_GUESSES, Report, Request, RequestId, Sampled, Sampling, Settings,
};
use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::synthetic::{self, Recipe};
use qwire_model::{KvType, Limits, Loaded, PageForm, Runner, TokenId};

/// At hidden 1024, and three layers to park between.
fn model() -> Arc<File> {
    let shape = synthetic::shape("tiny-moe").expect("a shape");
    let mut recipe = Recipe::new(shape, synthetic::mix("q4_k_m").expect("a mix"), 21);
    recipe.layers = Some(3);
    synthetic::file(&recipe).expect("a model")
}

/// What a choice was told: tokens of its prompt, tokens of its answer.
type Told = (Vec<Sampled>, Vec<Sampled>);

struct Scene {
    engine: Engine,
    told: BTreeMap<(u64, usize), Told>,
    open: usize,
    /// A millisecond passes with each look, so that a scene replays.
    looks: u64,
}

impl Scene {
    fn new(file: &Arc<File>, threads: usize, pages: usize, settings: Settings) -> Self {
        Self::of(file, (threads, pages, KvType::F16), settings, None)
    }

    fn of(
        file: &Arc<File>,
        (threads, pages, kv): (usize, usize, KvType),
        settings: Settings,
        cache: Option<&Cache>,
    ) -> Self {
        let backend = Cpu::new(threads, Isa::detect()).expect("threads start");
        let limits = |_: &_| Limits { rows: 128, outputs: 16, pages, kv };
        let runner = Loaded::load(file, backend, limits, &mut |_, _| {}).expect("it loads");
        let form = runner.page_form();
        let mut engine = Engine::new(Box::new(runner), settings);
        if let Some(cache) = cache {
            engine = engine.with_store(cache.open(form));
        }
        Self { engine, told: BTreeMap::new(), open: 0, looks: 0 }
    }

    fn ask(&mut self, id: u64) {
        self.submit(id, request(id));
    }

    fn submit(&mut self, id: u64, request: Request) {
        self.open += request.choices.len();
        self.engine.submit(RequestId(id), request, Duration::ZERO).expect("accepted");
    }

    fn turn(&mut self) {
        let (ended, looks) = (Cell::new(0), Cell::new(self.looks));
        let told = &mut self.told;
        let clock = || {
            looks.set(looks.get() + 1);
            Duration::from_millis(looks.get())
        };
        let worked = self.engine.turn(&clock, &mut |delivery| {
            let told = told.entry((delivery.request.0, delivery.choice)).or_default();
            match delivery.event {
                Event::Prompt(part) => told.0.extend(part),
                Event::Token(sampled) => told.1.push(sampled),
                Event::Failed(fault) => panic!("{fault}"),
                Event::Finished { .. } => ended.set(ended.get() + 1),
                _ => {}
            }
        });
        self.open -= ended.get();
        self.looks = looks.get();
        if !worked {
            std::thread::sleep(Duration::from_micros(100)); // pages are being read
        }
    }

    /// Everything computed is on the disk.
    fn settle(&mut self) {
        while self.engine.turn(&|| Duration::ZERO, &mut |_| {}) {}
        self.engine.store().expect("there is one").settle(Duration::from_mins(1));
    }

    fn finish(&mut self) -> BTreeMap<(u64, usize), Told> {
        while self.open > 0 {
            self.turn();
        }
        self.engine.scheduler().audit().expect("pages are conserved");
        std::mem::take(&mut self.told)
    }
}

/// A folder of pages that is gone after the test.
struct Cache(PathBuf);

impl Cache {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("qwire-pages-{name}-{}", std::process::id())))
    }

    fn open(&self, form: PageForm) -> Arc<Disk> {
        let (folder, page_bytes) = (self.0.clone(), form.bytes);
        let terms = Terms { folder, limit_bytes: 1 << 30, reserve_bytes: 0, page_bytes };
        let disk = Disk::new(terms);
        let size = form.bytes.to_le_bytes();
        let identity = Identity::of(&[("layout", form.layout.as_bytes()), ("bytes", &size)]);
        disk.open(identity, 0.1).expect("it opens");
        Arc::new(disk)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Eight requests: three families of prompts, greedy and drawn, one with two choices, one that
/// wants its prompt scored.
fn request(id: u64) -> Request {
    let family = id % 3;
    let token =
        |at: u64| TokenId(((at * at * 31 + at * 7 + family * 1009 + at / 50) % 4000) as u32);
    let mut prompt: Vec<TokenId> = (0..150 + family * 130).map(token).collect();
    prompt.extend((0..=id * 9).map(|at| TokenId((id * 77 + at * 5) as u32 % 4000)));
    let temperature = if id.is_multiple_of(2) { 0.8 } else { 0.0 };
    let sampling = Sampling { temperature, seed: id, ..Sampling::default() };
    Request {
        prompt,
        choices: Choice::several(&sampling, if id == 4 { 2 } else { 1 }),
        max_tokens: 50,
        logprobs: Some(2),
        report: if id == 5 { Report::Logprobs(1) } else { Report::Nothing },
        ..Request::default()
    }
}

/// Whoever leaves in the middle of a step or of a layer leaves nothing behind.
#[test]
fn a_halted_step_changes_nothing() {
    let (file, asked) = (model(), [3, 4]);
    let mut alone = BTreeMap::new();
    for id in asked {
        let mut scene = Scene::new(&file, 2, 64, Settings::default());
        scene.ask(id);
        alone.extend(scene.finish());
    }
    let mut scene = Scene::new(&file, 2, 64, Settings::default());
    // Prompts with and without a page in common with what is asked later.
    for (round, id) in (0..24).map(|round| (round, 100 + 7 * round)) {
        scene.ask(id);
        let turns = round % 6;
        (0..turns).for_each(|_| scene.turn());
        let watch = scene.engine.watch();
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(500 * (1 + round / 6 * 5)));
            watch.leave(RequestId(id));
        });
        scene.turn();
        leaving.join().expect("it leaves");
        scene.engine.cancel(RequestId(id), Duration::ZERO);
        scene.engine.scheduler_mut().deliveries(); // its ending, perhaps
        scene.open = 0;
        scene.engine.scheduler().audit().expect("pages are conserved");
    }
    assert!(scene.engine.scheduler().stats().counters.halted > 0);
    scene.told.clear();
    asked.into_iter().for_each(|id| scene.ask(id));
    assert_eq!(scene.finish(), alone);
    assert!(scene.engine.scheduler().stats().counters.cached_tokens > 0);
}

#[test]
fn company_cache_and_preemption_change_nothing() {
    let (file, all) = (model(), 0..8);
    let mut alone = BTreeMap::new();
    for id in all.clone() {
        let mut scene = Scene::new(&file, 1, 64, Settings::default());
        scene.ask(id);
        alone.extend(scene.finish());
    }
    assert!(alone.values().all(|told| !told.1.is_empty()));
    let small = Settings { chunk_beside: 40, chunk_alone: 64, stall: 1.5, ..Settings::default() };
    for (threads, pages, settings) in [(2, 64, Settings::default()), (3, 64, small), (2, 12, small)]
    {
        let mut scene = Scene::new(&file, threads, pages, settings);
        let what = format!("{threads} threads, {pages} pages");
        for id in all.clone() {
            scene.ask(id);
            (0..id % 3 * 4).for_each(|_| scene.turn());
        }
        assert_eq!(scene.finish(), alone, "together, {what}");
        all.clone().rev().for_each(|id| scene.ask(id));
        assert_eq!(scene.finish(), alone, "again, {what}");
        let counters = scene.engine.scheduler().stats().counters;
        assert!(counters.cached_tokens > 500, "{what}: {}", counters.cached_tokens);
        assert_eq!(counters.preempted > 0, pages == 12, "{what}");
    }
    let cache = Cache::new("company");
    for (threads, pages) in [(2, 12), (1, 64), (3, 12)] {
        let mut scene = Scene::of(&file, (threads, pages, KvType::F16), small, Some(&cache));
        all.clone().for_each(|id| scene.ask(id));
        assert_eq!(scene.finish(), alone, "with a disk, {threads} threads, {pages} pages");
        let restored = scene.engine.scheduler().stats().counters.restored_tokens;
        assert!(pages == 12 || restored > 500, "{restored} tokens from the disk");
        scene.settle();
    }
}

/// Answers of two tokens, in which runs come again and go on in another way.
#[test]
fn guesses_change_nothing() {
    let file = model();
    let told = |threads: usize, guesses: usize| {
        let mut scene = Scene::new(&file, threads, 64, Settings { guesses, ..Settings::default() });
        let answers = [0, 1].map(|id| {
            let mut request = Request { max_tokens: 150, ..request(id) };
            request.choices[0].sampling.logit_bias = vec![(100, 60.0), (200, 60.0)];
            scene.submit(id, request);
            scene.finish()
        });
        let counters = scene.engine.scheduler().stats().counters;
        (answers, counters.guessed, counters.guessed_right)
    };
    let (alone, guessed, _) = told(1, 0);
    assert_eq!(guessed, 0);
    for (threads, guesses) in [(1, MOST_GUESSES), (2, 3), (3, MOST_GUESSES)] {
        let (told, guessed, right) = told(threads, guesses);
        assert_eq!(told, alone, "{threads} threads, {guesses} guesses");
        assert!(right > 50 && guessed > right + 10, "{right} of {guessed} right");
    }
}

/// A prompt of so many tokens, and a long answer.
fn long(tokens: usize, more: &[TokenId]) -> Request {
    let prompt = (0..tokens as u32).map(|at| TokenId((at * at * 17 + at * 3 + at / 64) % 4000));
    Request {
        prompt: prompt.chain(more.iter().copied()).collect(),
        choices: vec![Choice::plain(Sampling { temperature: 0.8, seed: 9, ..Sampling::default() })],
        max_tokens: 40,
        logprobs: Some(3),
        ..Request::default()
    }
}

#[test]
fn what_the_disk_gives_is_what_was_computed() {
    let (file, settings) = (model(), Settings::default());
    for kv in [KvType::F16, KvType::F32, KvType::I8] {
        let cache = Cache::new(kv.name());
        let mut first = Scene::of(&file, (2, 64, kv), settings, Some(&cache));
        first.submit(0, long(700, &[]));
        let told = first.finish().remove(&(0, 0)).expect("it was answered");
        let answer: Vec<TokenId> = told.1.iter().map(|sampled| sampled.token).collect();
        first.settle();
        drop(first);
        // The same again, a turn later, and prompts that end around the end of a page.
        let next: Vec<TokenId> = [&answer[..], &[TokenId(5); 30]].concat();
        let cases = [(700, &[][..]), (700, &next)].into_iter();
        let cases =
            cases.chain([511, 512, 513, 575, 576, 577, 640, 64, 65].map(|len| (len, &[][..])));
        for (i, (len, more)) in cases.enumerate() {
            let mut cold = Scene::of(&file, (2, 64, kv), settings, None);
            cold.submit(0, long(len, more));
            let mut again = Scene::of(&file, (1 + i % 3, 64, kv), settings, Some(&cache));
            again.submit(0, long(len, more));
            let what = format!("{} {len} tokens and {}", kv.name(), more.len());
            assert_eq!(again.finish(), cold.finish(), "{what}");
            let counters = again.engine.scheduler().stats().counters;
            // The last token of an answer is not computed, nor is that of a prompt ever found.
            let there = if more.is_empty() { len - 1 } else { len + answer.len() - 1 };
            let expected = (there / 64 * 64) as u64;
            assert_eq!((counters.cached_tokens, counters.restored_tokens), (expected, expected));
        }
    }
}
