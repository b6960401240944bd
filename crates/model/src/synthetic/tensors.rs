//! Tensors: name, dims, format and noise of every weight, in the order of the file.
//!
//! A linear map of rows of k values has deviation 1/√k, which keeps normed activations near 1;
//! the head has three times that, which leaves a few candidates a token. An embedding of its own
//! has deviation 1; one that is also the head has the head's.

use qwire_gguf::Dtype;
use qwire_kernels::quant::{Format, format};

use super::mix::{Mix, Part};
use super::shapes::ShapePreset;
use crate::arch::Presence;

/// Deviation of the logits.
const PEAK: f32 = 3.0;
/// Deviation of norm weights around 1, and of biases around 0.
const VECTOR_STD: f32 = 0.1;

/// One tensor to be.
pub struct Entry {
    /// GGUF's name.
    pub name: String,
    /// GGUF's order: k first.
    pub dims: Vec<u64>,
    /// Its format.
    pub dtype: Dtype,
    /// Mean of its values; only F32 has one other than 0.
    mean: f32,
    /// Their deviation.
    std: f32,
}

impl Entry {
    fn matrix(name: impl Into<String>, dims: &[usize], dtype: Dtype, std: f32) -> Self {
        let dims = dims.iter().map(|dim| *dim as u64).collect();
        Self { name: name.into(), dims, dtype, mean: 0.0, std }
    }

    fn vector(name: impl Into<String>, len: usize, mean: f32) -> Self {
        let dims = vec![len as u64];
        Self { name: name.into(), dims, dtype: Dtype::F32, mean, std: VECTOR_STD }
    }

    /// Bytes of its data.
    pub fn len_bytes(&self) -> u64 {
        let values: u64 = self.dims.iter().product();
        values / self.dtype.block_values() * self.dtype.block_bytes()
    }

    /// Turns whole blocks of random bytes into ones of its weights.
    pub fn tame(&self, blocks: &mut [u8]) {
        self.format().tame(blocks, self.std);
        if self.mean != 0.0 {
            assert_eq!(self.dtype, Dtype::F32, "a mean needs a format that can hold it");
            for bytes in blocks.as_chunks_mut().0 {
                *bytes = (f32::from_le_bytes(*bytes) + self.mean).to_le_bytes();
            }
        }
    }

    fn format(&self) -> &'static Format {
        format(self.dtype.id()).expect("a mix has formats that run")
    }
}

/// Every tensor of a shape's first `depth` layers.
pub fn entries(shape: &ShapePreset, mix: &Mix, depth: usize) -> Vec<Entry> {
    let (hidden, table) = (shape.hidden, [shape.hidden, shape.vocab]);
    let head_std = PEAK * linear_std(hidden);
    let embedding_std = if shape.tied { head_std } else { 1.0 };
    let dtype = mix.of_embedding(shape.tied, hidden);
    let mut entries = vec![Entry::matrix("token_embd.weight", &table, dtype, embedding_std)];
    for index in 0..depth {
        let layer = Layer { shape, mix, index };
        layer.attention(&mut entries);
        layer.feed(&mut entries);
    }
    entries.push(Entry::vector("output_norm.weight", hidden, 1.0));
    if !shape.tied {
        entries.push(Entry::matrix("output.weight", &table, mix.of_head(hidden), head_std));
    }
    entries
}

struct Layer<'a> {
    shape: &'a ShapePreset,
    mix: &'a Mix,
    index: usize,
}

impl Layer<'_> {
    fn attention(&self, entries: &mut Vec<Entry>) {
        let (shape, arch) = (self.shape, self.shape.architecture());
        let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        entries.push(self.vector("attn_norm.weight", shape.hidden, 1.0));
        for (side, part, rows) in [("q", Part::Q, q), ("k", Part::K, kv), ("v", Part::V, kv)] {
            entries.push(self.linear(part, &format!("attn_{side}"), &[shape.hidden, rows]));
            if arch.qkv_bias == Presence::Required {
                entries.push(self.vector(&format!("attn_{side}.bias"), rows, 0.0));
            }
        }
        if arch.head_norm == Presence::Required {
            entries.push(self.vector("attn_q_norm.weight", shape.head_dim, 1.0));
            entries.push(self.vector("attn_k_norm.weight", shape.head_dim, 1.0));
        }
        entries.push(self.linear(Part::Output, "attn_output", &[q, shape.hidden]));
    }

    fn feed(&self, entries: &mut Vec<Entry>) {
        let (hidden, experts) = (self.shape.hidden, self.shape.experts);
        entries.push(self.vector("ffn_norm.weight", hidden, 1.0));
        if let Some(experts) = experts {
            let dims = [hidden, experts.count];
            let name = self.name("ffn_gate_inp.weight");
            entries.push(Entry::matrix(name, &dims, Dtype::F32, linear_std(hidden)));
        }
        let ffn = experts.map_or(self.shape.ffn, |experts| experts.ffn);
        let plural = if experts.is_some() { "_exps" } else { "" };
        let parts = [
            ("gate", Part::Gate, [hidden, ffn]),
            ("up", Part::Up, [hidden, ffn]),
            ("down", Part::Down, [ffn, hidden]),
        ];
        for (stem, part, dims) in parts {
            let count = experts.map(|experts| experts.count);
            let dims: Vec<usize> = dims.into_iter().chain(count).collect();
            entries.push(self.linear(part, &format!("ffn_{stem}{plural}"), &dims));
        }
    }

    fn name(&self, part: &str) -> String {
        format!("blk.{}.{part}", self.index)
    }

    /// Its format depends on all layers of the shape, however many of them are made.
    fn linear(&self, part: Part, stem: &str, dims: &[usize]) -> Entry {
        let dtype = self.mix.of_part(part, self.index, self.shape.layers, dims[0]);
        let name = self.name(&format!("{stem}.weight"));
        Entry::matrix(name, dims, dtype, linear_std(dims[0]))
    }

    fn vector(&self, part: &str, len: usize, mean: f32) -> Entry {
        Entry::vector(self.name(part), len, mean)
    }
}

fn linear_std(k: usize) -> f32 {
    1.0 / (k as f32).sqrt()
}
