//! Official: the ids of Qwen's own tokenizer, from vectors that lie beside the repository.
//!
//! Skipped, and said so, where the data is absent; the crate's unit tests need no data.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use qwire_gguf::File;
use qwire_text::{Controls, Decoder, Special, Vocabulary};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {name} is not beside the repository");
    None
}

fn vocabulary(path: &Path) -> Vocabulary {
    let file = File::open(path).expect("a GGUF file");
    Vocabulary::from_gguf(file.metadata()).expect("a vocabulary")
}

fn qwen() -> Option<Vocabulary> {
    data("qwen2-vocab/ggml-vocab-qwen2.gguf").map(|path| vocabulary(&path))
}

fn streamed(vocabulary: &Vocabulary, ids: &[u32]) -> String {
    let mut decoder = Decoder::new();
    let mut text = String::new();
    for &id in ids {
        text.push_str(&decoder.push(vocabulary.token_bytes(id, Controls::Show)));
    }
    text + &decoder.finish()
}

#[track_caller]
fn check(vocabulary: &Vocabulary, text: &str, ids: &[u32]) {
    assert_eq!(vocabulary.encode(text, Special::AsText), ids, "{text:?}");
    let normal: String = text.nfc().collect();
    assert_eq!(vocabulary.decode(ids, Controls::Show), normal);
    assert_eq!(streamed(vocabulary, ids), normal);
}

#[test]
fn llama_cpp_vectors_match() {
    let Some(vocabulary) = qwen() else { return };
    let read = |name| data(name).map(|path| std::fs::read_to_string(path).expect("readable"));
    let Some(texts) = read("qwen2-vocab/ggml-vocab-qwen2.gguf.inp") else { return };
    let Some(lists) = read("qwen2-vocab/ggml-vocab-qwen2.gguf.out") else { return };
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let mut matched = 0;
    for (text, list) in texts.iter().zip(lists.lines()) {
        let ids: Vec<u32> = list.split_whitespace().map(|id| id.parse().unwrap()).collect();
        check(&vocabulary, text, &ids);
        matched += 1;
    }
    assert!(matched >= 46, "{matched} of {} texts", texts.len());
}

#[test]
fn official_vectors_match() {
    let Some(vocabulary) = qwen() else { return };
    let Some(path) = data("qwen2-vocab/vectors.json") else { return };
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() >= 60);
    for case in &cases {
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        check(&vocabulary, case["text"].as_str().unwrap(), &ids);
    }
}

#[test]
fn special_tokens_have_their_ids() {
    let Some(vocabulary) = qwen() else { return };
    let text = "<|im_start|>user\nHi<|im_end|>";
    assert_eq!(vocabulary.encode(text, Special::Parse), [151644, 872, 198, 13048, 151645]);
    assert!(vocabulary.encode(text, Special::AsText).iter().all(|&id| id < 151643));
    assert_eq!(vocabulary.end_ids(), [151643, 151645]);
    assert_eq!(vocabulary.ignored_merges(), 0);
}

#[test]
fn a_megabyte_takes_less_than_half_a_second() {
    let Some(vocabulary) = qwen() else { return };
    let page = "fn main() {\n    let total: u64 = rows.iter().map(|row| row.len() as u64).sum();\n\
                \n\t// Über naïve façades, 1234567890 times\r\n}\nThe quick brown fox doesn't jump \
                over the lazy dog; it's raining in Spain. 今天天气很好，我们去公园散步吧。深度学习\
                模型需要大量数据。 안녕하세요 Привет мир 😀👩‍👩‍👧🏽 ¡Olé! {\"a\": [1, 2.5e-3]}   \n";
    let mut text = String::new();
    for line in 0.. {
        text.push_str(page);
        writeln!(text, "{:x} {line}", line * 2654435761_u64).unwrap();
        if text.len() >= 1 << 20 {
            break;
        }
    }
    let start = Instant::now();
    let ids = vocabulary.encode(&text, Special::Parse);
    let took = start.elapsed();
    let speed = text.len() as f64 / took.as_secs_f64() / 1e6;
    eprintln!("{speed:.1} MB/s, {} ids", ids.len());
    assert_eq!(vocabulary.decode(&ids, Controls::Show), text);
    assert!(took.as_millis() < 1000, "{took:?}; twice the claim, for machines under load");
}
