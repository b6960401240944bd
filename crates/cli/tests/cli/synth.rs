//! `qwire synth`: the file is whole or absent, and runs.

use std::fs;

use crate::binary::qwire;
use crate::model::{Folder, golden};

#[test]
fn a_synthetic_model_runs() {
    let folder = Folder::new("synth");
    let path = folder.path("tiny.gguf");
    let args = ["synth", "tiny-moe", "-o", &path, "--layers", "1", "--seed", "5"];
    let outcome = qwire(&args);
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(0), 1), "{outcome:?}");
    assert_eq!(folder.names(), ["tiny.gguf"]);
    let facts = qwire(&["inspect", &path, "--check", "--json"]).json();
    assert_eq!((&facts["model"]["layers"], &facts["runs"]["here"]), (&1.into(), &true.into()));
    let answer = qwire(&["run", &path, "Hello", "--json", "-n", "4", "--temp", "0"]).json();
    assert_eq!(answer["tokens"].as_array().unwrap().len(), 4);

    let first = fs::read(&path).unwrap();
    qwire(&args).fails(1, &["exists already"]);
    assert_eq!(qwire(&[&args[..], &["--force", "-q"]].concat()).stderr, "");
    assert_eq!(fs::read(&path).unwrap(), first, "the same recipe gives the same file");
}

#[test]
fn another_vocabulary_can_be_taken() {
    let folder = Folder::new("vocabulary");
    let path = folder.path("m.gguf");
    let vocab = golden("moe-q8_0.gguf");
    let args = ["synth", "tiny-dense", "-o", &path, "--layers", "1", "--vocab", &vocab];
    let outcome = qwire(&args);
    if outcome.code == Some(0) {
        let ids = crate::binary::qwire_with(&["tokenize", &path], b"the").text();
        assert_eq!(ids, "[256, 101]\n");
    } else {
        outcome.fails(1, &["vocab"]);
    }
}

#[test]
fn shapes_and_formats_are_listed() {
    let list = qwire(&["synth", "--list"]).text();
    for name in ["qwen3-30b-a3b", "qwen3-0.6b", "tiny-moe", "q4_k_m", "q8_0"] {
        assert!(list.contains(name), "{name} is not in\n{list}");
    }
    qwire(&["synth", "huge", "-o", "x"]).fails(2, &["no shape `huge`"]);
    qwire(&["synth", "tiny-moe", "-o", "x", "--quant", "q1"]).fails(2, &["no formats `q1`"]);
    qwire(&["synth", "tiny-moe"]).fails(2, &["--output"]);
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = Folder::new("debris");
    let nowhere = folder.path("no/such/m.gguf");
    qwire(&["synth", "tiny-moe", "-o", &nowhere]).fails(1, &["no such folder"]);
    let path = folder.path("m.gguf");
    qwire(&["synth", "tiny-moe", "-o", &path, "--layers", "99"]).fails(1, &["99 layers"]);
    assert_eq!(folder.names(), Vec::<String>::new());
    let null = qwire(&["synth", "tiny-moe", "-o", "/dev/null", "--layers", "1"]);
    assert_eq!(null.code, Some(0), "{null:?}");
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    if fs::metadata("/dev/full").is_ok() {
        let full = qwire(&["synth", "tiny-moe", "-o", "/dev/full", "--layers", "1"]);
        full.fails(1, &["no space left"]);
    }
}
