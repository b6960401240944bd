//! Thousands of serving days in model time, each from one seed.
//!
//! ```text
//! seed ─► a world: pages, paces, faults, arrivals, cancels
//!         turn by turn: pages conserved, nothing written while shared or twice, the pace kept
//!         at the end:   one ending each, the tokens of the request alone, nothing left behind
//! ```
//! A seed that fails is printed, and [`replay`] takes it.

mod alone;
mod cast;
mod shaky;
mod shelf;
mod world;

use std::panic::catch_unwind;

use qwire_engine::{Counters, Stats};
use world::World;

/// Worlds of the test; each is another seed.
const WORLDS: u64 = 8000;

fn replay(seed: u64) -> Stats {
    World::new(seed).run()
}

#[test]
fn every_world_keeps_its_promises() {
    // Panics that worlds provoke are caught by the engine; their text is noise here.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        if !text.contains(shaky::PROVOKED) {
            eprintln!("{text}");
        }
    }));
    let mut all = Stats::default();
    for seed in 0..WORLDS {
        let Ok(stats) = catch_unwind(|| replay(seed)) else {
            panic!("the world of seed {seed} broke");
        };
        add(&mut all.counters, &stats.counters);
    }
    let _ = std::panic::take_hook();
    let seen = &all.counters;
    println!("{WORLDS} worlds: {seen:?}");
    // A world that lacks for nothing proves nothing.
    for (what, count) in [
        ("refused", seen.refused),
        ("tokens from the cache", seen.cached_tokens),
        ("preempted", seen.preempted),
        ("evicted", seen.evicted),
        ("cancelled", seen.cancelled),
        ("failed", seen.failed),
        ("panicked", seen.panics),
        ("crashed", seen.crashes),
        ("handed over", seen.handed_over),
        ("tokens from the shelf", seen.restored_tokens),
        ("pages gone before they were kept", seen.unkept),
        ("halted", seen.halted),
        ("guessed", seen.guessed),
        ("guessed right", seen.guessed_right),
    ] {
        assert!(count > WORLDS / 50, "only {count} {what}");
    }
}

fn add(all: &mut Counters, one: &Counters) {
    all.refused += one.refused;
    all.started += one.started;
    all.prompt_tokens += one.prompt_tokens;
    all.cached_tokens += one.cached_tokens;
    all.answered += one.answered;
    all.computed += one.computed;
    all.steps += one.steps;
    all.cancelled += one.cancelled;
    all.failed += one.failed;
    all.panics += one.panics;
    all.crashes += one.crashes;
    all.preempted += one.preempted;
    all.evicted += one.evicted;
    all.handed_over += one.handed_over;
    all.restored_tokens += one.restored_tokens;
    all.unkept += one.unkept;
    all.halted += one.halted;
    all.guessed += one.guessed;
    all.guessed_right += one.guessed_right;
}
