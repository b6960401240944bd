//! Files that are no models: one line each, exit code 1, and never a panic.

use std::fs;

use qwire_gguf::Dtype;

use crate::binary::{qwire, qwire_with};
use crate::model::{Copy, Folder, golden};

/// Proves that every command refuses the file with these words.
fn refused(path: &str, words: &[&str]) {
    qwire(&["run", path, "--raw", "hi", "-n", "2"]).fails(1, words);
    qwire(&["run", path, "hi", "-n", "2"]).fails(1, words);
    qwire(&["logits", path, "--tokens", "1", "--json"]).fails(1, words);
    qwire(&["inspect", path, "--check"]).fails(1, words);
}

#[test]
fn missing_and_strange_files() {
    let folder = Folder::new("files");
    refused(&folder.path("none.gguf"), &["none.gguf: no such file"]);
    refused(&folder.path(""), &["is a directory"]);
    refused(&folder.file("empty.gguf", b""), &["empty.gguf", "not a GGUF file"]);
    refused(&folder.file("text.gguf", b"To be, or not to be"), &["not a GGUF file"]);
    refused(&folder.file("page.gguf", b"<!doctype html>"), &["web page"]);
    let fault = "version https://git-lfs.github.com/spec/v1";
    refused(&folder.file("lfs.gguf", fault.as_bytes()), &["Git LFS"]);
    qwire_with(&["tokenize", &folder.path("none.gguf")], b"x").fails(1, &["no such file"]);
}

#[test]
fn truncated_in_each_section() {
    let folder = Folder::new("cut");
    let bytes = fs::read(golden("moe-q4_k_m.gguf")).unwrap();
    let find = |name: &[u8]| bytes.windows(name.len()).position(|w| w == name).unwrap();
    let directory = find(b"blk.1.attn_q.weight");
    for (section, len) in [
        ("magic", 3),
        ("header", 20),
        ("metadata", 400),
        ("vocabulary", find(b"tokenizer.ggml.merges") + 40),
        ("directory", directory + 10),
        ("shape", directory + 25),
        ("data", bytes.len() / 2),
        ("end", bytes.len() - 1),
    ] {
        let path = folder.file(&format!("{section}.gguf"), &bytes[..len]);
        refused(&path, &[&format!("{section}.gguf")]);
    }
}

#[test]
fn models_that_do_not_fit_their_architecture() {
    let folder = Folder::new("fit");
    let refuse = |name: &str, change: &dyn Fn(&mut Copy), words: &[&str]| {
        let mut copy = Copy::of("moes-f32.gguf");
        change(&mut copy);
        refused(&folder.file(name, &copy.bytes()), words);
    };
    refuse(
        "llama.gguf",
        &|copy| {
            copy.set("general.architecture", "llama".to_string());
        },
        &["llama.gguf", "general.architecture", "`llama`", "qwen3moe"],
    );
    refuse(
        "type.gguf",
        &|copy| copy.tensor("blk.0.attn_q.weight").dtype = Dtype::I8,
        &["type.gguf", "blk.0.attn_q.weight", "I8", "Q4_K"],
    );
    refuse(
        "shape.gguf",
        &|copy| copy.tensor("blk.0.attn_q.weight").dims[1] += 1,
        &["shape.gguf", "blk.0.attn_q.weight", "has shape", "expected"],
    );
    refuse(
        "missing.gguf",
        &|copy| copy.tensors.retain(|tensor| tensor.name != "output_norm.weight"),
        &["missing.gguf", "output_norm.weight", "missing"],
    );
}

#[test]
fn a_tensor_too_many_is_a_warning() {
    let folder = Folder::new("extra");
    let mut copy = Copy::of("moes-f32.gguf");
    let bytes = vec![0; 16];
    let dtype = Dtype::F32;
    copy.tensors.push(crate::model::Entry { name: "mystery".into(), dims: vec![4], dtype, bytes });
    let outcome = qwire(&["run", &folder.file("m.gguf", &copy.bytes()), "hi", "-n", "1"]);
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.stderr.starts_with("warning: tensor `mystery`"), "{}", outcome.stderr);
}

#[test]
fn larger_than_memory() {
    let folder = Folder::new("large");
    let mut copy = Copy::of("dense3-f32.gguf");
    let (ffn, layers) = (1u64 << 24, 40);
    copy.set("qwen3.feed_forward_length", ffn as u32).set("qwen3.block_count", layers);
    let first: Vec<_> = copy.tensors.iter().filter(|t| t.name.starts_with("blk.0.")).collect();
    let entry = |layer: u32, tensor: &&crate::model::Entry| {
        let wide = |part: &str| tensor.name.contains(part);
        let mut dims = tensor.dims.clone();
        if wide("ffn_gate") || wide("ffn_up") {
            dims[1] = ffn;
        } else if wide("ffn_down") {
            dims[0] = ffn;
        }
        let name = tensor.name.replace("blk.0.", &format!("blk.{layer}."));
        crate::model::Entry { name, dims, dtype: tensor.dtype, bytes: Vec::new() }
    };
    let layers: Vec<_> =
        (0..layers).flat_map(|layer| first.iter().map(move |t| entry(layer, t))).collect();
    copy.tensors.retain(|tensor| !tensor.name.starts_with("blk."));
    copy.tensors.extend(layers);
    let (head, len) = copy.head();
    let path = folder.file("large.gguf", &head);
    let sparse = fs::File::options().write(true).open(&path).and_then(|file| file.set_len(len));
    if let Err(error) = sparse {
        println!("skipped: no file of {len} bytes can be made here: {error}");
        return;
    }
    let outcome = qwire(&["run", &path, "--raw", "hi"]);
    outcome.fails(1, &["large.gguf", "the weights take 2.0", "TB", "available"]);
    assert!(outcome.stderr.contains("hint: ") && outcome.stderr.contains("--no-memory-check"));
}
