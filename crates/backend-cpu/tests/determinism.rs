//! The same bits, whatever the threads, chunks, batch, cache, instruction set, and wherever panels
//! come from.
//!
//! Every run computes the logits of the same tokens at every position and must equal, as bits, a
//! first run that takes one thread and one token at a time.

mod boxed;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qwire_backend_cpu::Cpu;
use qwire_backend_cpu::pool::Pool;
use qwire_backend_cpu::sidecar::{Plan, Sidecar};
use qwire_engine::{Pages, Table};
use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::synthetic::{self, Recipe};
use qwire_model::{Batch, KvType, Limits, Loaded, PageId, Runner, Span, TokenId};

/// How a run comes by its logits.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The prompt in chunks.
    Chunks(usize),
    /// Beside this many other sequences in every step, in chunks.
    Beside(usize, usize),
    /// Wrong tokens are computed and taken back on the way.
    Rollback,
    /// Continued from the prefix of another sequence, in the middle of a page; the other goes on.
    Fork,
    /// In chunks, each parked after so many layers while another sequence takes a step.
    Parked(usize, usize),
}

#[derive(Clone, Copy, Debug)]
struct Run {
    threads: usize,
    kv: KvType,
    isa: &'static str,
    way: Way,
    panels: Panels,
}

/// Where panels come from.
#[derive(Clone, Copy, Debug)]
enum Panels {
    Packed,
    Sidecar,
}

fn token(seed: usize, vocab: usize) -> TokenId {
    let mixed = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    TokenId(((mixed >> 33) % vocab as u64) as u32)
}

/// Tokens of a model's vocabulary, at random.
fn tokens(count: usize, file: &File) -> Vec<TokenId> {
    let vocab = file.tensor("token_embd.weight").expect("an embedding").dims[1] as usize;
    (0..count).map(|i| token(i + 1, vocab)).collect()
}

fn load(file: &Arc<File>, run: Run, positions: usize) -> Loaded<Cpu> {
    let isa = Isa::named(run.isa).expect("this processor has it");
    let backend = Cpu::new(run.threads, isa).expect("threads start");
    let backend = match run.panels {
        Panels::Packed => backend,
        Panels::Sidecar => backend.with_sidecar(sidecar(file, run.threads)),
    };
    let (rows, sequences) = match run.way {
        Way::Chunks(chunk) => (chunk, 1),
        Way::Beside(others, chunk) => (chunk * (others + 1), others + 1),
        Way::Rollback | Way::Fork => (64, 3),
        Way::Parked(chunk, _) => (chunk, 2),
    };
    let pages = sequences * (positions.div_ceil(64) + 2);
    let limits = |_: &_| Limits { rows, outputs: rows, pages, kv: run.kv };
    Loaded::load(file, backend, limits, &mut |_, _| {}).expect("the model loads")
}

/// A sidecar whose file has lost its name already.
fn sidecar(file: &Arc<File>, threads: usize) -> Sidecar {
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let no = NAMES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("qwire-bits-{}-{no}", std::process::id()));
    let plan = Arc::new(Plan::of(file).expect("it can be loaded"));
    let pool = Pool::new(threads).expect("threads start");
    let out = std::fs::File::create_new(&path).expect("a temporary file");
    plan.write(&out, &pool, &mut |_, _| true).expect("there is room");
    let sidecar = plan.open(&path).expect("it fits");
    std::fs::remove_file(&path).expect("it is there");
    sidecar
}

/// Bits of the logits of every position.
fn logits(file: &Arc<File>, run: Run, tokens: &[TokenId]) -> Vec<u32> {
    let runner = load(file, run, tokens.len());
    match run.way {
        Way::Chunks(chunk) => beside(runner, tokens, 0, chunk),
        Way::Beside(others, chunk) => beside(runner, tokens, others, chunk),
        Way::Rollback => rollback(runner, tokens),
        Way::Fork => fork(runner, tokens),
        Way::Parked(chunk, layers) => parked(runner, tokens, (chunk, layers)),
    }
}

fn beside(mut runner: Loaded<Cpu>, tokens: &[TokenId], others: usize, chunk: usize) -> Vec<u32> {
    let pages = tokens.len().div_ceil(64) as u32;
    let vocab = runner.vocab();
    let mut bits = Vec::new();
    for start in (0..tokens.len()).step_by(chunk) {
        let len = chunk.min(tokens.len() - start);
        let mut batch = Batch::default();
        // Ours is in the middle of the batch, the others have other tokens.
        for sequence in 0..=others {
            let ours = sequence == others / 2;
            if ours {
                batch.outputs = (batch.rows()..batch.rows() + len).collect();
            }
            let other = |at: usize| token(at * 31 + sequence * 7 + 5, vocab);
            let at = start..start + len;
            batch.tokens.extend(at.map(|at| if ours { tokens[at] } else { other(at) }));
            let first = sequence as u32 * pages;
            let pages = (first..first + pages).rev().map(PageId).collect();
            batch.spans.push(Span { start, len, pages });
        }
        assert!(runner.step(&batch).is_empty());
        collect(&mut bits, len, |range| runner.logits(range).to_vec());
    }
    bits
}

fn collect(
    bits: &mut Vec<u32>,
    len: usize,
    mut logits: impl FnMut(std::ops::Range<usize>) -> Vec<f32>,
) {
    for start in (0..len).step_by(64) {
        let logits = logits(start..(start + 64).min(len));
        assert!(logits.iter().all(|logit| logit.is_finite()));
        bits.extend(logits.iter().map(|logit| logit.to_bits()));
    }
}

/// A runner and its pages.
struct Desk {
    runner: Loaded<Cpu>,
    pages: Pages,
}

impl Desk {
    fn new(runner: Loaded<Cpu>) -> Self {
        let pages = Pages::new(runner.limits().pages);
        Self { runner, pages }
    }

    /// Computes more tokens of a sequence, 64 in a step.
    fn extend(&mut self, table: &mut Table, tokens: &[TokenId], bits: &mut Vec<u32>) {
        for chunk in tokens.chunks(64) {
            let start = table.len();
            if let Some((from, to)) = self.pages.grow(table, chunk.len()).expect("room") {
                self.runner.copy_page(from, to);
            }
            let batch = Batch::single(chunk, start, table.pages().to_vec(), true);
            assert!(self.runner.step(&batch).is_empty());
            collect(bits, chunk.len(), |range| self.runner.logits(range).to_vec());
        }
    }
}

fn rollback(runner: Loaded<Cpu>, tokens: &[TokenId]) -> Vec<u32> {
    let (vocab, mut desk) = (runner.vocab(), Desk::new(runner));
    let (mut table, mut bits) = (Table::default(), Vec::new());
    for chunk in tokens.chunks(101) {
        let good = table.len();
        let wrong: Vec<TokenId> = (0..70).map(|i| token(i + good * 3 + 99, vocab)).collect();
        desk.extend(&mut table, &wrong, &mut Vec::new());
        desk.pages.truncate(&mut table, good);
        desk.extend(&mut table, chunk, &mut bits);
    }
    bits
}

fn fork(runner: Loaded<Cpu>, tokens: &[TokenId]) -> Vec<u32> {
    let (vocab, mut desk) = (runner.vocab(), Desk::new(runner));
    let (mut parent, mut bits) = (Table::default(), Vec::new());
    let at = tokens.len() / 2 + 5;
    desk.extend(&mut parent, &tokens[..at], &mut bits);
    let mut child = desk.pages.fork(&parent, at);
    // The parent writes into what was the shared page before the child does.
    let other: Vec<TokenId> = (0..90).map(|i| token(i + 12345, vocab)).collect();
    desk.extend(&mut parent, &other, &mut Vec::new());
    desk.extend(&mut child, &tokens[at..], &mut bits);
    desk.pages.release(parent);
    desk.pages.release(child);
    assert_eq!(desk.pages.free(), desk.pages.total(), "every page came back");
    bits
}

/// The prompt in chunks, each parked after every few layers while another sequence takes a step.
fn parked(
    mut runner: Loaded<Cpu>,
    tokens: &[TokenId],
    (chunk, layers): (usize, usize),
) -> Vec<u32> {
    let pages = tokens.len().div_ceil(64) as u32;
    let (vocab, mut other) = (runner.vocab(), 0);
    let mut bits = Vec::new();
    for (at, chunk) in tokens.chunks(chunk).enumerate() {
        let start = bits.len() / vocab;
        assert!(at == 0 || start > 0);
        runner.park(Batch::single(chunk, start, (0..pages).map(PageId).collect(), true));
        let faults = loop {
            if let Some(faults) = runner.advance(layers) {
                break faults;
            }
            let theirs = [token(other * 17 + 3, vocab)];
            let table = (pages..2 * pages).map(PageId).collect();
            assert!(
                runner.step(&Batch::single(&theirs, other % tokens.len(), table, true)).is_empty()
            );
            other += 1;
        };
        assert!(faults.is_empty());
        collect(&mut bits, chunk.len(), |range| runner.logits(range).to_vec());
    }
    assert!(other > 0, "something ran in between");
    bits
}

/// All runs give the bits of the first; each type of cache has its own.
fn check(name: &str, file: &Arc<File>, tokens: &[TokenId], runs: &[Run]) {
    for kv in [KvType::F16, KvType::F32, KvType::I8] {
        let mut runs = runs.iter().filter(|run| run.kv == kv);
        let Some(first) = runs.next() else { continue };
        let expected = logits(file, *first, tokens);
        for run in runs {
            let found = logits(file, *run, tokens);
            assert_eq!(found.len(), expected.len(), "{name} {run:?}");
            let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
            let position = differs.map(|at| at / (found.len() / tokens.len()));
            assert_eq!(position, None, "{name} {run:?}: other bits from this position on");
        }
    }
}

fn golden(name: &str) -> Arc<File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    Arc::new(File::open(&path.join(format!("{name}.gguf"))).expect("a model"))
}

/// Every combination at hidden 256 and some 300 positions.
fn full_matrix(name: &str, file: &Arc<File>, tokens: &[TokenId]) {
    let isa = Isa::detect().name();
    let mut runs = Vec::new();
    for kv in [KvType::F16, KvType::F32] {
        for way in [
            Way::Chunks(1),
            Way::Chunks(7),
            Way::Chunks(64),
            Way::Chunks(300),
            Way::Rollback,
            Way::Fork,
            Way::Beside(1, 64),
            Way::Beside(4, 7),
            Way::Beside(15, 1),
            Way::Beside(16, 7),
            Way::Parked(64, 1),
        ] {
            let panels = Panels::Packed;
            runs.extend([1, 2, 3, 5].map(|threads| Run { threads, kv, isa, way, panels }));
            runs.push(Run { threads: 2, kv, isa, way, panels: Panels::Sidecar });
        }
        for isa in Isa::available() {
            for panels in [Panels::Packed, Panels::Sidecar] {
                runs.push(Run { threads: 2, kv, isa: isa.name(), way: Way::Chunks(64), panels });
            }
        }
    }
    check(name, file, tokens, &runs);
}

#[test]
fn mixture_full_matrix() {
    let file = golden("moe-q4_k_m");
    full_matrix("moe-q4_k_m", &file, &tokens(300, &file));
}

#[test]
fn dense_full_matrix() {
    let file = golden("dense3-q4_k_m");
    full_matrix("dense3-q4_k_m", &file, &tokens(300, &file));
}

/// The same where training made the router's choices and peaked the logits.
#[test]
fn trained_full_matrix() {
    let file = boxed::model();
    let tokens: Vec<TokenId> = boxed::conversations(&file).concat();
    full_matrix("qwire-box", &file, &tokens[..300]);
}

/// At hidden 1024 and past two attention blocks: each value of each dimension at least once.
fn covering_subset(shape: &str, mix: &str) {
    let shape = synthetic::shape(shape).expect("a shape");
    let mut recipe = Recipe::new(shape, synthetic::mix(mix).expect("a mix"), 11);
    recipe.layers = Some(3);
    let file = synthetic::file(&recipe).expect("a model");
    let isa = Isa::detect().name();
    let narrower = Isa::available().iter().rev().nth(1).map_or("scalar", |isa| isa.name());
    let run = |threads, kv, isa, way| Run { threads, kv, isa, way, panels: Panels::Packed };
    let kept = |run| Run { panels: Panels::Sidecar, ..run };
    let (half, single, codes) = (KvType::F16, KvType::F32, KvType::I8);
    let runs = [
        run(1, half, isa, Way::Chunks(1)),
        run(2, half, isa, Way::Chunks(512)),
        run(3, half, isa, Way::Chunks(7)),
        run(5, half, isa, Way::Beside(1, 64)),
        run(2, half, isa, Way::Beside(4, 7)),
        run(2, half, narrower, Way::Chunks(1100)),
        kept(run(3, half, isa, Way::Chunks(512))),
        run(1, half, isa, Way::Rollback),
        run(3, half, isa, Way::Fork),
        run(2, half, isa, Way::Parked(512, 1)),
        run(3, half, isa, Way::Parked(100, 2)),
        run(2, single, isa, Way::Parked(300, 1)),
        run(2, single, isa, Way::Chunks(64)),
        kept(run(5, single, isa, Way::Chunks(1100))),
        run(2, single, isa, Way::Fork),
        run(2, codes, isa, Way::Chunks(512)),
        run(2, codes, narrower, Way::Chunks(300)),
        run(3, codes, isa, Way::Beside(4, 7)),
    ];
    check(shape.name, &file, &tokens(1100, &file), &runs);
}

#[test]
fn mixture_covering_subset() {
    covering_subset("tiny-moe", "q4_k_m");
}

#[test]
fn dense_covering_subset() {
    covering_subset("tiny-dense", "q8_0");
}

/// A chunk as long as they get.
#[test]
fn chunk_of_2048() {
    let mut recipe =
        Recipe::new(synthetic::shape("tiny-moe").unwrap(), synthetic::mix("q4_k_m").unwrap(), 5);
    recipe.layers = Some(1);
    let file = synthetic::file(&recipe).expect("a model");
    let isa = Isa::detect().name();
    let panels = Panels::Packed;
    let run = |way| Run { threads: 2, kv: KvType::F16, isa, way, panels };
    let runs = [512, 2048].map(|chunk| run(Way::Chunks(chunk)));
    check("tiny-moe", &file, &tokens(2100, &file), &runs);
}
