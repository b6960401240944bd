//! The deck: cards of this machine, or two that the CPU stands for.
#![allow(unsafe_code)] // loads what was compiled from our own files

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libloading::Library;
use qwire_backend_cuda::driver::{Card, probe};

use crate::compiler::{self, Compiled};

/// What there is, for every test.
static CARDS: LazyLock<Vec<Card>> = LazyLock::new(find);

/// All cards; none where the CPU cannot stand for any either.
pub fn cards() -> Vec<Card> {
    CARDS.clone()
}

fn find() -> Vec<Card> {
    let usable = |cards: Vec<Card>| {
        cards.into_iter().filter(|card| card.refusal().is_none()).collect::<Vec<_>>()
    };
    match probe().map(usable) {
        Ok(cards) if !cards.is_empty() => return cards,
        Ok(_) => println!("no card of this machine can run kernels"),
        Err(why) => println!("{why}"),
    }
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("card-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("room for a library");
    // The name by which the driver is asked for first: what has it is taken if it is loaded.
    let library = folder.join("libcuda.so");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    match compiler::compile(root, Some("tests/card/card.cpp"), &library) {
        Compiled::Done => {}
        Compiled::Absent(why) => {
            println!("skipped: {why}");
            return Vec::new();
        }
        Compiled::Refused(complaint) => panic!("the card does not compile:\n{complaint}"),
    }
    // SAFETY: the library was compiled from the files beside this one; loading it runs nothing.
    let loaded = unsafe { Library::new(&library) }.expect("the card loads");
    // It stays for as long as the process.
    std::mem::forget(loaded);
    fs::remove_dir_all(&folder).expect("it is there");
    let cards = probe().expect("the CPU stands for cards");
    assert_eq!(cards.len(), 2, "{cards:?}");
    cards
}
