//! `qwire inspect`: facts of good files, and of bad ones.

use crate::binary::qwire;
use crate::model::{Copy, Folder, golden};

#[test]
fn a_model_is_described() {
    let facts = qwire(&["inspect", &golden("moe-q4_k_m.gguf"), "--json", "--tensors"]).json();
    assert_eq!(facts["model"]["architecture"], "qwen3moe");
    assert_eq!(
        (&facts["model"]["experts"], &facts["model"]["experts_used"]),
        (&8.into(), &2.into())
    );
    assert_eq!(facts["weights"]["formats"][0]["format"], "Q4_K");
    assert_eq!(facts["tokenizer"]["tokens"], 288);
    assert_eq!(
        (&facts["runs"]["here"], &facts["template"]["present"]),
        (&true.into(), &true.into())
    );
    assert_eq!(facts["memory"]["kv_bytes_per_token_f16"], 2 * 3 * 2 * 64 * 2);
    assert_eq!(facts["tensors"].as_array().unwrap().len(), 39);
    let weights = &facts["weights"];
    let read = weights["active_bytes_per_token"].as_u64().unwrap();
    assert!(read < weights["bytes"].as_u64().unwrap() / 2, "{weights}");
    assert!(facts.get("check").is_none());
    let page = qwire(&["inspect", &golden("moe-q4_k_m.gguf")]);
    for words in ["qwen3moe", "8 of width 256, 2 for each token", "Q4_K", "runs here      yes"] {
        assert!(page.text().contains(words), "{words:?} is not in\n{}", page.text());
    }
}

#[test]
fn a_check_reads_every_number() {
    let good = golden("moes-f32.gguf");
    let facts = qwire(&["inspect", &good, "--check", "--json"]).json();
    assert_eq!(facts["check"]["poisoned"], serde_json::json!([]));
    assert_eq!(facts["check"]["sha256"][0]["sha256"].as_str().unwrap().len(), 64);

    let folder = Folder::new("poison");
    let mut copy = Copy::of("moes-f32.gguf");
    let router = copy.tensor("blk.1.ffn_gate_inp.weight");
    router.bytes[40..].as_chunks_mut().0.fill(f32::NAN.to_le_bytes());
    let model = folder.file("nan.gguf", &copy.bytes());
    let checked = qwire(&["inspect", &model, "--check"]);
    checked.fails(1, &["blk.1.ffn_gate_inp.weight", "index 10"]);
    assert!(checked.text().contains("runs here"), "the report is printed all the same");
    assert_eq!(qwire(&["inspect", &model]).code, Some(0));
    qwire(&["run", &model, "--raw", "x"]).fails(1, &["router of layer 1", "nan.gguf"]);
}

/// One NaN anywhere ends a run and a computation of logits with a line that says where.
#[test]
fn damaged_weights_are_named_where_they_act() {
    let folder = Folder::new("damage");
    for (tensor, word) in [
        ("blk.0.attn_norm.weight", "attn_norm of layer 0"),
        ("blk.1.ffn_norm.weight", "ffn_norm or router of layer 1"),
        ("blk.1.ffn_up_exps.weight", "feed-forward part of layer 1"),
        ("output_norm.weight", "output_norm"),
        ("output.weight", "logit of token 3"),
    ] {
        let mut copy = Copy::of("moes-f32.gguf");
        let k = if tensor == "output.weight" { 3 * 128 } else { 0 };
        let bytes = &mut copy.tensor(tensor).bytes;
        for value in bytes[4 * k..].as_chunks_mut().0.iter_mut().take(64) {
            *value = f32::NAN.to_le_bytes();
        }
        let model = folder.file("nan.gguf", &copy.bytes());
        let npy = folder.path("nan.npy");
        let ids: Vec<String> = (0..40).map(|id| id.to_string()).collect();
        for device in ["--chunk=64", "--reference"] {
            let args = ["logits", &model, "--tokens", &ids.join(","), "--npy", &npy, device];
            qwire(&args).fails(1, &[word, "nan.gguf"]);
        }
    }
}

/// A factor without a type is linear, as other engines read it; what cannot run is refused.
#[test]
fn rope_scaling_is_never_ignored() {
    let folder = Folder::new("rope");
    let logits = |name: &str, keys: &[(&str, f32)]| {
        let mut copy = Copy::of("moes-f32.gguf");
        keys.iter().for_each(|(key, value)| _ = copy.set(&format!("qwen3moe.rope.{key}"), *value));
        let model = folder.file(&format!("{name}.gguf"), &copy.bytes());
        let npy = folder.path(&format!("{name}.npy"));
        let outcome = qwire(&["logits", &model, "--tokens", "5,6,7,8", "--npy", &npy]);
        (outcome.code, std::fs::read(npy).unwrap_or_default())
    };
    let plain = logits("plain", &[]).1;
    let (code, factor) = logits("factor", &[("scaling.factor", 4.0)]);
    assert_eq!(code, Some(0));
    assert_ne!(factor, plain);
    assert_eq!(logits("older", &[("scale_linear", 4.0)]).1, factor);
    assert_eq!(logits("one", &[("scaling.factor", 1.0)]).1, plain);
}

#[test]
fn what_does_not_run_is_shown_all_the_same() {
    let folder = Folder::new("strange");
    let mut copy = Copy::of("moes-f32.gguf");
    copy.set("general.architecture", "llama\n\x1b[31m".to_string());
    let model = folder.file("llama.gguf", &copy.bytes());
    let page = qwire(&["inspect", &model]);
    assert_eq!(page.code, Some(0));
    assert!(page.text().contains("no: ") && !page.text().contains('\x1b'), "{}", page.text());
    qwire(&["inspect", &model, "--check"]).fails(1, &["general.architecture", "qwen3moe"]);

    let mut copy = Copy::of("moes-f32.gguf");
    for (key, huge) in [
        ("block_count", 1 << 16),
        ("context_length", u32::MAX),
        ("attention.head_count", 1 << 16),
        ("attention.head_count_kv", 1 << 16),
        ("attention.key_length", 1 << 12),
        ("attention.value_length", 1 << 12),
    ] {
        copy.set(&format!("qwen3moe.{key}"), huge);
    }
    let model = folder.file("huge.gguf", &copy.bytes());
    let facts = qwire(&["inspect", &model, "--json"]).json();
    assert_eq!(facts["runs"]["here"], false);
    qwire(&["run", &model, "hi", "--no-memory-check"]).fails(1, &["huge.gguf"]);

    let mut copy = Copy::of("moes-f32.gguf");
    copy.tensors.clear();
    let model = folder.file("vocabulary.gguf", &copy.bytes());
    let facts = qwire(&["inspect", &model, "--json"]).json();
    assert_eq!(
        (&facts["tokenizer"]["tokens"], &facts["runs"]["here"]),
        (&288.into(), &false.into())
    );
}
