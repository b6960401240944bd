//! `qwire quantize`: the same bytes on any number of threads, near the model it came from.

use std::fs;

use crate::binary::qwire;
use crate::model::{Folder, golden};

#[test]
fn fewer_bits_come_near_the_model() {
    let folder = Folder::new("quantize");
    let (source, path) = (golden("moe-bf16.gguf"), folder.path("small.gguf"));
    let (tokens, expected) = (golden("moe.tokens.json"), golden("moe-bf16.npy"));
    let check = |mix: &str, size: f64, most: f64| {
        let write = |threads: &str| {
            let args = ["quantize", &source, "-o", &path, "--quant", mix, "--threads", threads];
            assert_eq!(qwire(&[&args[..], &["--force", "-q"]].concat()).text(), "");
            fs::read(&path).unwrap()
        };
        let bytes = write("1");
        assert_eq!(bytes, write("3"), "{mix}: threads change nothing");
        let share = bytes.len() as f64 / fs::metadata(&source).unwrap().len() as f64;
        assert!((share - size).abs() < 0.01, "{mix}: {share} of the size");
        let facts = qwire(&["inspect", &path, "--check", "--json"]).json();
        assert_eq!(facts["runs"]["here"], true, "{mix}");
        let args = ["logits", &path, "--tokens-file", &tokens, "--against", &expected, "--json"];
        let kl = qwire(&args).json()["mean_kl"].as_f64().unwrap();
        assert!(kl < most, "{mix}: KL {kl}");
    };
    check("bf16", 1.0, 1e-6);
    check("q8_0", 0.54, 0.02);
    check("q4_k_m", 0.30, 0.4);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let folder = Folder::new("quantize-refused");
    let path = folder.path("small.gguf");
    let refuse = |model: &str, mix: &str, code: i32, words: &[&str]| {
        qwire(&["quantize", &golden(model), "-o", &path, "--quant", mix]).fails(code, words);
    };
    refuse("moe-q8_0.gguf", "q4_k_m", 1, &["`token_embd.weight`: is Q8_0; accepted: F32, F16"]);
    refuse("moe-bf16.gguf", "q4_0", 2, &["no formats `q4_0`; accepted: q4_k_m, q5_k_m"]);
    assert_eq!(folder.names(), Vec::<String>::new());
    folder.file("small.gguf", b"");
    refuse("moes-f32.gguf", "q4_k_m", 1, &["exists already"]);
}

/// Rows of 128 values are no whole blocks of 256.
#[test]
fn rows_that_do_not_fit_have_eight_bits() {
    let folder = Folder::new("quantize-rows");
    let path = folder.path("small.gguf");
    qwire(&["quantize", &golden("moes-f32.gguf"), "-o", &path]).text();
    let page = qwire(&["inspect", &path]).text();
    assert!(page.contains("Q8_0") && !page.contains("_K"), "{page}");
}
