//! The driver on a card where there is one, else on the CPU in place of a card: what it loads, what
//! it replays, and what it says of times.

#[path = "../shim/compiler.rs"]
mod compiler;
mod deck;
#[path = "../../../backend-gpu/tests/trial/mod.rs"]
#[expect(dead_code, reason = "the kernels themselves are tried over the shim")]
mod trial;

use std::sync::Arc;

use deck::cards;
use qwire_backend_cuda::Gpu;
use qwire_backend_cuda::driver::{Card, Cuda};
use qwire_model::{Batch, KvType, Limits, Loaded, PageId, Runner, TokenId};
use trial::codes;
use trial::models::golden;
use trial::whole::{self, Plan};

/// The same card, looked at by nobody else.
fn alone(card: &Card) -> Card {
    let mut card = card.clone();
    card.monitor = Arc::default();
    card
}

/// Cubins and PTX, where the CPU stands for a card of each.
#[test]
fn what_a_card_loads_computes() {
    for card in cards() {
        println!("{card}");
        codes::are_those_of_the_cpu(Some(Cuda::open(&card).expect("a card opens")));
    }
}

#[test]
fn graphs_change_no_bit() {
    let Some(card) = cards().into_iter().next() else { return };
    let plans = [(true, 0), (false, 0), (true, 3)].map(|(graphs, beside)| {
        let card = alone(&card);
        card.monitor.replay(graphs);
        let plan = Plan { chunk: 90, beside, steps: 4 };
        (plan, move || Some(Gpu::new(Cuda::open(&card).expect("a card opens"))))
    });
    whole::plans_agree(KvType::F16, plans);
}

/// What a step of one token takes, and its logits.
#[test]
fn a_timed_step_is_the_same_step() {
    let Some(card) = cards().into_iter().next() else { return };
    let file = golden("moe-q4_k_m");
    let step = |times: bool| {
        let card = alone(&card);
        card.monitor.time(times);
        let device = Gpu::new(Cuda::open(&card).expect("a card opens"));
        let limits = |_: &_| Limits { rows: 1, outputs: 1, pages: 1, kv: KvType::F16 };
        let loaded = Loaded::load(&file, device, limits, &mut |_, _| {});
        let mut runner = loaded.expect("the model loads");
        let batch = Batch::single(&[TokenId(3)], 0, vec![PageId(0)], true);
        assert_eq!(runner.step(&batch), []);
        let logits = runner.logits(0..1).to_vec();
        (logits, card.monitor.take(), runner.layers() as u64)
    };
    let (logits, timed, layers) = step(true);
    let (expected, none, _) = step(false);
    assert!(logits == expected, "times change bits");
    assert_eq!((none.calls(), none.copy_gb_s), (0, None));
    // The last norm and the head stand outside of the layers.
    assert_eq!(timed.calls(), 9 * layers + 2);
    assert!(timed.copy_gb_s.is_some_and(|copy| copy > 0.0) && timed.idle >= 0.0);
    for entry in &timed.entries {
        println!("{entry:?}");
        assert!(entry.seconds > 0.0 && entry.bytes > 0, "{entry:?}");
    }
    let matrices: u64 = file.tensors().iter().map(|tensor| file.data(tensor).len() as u64).sum();
    let moved: u64 = timed.entries.iter().map(|entry| entry.bytes).sum();
    assert!(moved < 2 * matrices, "{moved} bytes of {matrices}");
}
