//! What training gave the model in the box: every expert has work, and the next token is known.

mod boxed;

use std::sync::Arc;

use qwire_backend_cpu::Cpu;
use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::{Backend, Batch, KvType, Limits, Loaded, PageId, Runner, Tap, TokenId};

/// No expert has less than this share of the rows that it would have if all had the same, and none
/// more than that.
const LOADS: std::ops::Range<f64> = 0.5..1.6;

fn load(file: &Arc<File>) -> Loaded<Cpu> {
    let backend = Cpu::new(2, Isa::detect()).expect("threads start");
    let limits = |_: &_| Limits { rows: 1024, outputs: 1024, pages: 16, kv: KvType::F16 };
    Loaded::load(file, backend, limits, &mut |_, _| {}).expect("it loads")
}

fn batch(tokens: &[TokenId]) -> Batch {
    let pages = (0..tokens.len().div_ceil(64) as u32).map(PageId).collect();
    Batch::single(tokens, 0, pages, true)
}

#[test]
fn no_expert_is_idle() {
    let file = boxed::model();
    let mut runner = load(&file);
    let layers = runner.model.shape.layers;
    let mut rows = vec![Vec::new(); layers]; // [layers, experts]
    for tokens in boxed::conversations(&file) {
        runner.park(batch(&tokens));
        for counts in &mut rows {
            let ended = runner.advance(1);
            assert!(ended.unwrap_or_default().is_empty());
            let route = runner.backend.read(Tap::Route); // [rows, experts]
            let experts = route.len() / tokens.len();
            counts.resize(experts, 0_usize);
            for row in route.chunks(experts) {
                counts.iter_mut().zip(row).for_each(|(n, weight)| *n += usize::from(*weight > 0.0));
            }
        }
    }
    for (layer, counts) in rows.iter().enumerate() {
        let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        let loads: Vec<f64> = counts.iter().map(|n| *n as f64 / mean).collect();
        println!("layer {layer}: {loads:.2?}");
        assert!(loads.iter().all(|load| LOADS.contains(load)), "layer {layer}: {loads:.2?}");
    }
}

#[test]
fn its_logits_are_peaked() {
    let file = boxed::model();
    let mut runner = load(&file);
    let vocab = runner.vocab();
    let (mut sure, mut all) = (0, 0);
    for tokens in boxed::conversations(&file) {
        assert!(runner.step(&batch(&tokens)).is_empty());
        for first in (0..tokens.len()).step_by(64) {
            let logits = runner.logits(first..(first + 64).min(tokens.len()));
            for row in logits.chunks(vocab) {
                let best = row.iter().copied().fold(f32::MIN, f32::max);
                let mass: f32 = row.iter().map(|logit| (logit - best).exp2()).sum();
                sure += usize::from(mass < 2.0);
                all += 1;
            }
        }
    }
    let share = f64::from(sure) / f64::from(all);
    println!(
        "the best token has most of the probability at {:.1} % of {all} positions",
        100.0 * share
    );
    assert!(share > 0.5, "{share}");
}
