//! What a synthetic model promises: it binds, runs, repeats itself and has the size foretold.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::io;

use qwire_gguf::{Dtype, Tensor};
use qwire_kernels::attention::PAGE;
use qwire_kernels::quant::format;

use super::*;
use crate::arch::Feed;
use crate::backend::{KvType, Limits};
use crate::batch::{Batch, PageId, TokenId};
use crate::model::describe;
use crate::reference::Reference;
use crate::runner::{Loaded, Runner};

fn recipe(shape_name: &str, mix_name: &str) -> Recipe {
    Recipe::new(shape(shape_name).unwrap(), mix(mix_name).unwrap(), 1)
}

/// Counts and hashes what is written.
#[derive(Default)]
struct Fingerprint {
    len: u64,
    hash: DefaultHasher,
}

impl Write for &mut Fingerprint {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Byte by byte, since a hasher may tell one long write from two short ones.
        for byte in bytes {
            self.hash.write_u8(*byte);
        }
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fingerprint(recipe: &Recipe, chunk_bytes: usize) -> (u64, u64) {
    let mut print = Fingerprint::default();
    write_chunks(recipe, chunk_bytes, &mut print, &mut |_, _| {}).unwrap();
    (print.len, print.hash.finish())
}

#[test]
fn the_file_is_a_function_of_the_recipe() {
    for mix in ["q4_k_m", "q8_0", "dynamic"] {
        let mut recipe = recipe("tiny-moe", mix);
        recipe.layers = Some(1);
        let whole = fingerprint(&recipe, CHUNK_BYTES);
        assert_eq!(whole.0, len_bytes(&recipe).unwrap());
        for chunk_bytes in [1, 5000, CHUNK_BYTES] {
            assert_eq!(fingerprint(&recipe, chunk_bytes), whole, "{mix} by {chunk_bytes}");
        }
        recipe.seed = 2;
        assert_ne!(fingerprint(&recipe, CHUNK_BYTES).1, whole.1);
    }
}

#[test]
fn sizes_are_foretold_and_progress_is_heard() {
    for mix in &MIXES {
        let mut recipe = recipe("tiny-qwen2", mix.name);
        recipe.layers = Some(2);
        let (mut bytes, mut heard) = (Vec::new(), Vec::new());
        write(&recipe, &mut bytes, &mut |done, total| heard.push((done, total))).unwrap();
        assert_eq!(bytes.len() as u64, len_bytes(&recipe).unwrap(), "{}", mix.name);
        let (done, total) = *heard.last().unwrap();
        let file = File::from_bytes(bytes).unwrap();
        assert_eq!((done, total), (total, file.tensors().iter().map(Tensor::len_bytes).sum()));
        assert!(heard.is_sorted());
    }
}

#[test]
fn every_shape_has_the_sizes_of_its_row() {
    for shape in &SHAPES {
        let recipe = Recipe::new(shape, mix("q4_k_m").unwrap(), 1);
        let mut writer = Writer::default();
        let vocabulary = Vocabulary::generate(shape.vocab);
        metadata::declare(&mut writer, &recipe, shape.layers, vocabulary).unwrap();
        let header = writer.begin(Vec::new()).unwrap().finish().unwrap();
        let (arch, found) = describe(&File::from_bytes(header).unwrap()).unwrap();
        assert_eq!((arch.name, found.layers), (shape.arch, shape.layers));
        assert_eq!((found.hidden, found.context), (shape.hidden, shape.context));
        assert_eq!((found.heads, found.kv_heads), (shape.heads, shape.kv_heads));
        assert_eq!((found.head_dim, found.rotation.base as f32), (shape.head_dim, shape.rope_base));
        assert_eq!(found.routed, arch.feed == Feed::Experts);
        let (count, used, ffn) =
            shape.experts.map_or((1, 1, shape.ffn), |e| (e.count, e.used, e.ffn));
        assert_eq!((found.experts, found.routing.used, found.ffn), (count, used, ffn));
        assert!(len_bytes(&recipe).unwrap() > 0, "{}", shape.name);
    }
}

#[test]
fn the_large_shape_has_its_published_size() {
    let check = |shape, mix, gb: f64| {
        let len = len_bytes(&recipe(shape, mix)).unwrap() as f64 / 1e9;
        assert!((len / gb - 1.0).abs() < 0.003, "{shape} {mix}: {len} GB, published with {gb}");
    };
    check("qwen3-30b-a3b", "q4_k_m", 18.556);
    check("qwen3-30b-a3b", "q8_0", 32.484);
    check("qwen3-8b", "q4_k_m", 5.027);
}

#[test]
fn fewer_layers_are_the_first_ones() {
    let (mut part, whole) = (recipe("tiny-moe", "q4_k_m"), recipe("tiny-moe", "q4_k_m"));
    part.layers = Some(2);
    let (part, whole) = (file(&part).unwrap(), file(&whole).unwrap());
    assert!(part.tensor("blk.1.attn_q.weight").is_some());
    assert!(part.tensor("blk.2.attn_q.weight").is_none());
    for tensor in part.tensors() {
        let same = whole.tensor(&tensor.name).unwrap();
        assert_eq!((&tensor.dims, tensor.dtype), (&same.dims, same.dtype), "{}", tensor.name);
        assert!(part.data(tensor) == whole.data(same), "{}", tensor.name);
    }
    for asked in [0, 5] {
        let recipe = Recipe { layers: Some(asked), ..recipe("tiny-moe", "q4_k_m") };
        let line = len_bytes(&recipe).unwrap_err().to_string();
        assert_eq!(line, format!("{asked} layers of tiny-moe; accepted: 1 to 4"));
    }
}

#[test]
fn weights_have_their_deviation_and_no_subnormal() {
    for mix in &MIXES {
        let file = file(&Recipe { layers: Some(2), ..recipe("tiny-moe", mix.name) }).unwrap();
        for tensor in file.tensors() {
            let mut values = vec![0.0; tensor.elements() as usize];
            format(tensor.dtype.id()).unwrap().dequantise(file.data(tensor), &mut values);
            let about = format!("{} of {} in {}", tensor.name, tensor.dtype, mix.name);
            assert!(values.iter().all(|w| w.is_finite() && !w.is_subnormal()), "{about}");
            let mean: f64 = values.iter().map(|w| f64::from(*w)).sum::<f64>() / values.len() as f64;
            let square = |w: &f32| (f64::from(*w) - mean) * (f64::from(*w) - mean);
            let std = (values.iter().map(square).sum::<f64>() / values.len() as f64).sqrt();
            let expected = match tensor.name.as_str() {
                name if name.ends_with("norm.weight") => 0.1,
                "token_embd.weight" => 1.0,
                "output.weight" => 3.0 / 32.0,
                _ => 1.0 / (tensor.dims[0] as f64).sqrt(),
            };
            // The scale of MXFP4 is a power of two.
            let least = if tensor.dtype == Dtype::MXFP4 { 0.5 } else { 0.8 };
            assert!((least..1.2).contains(&(std / expected)), "{about}: deviation {std}");
        }
    }
}

/// Rows of logits after a prompt that has every kind of token.
fn run(file: &Arc<File>) -> Vec<Vec<f32>> {
    let limits = |_: &crate::Shape| Limits { rows: 12, outputs: 12, pages: 1, kv: KvType::F32 };
    let mut loaded = Loaded::load(file, Reference::default(), limits, &mut |_, _| {}).unwrap();
    assert_eq!(loaded.model.unused, [""; 0]);
    let tokens: Vec<TokenId> = (0..12).map(|at| TokenId(at * 370 % 4096)).collect();
    assert!(tokens.len() < PAGE);
    let poison = loaded.step(&Batch::single(&tokens, 0, vec![PageId(0)], true));
    assert_eq!(poison, []);
    let vocab = loaded.vocab();
    loaded.logits(0..12).chunks_exact(vocab).map(<[f32]>::to_vec).collect()
}

fn entropy(logits: &[f32]) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|x| libm::exp(f64::from(x - top))).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).filter(|p| *p > 0.0).map(|p| -p * libm::log(p)).sum()
}

#[test]
fn the_small_ones_run_and_are_peaked_but_not_stuck() {
    for (shape, mix) in [
        ("tiny-moe", "q4_k_m"),
        ("tiny-moe", "dynamic"),
        ("tiny-dense", "f16"),
        ("tiny-dense", "q5_k_m"),
        ("tiny-qwen2", "q8_0"),
    ] {
        let rows = run(&file(&recipe(shape, mix)).unwrap());
        let top =
            |row: &Vec<f32>| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        let tops: HashSet<usize> = rows.iter().map(top).collect();
        assert!(tops.len() > rows.len() / 2, "{shape} {mix}: top-1 {tops:?}");
        for row in &rows {
            assert!(row.iter().all(|logit| logit.is_finite()));
            let entropy = entropy(row);
            assert!((1.5..6.5).contains(&entropy), "{shape} {mix}: entropy {entropy}");
        }
    }
}
