//! Fuzz target: any text gives ids of the vocabulary, and whole characters come back, normalised at
//! most: what is encoded again is the same.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use qwire_gguf::File;
use qwire_text::{Controls, Special, Vocabulary};

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let bytes: &'static [u8] = include_bytes!("../../../../assets/qwire-box.gguf");
    let file = File::from_bytes(bytes).expect("the box model");
    Vocabulary::from_gguf(file.metadata()).expect("its vocabulary")
});

fuzz_target!(|text: &str| {
    let ids = VOCABULARY.encode(text, Special::AsText);
    assert!(ids.iter().all(|id| (*id as usize) < VOCABULARY.len()));
    let back = VOCABULARY.decode(&ids, Controls::Show);
    assert_eq!(VOCABULARY.encode(&back, Special::AsText), ids);
    let _ = VOCABULARY.encode(text, Special::Parse);
});
