//! Fuzz target: any schema becomes a grammar or is refused, and a grammar's masks can be asked.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use qwire_gguf::File;
use qwire_text::{Grammars, Vocabulary};

static GRAMMARS: LazyLock<(Grammars, usize)> = LazyLock::new(|| {
    let bytes: &'static [u8] = include_bytes!("../../../../assets/qwire-box.gguf");
    let file = File::from_bytes(bytes).expect("the box model");
    let vocabulary = Vocabulary::from_gguf(file.metadata()).expect("its vocabulary");
    (Grammars::new(&vocabulary).expect("a trie"), vocabulary.len())
});

fuzz_target!(|text: &str| {
    let Ok(schema) = serde_json::from_str(text) else { return };
    let (grammars, vocab) = &*GRAMMARS;
    let Ok(mut grammar) = grammars.json_schema(&schema) else { return };
    let mut words = vec![0; vocab.div_ceil(32)];
    for _ in 0..16 {
        words.fill(0);
        if grammar.is_over() || grammar.mask(&mut words, 1000).is_err() {
            return;
        }
        let token = (0..*vocab as u32).find(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1);
        let Some(token) = token else { return };
        if grammar.accept(token).is_err() {
            return;
        }
    }
});
