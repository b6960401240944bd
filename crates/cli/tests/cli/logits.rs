//! `qwire logits`: against vectors from elsewhere, the same bits in every way of computing them.

use std::fs;

use crate::binary::{qwire, qwire_with};
use crate::model::{Folder, golden};

fn tokens(name: &str) -> String {
    golden(&format!("{name}.tokens.json"))
}

#[test]
fn golden_vectors_agree() {
    let check = |file: &str, list: &str, kl: f64, top1: u64, delta: f64| {
        let (model, expected) = (golden(&format!("{file}.gguf")), golden(&format!("{file}.npy")));
        let args = ["logits", &model, "--tokens-file", &tokens(list), "--against", &expected];
        let report = qwire(&[&args[..], &["--json", "--kv-type", "f32"]].concat()).json();
        assert_eq!(report["positions"], 300);
        assert!(report["mean_kl"].as_f64().unwrap() <= kl, "{file}: {report}");
        assert!(report["top1_same"].as_u64().unwrap() >= top1, "{file}: {report}");
        assert!(report["max_delta"]["value"].as_f64().unwrap() <= delta, "{file}: {report}");
    };
    check("moes-f32", "moes", 1e-9, 300, 1e-3);
    check("dense2-f32", "dense2", 1e-9, 300, 1e-3);
    check("moe-q4_k_m", "moe", 2.5e-3, 298, 1.0);
    let args = ["logits", &golden("moes-f32.gguf"), "--tokens-file", &tokens("moes")];
    let table = qwire(&[&args[..], &["--against", &golden("moes-f32.npy")]].concat()).text();
    assert!(table.contains("300 of 300") && table.contains("mean KL"), "{table}");
}

#[test]
fn the_bits_do_not_depend_on_how_they_are_computed() {
    let folder = Folder::new("bits");
    let model = golden("moe-q4_k_m.gguf");
    let list = fs::read_to_string(tokens("moe")).unwrap();
    let short = list.trim().trim_start_matches('[').split(',').take(40);
    let list = short.collect::<Vec<_>>().join(",");
    let write = |name: &str, more: &[&str]| {
        let out = folder.path(name);
        let args = ["logits", &model, "--tokens", &list, "--npy", &out];
        let outcome = qwire(&[&args[..], more].concat());
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        fs::read(out).unwrap()
    };
    let first = write("a.npy", &[]);
    assert_eq!(first.len(), 128 + 40 * 288 * 4);
    assert_eq!(write("b.npy", &["--chunk", "1", "--threads", "1"]), first);
    assert_eq!(write("c.npy", &["--chunk", "7", "--threads", "3", "--isa", "scalar"]), first);
    assert_ne!(write("d.npy", &["--reference"]), first);
    assert_eq!(folder.names(), ["a.npy", "b.npy", "c.npy", "d.npy"], "no debris");
    let piped = qwire_with(
        &["logits", &model, "--tokens-file", "-", "--npy", "-"],
        format!("[{}]", list.replace(',', "\n")).as_bytes(),
    );
    assert_eq!(piped.stdout, first);
    let json = qwire(&["logits", &model, "--tokens", "1 2", "--json"]).json();
    assert_eq!((&json["tokens"][1], &json["vocab"]), (&2.into(), &288.into()));
    assert_eq!(json["logits"][1].as_array().unwrap().len(), 288);
    let same = folder.path("a.npy");
    let report = qwire(&["logits", &model, "--tokens", &list, "--against", &same, "--json"]).json();
    assert_eq!((&report["max_delta"]["value"], &report["top1"]), (&0.0.into(), &1.0.into()));
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let model = golden("moes-f32.gguf");
    let check = |code, more: &[&str], words: &[&str]| {
        qwire(&[&["logits", &model], more].concat()).fails(code, words);
    };
    check(2, &["--tokens", "1"], &["nothing to do"]);
    check(2, &["--json"], &["--tokens"]);
    check(1, &["--tokens", "", "--json"], &["the list is empty"]);
    check(1, &["--tokens", "1,a", "--json"], &["item 2", "`a`"]);
    check(1, &["--tokens", "1,288", "--json"], &["token 288 at position 1", "288"]);
    check(1, &["--tokens", "1", "--against", "/no/such.npy"], &["/no/such.npy"]);
    check(1, &["--tokens", "1", "--against", &golden("moes-f32.npy")], &["[300, 288]", "[1, 288]"]);
    check(1, &["--tokens", "1", "--npy", "/no/such/folder/x.npy"], &["cannot create"]);
    check(1, &["--tokens", "1", "--json", "--isa", "neon9"], &["neon9", "it has: scalar"]);
    let long = vec!["1"; 4097].join(" ");
    check(1, &["--tokens", &long, "--json"], &["4,097 tokens", "4,096"]);
}
