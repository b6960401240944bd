//! Whole models against logits that Hugging Face Transformers computed in f64: `golden/README.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qwire_backend_cpu::Cpu;
use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::reference::Reference;
use qwire_model::{Backend, Batch, KvType, Limits, Loaded, PageId, Runner, TokenId};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden")
}

fn tokens(model: &str) -> Vec<TokenId> {
    let path = golden().join(format!("{model}.tokens.json"));
    let text = std::fs::read_to_string(path).expect("token list");
    let digits = |c: char| !c.is_ascii_digit();
    text.split(digits).filter(|id| !id.is_empty()).map(|id| TokenId(id.parse().unwrap())).collect()
}

/// The float32 payload of a two-dimensional npy file.
fn expected(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(golden().join(format!("{name}.npy"))).expect("logits");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect()
}

fn logits<B: Backend>(name: &str, backend: B, kv: KvType, tokens: &[TokenId]) -> Vec<f32> {
    let file = Arc::new(File::open(&golden().join(format!("{name}.gguf"))).expect("a model"));
    let pages = tokens.len().div_ceil(64);
    let limits = |_: &_| Limits { rows: tokens.len(), outputs: tokens.len(), pages, kv };
    let mut runner = Loaded::load(&file, backend, limits, &mut |_, _| {}).expect("it loads");
    let pages = (0..pages as u32).map(PageId).collect();
    assert!(runner.step(&Batch::single(tokens, 0, pages, true)).is_empty());
    let mut all = Vec::new();
    for start in (0..tokens.len()).step_by(64) {
        all.extend_from_slice(runner.logits(start..(start + 64).min(tokens.len())));
    }
    all
}

/// How far two rows of logits are from each other.
struct Distance {
    cosine: f64,
    max: f64,
    kl: f64,
    top_equal: bool,
    margin: f64,
}

fn distance(ours: &[f32], theirs: &[f32]) -> Distance {
    let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let (a, b) = (wide(ours), wide(theirs));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let softmax = |row: &[f64]| {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| libm::exp(x - top)).sum();
        row.iter().map(|x| x - top - libm::log(sum)).collect::<Vec<_>>()
    };
    let top =
        |row: &[f64]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let mut sorted = b.clone();
    sorted.sort_by(f64::total_cmp);
    let (p, q) = (softmax(&b), softmax(&a));
    Distance {
        cosine: dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt(),
        max: a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
        kl: p.iter().zip(&q).map(|(p, q)| libm::exp(*p) * (p - q)).sum(),
        top_equal: top(&a) == top(&b),
        margin: sorted[sorted.len() - 1] - sorted[sorted.len() - 2],
    }
}

fn distances(ours: &[f32], name: &str, rows: usize) -> Vec<Distance> {
    let theirs = expected(name);
    assert_eq!(ours.len(), theirs.len());
    let vocab = ours.len() / rows;
    ours.chunks_exact(vocab).zip(theirs.chunks_exact(vocab)).map(|(a, b)| distance(a, b)).collect()
}

fn model(name: &str) -> &str {
    name.split('-').next().unwrap()
}

fn exact(name: &str, logits: &[f32], rows: usize) {
    for (row, d) in distances(logits, name, rows).iter().enumerate() {
        assert!(d.cosine >= 0.999_999, "{name} position {row}: cosine {}", d.cosine);
        assert!(d.max <= 1e-3, "{name} position {row}: |delta| {}", d.max);
        assert!(d.top_equal, "{name} position {row}: another top token");
    }
}

const FLOATS: [&str; 4] = ["moe-bf16", "moes-f32", "dense3-f32", "dense2-f32"];

/// KL of llama.cpp on the same file against the same logits, at every 37th position and the last.
const QUANTISED: [(&str, f64); 7] = [
    ("moe-q8_0", 3.4e-3),
    ("moe-q4_k_m", 2.5e-3),
    ("moe-q5_k_m", 7.2e-4),
    ("dense3-q4_k_m", 1.8e-2),
    ("dense3-q4_0", 3e-9),
    ("dense2-q8_0", 5.0e-4),
    ("dense2-q6_k", 1.2e-3),
];

#[test]
fn float_files_agree_with_transformers_at_every_position() {
    for name in FLOATS {
        let tokens = tokens(model(name));
        exact(
            name,
            &logits(name, Cpu::new(2, Isa::detect()).expect("threads start"), KvType::F32, &tokens),
            tokens.len(),
        );
    }
}

#[test]
fn the_reference_agrees_with_transformers_on_every_file() {
    for name in FLOATS.into_iter().chain(QUANTISED.map(|(name, _)| name)) {
        let tokens = tokens(model(name));
        exact(name, &logits(name, Reference::default(), KvType::F32, &tokens), tokens.len());
    }
}

/// The positions at which llama.cpp was measured: every 37th, and the last.
fn sampled(row: usize, rows: usize) -> bool {
    row % 37 == 36 || row + 1 == rows
}

#[test]
fn quantised_files_stay_close_to_transformers() {
    let (mut ours, mut theirs) = (0.0, 0.0);
    println!("file             cosine    >= 0.99   KL, all   KL, sampled   llama.cpp");
    for (name, peer) in QUANTISED {
        let tokens = tokens(model(name));
        let logits =
            logits(name, Cpu::new(2, Isa::detect()).expect("threads start"), KvType::F16, &tokens);
        let rows = distances(&logits, name, tokens.len());
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
            sum / n
        };
        let cosine = mean(&mut rows.iter().map(|d| d.cosine));
        let close = mean(&mut rows.iter().map(|d| f64::from(d.cosine >= 0.99)));
        let all = mean(&mut rows.iter().map(|d| d.kl));
        let picked = rows.iter().enumerate().filter(|(row, _)| sampled(*row, rows.len()));
        let kl = mean(&mut picked.map(|(_, d)| d.kl));
        println!("{name:<15} {cosine:.6}  {close:.4}   {all:.2e}   {kl:.2e}      {peer:.1e}");
        assert!(cosine >= 0.999, "{name}: mean cosine {cosine}");
        assert!(close >= 0.99, "{name}: only {close} of the positions have cosine 0.99");
        assert!(kl <= (1.5 * peer).max(1e-5), "{name}: mean KL {kl:e}, llama.cpp has {peer:e}");
        for (row, d) in rows.iter().enumerate().filter(|(_, d)| d.cosine >= 0.99) {
            let clear = d.margin > 2.0 * d.max;
            assert!(d.top_equal || !clear, "{name} position {row}: margin {}", d.margin);
        }
        ours += kl;
        theirs += peer;
    }
    println!("all together: {ours:.2e} against {theirs:.2e}");
    assert!(ours <= theirs, "mean KL over all files {ours:e}, llama.cpp has {theirs:e}");
}
