//! Shapes: the sizes of published models, and three small ones. To add one, add a row.

use crate::arch::{Architecture, architecture};

/// Every size of a model.
#[derive(Debug)]
pub struct ShapePreset {
    /// What it is called on the command line.
    pub name: &'static str,
    /// `general.architecture`.
    pub arch: &'static str,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Width of a dense layer; a mixture only states it.
    pub ffn: usize,
    /// Experts of a layer; none in a dense model.
    pub experts: Option<Experts>,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Longest sequence.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// The experts of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a row visits.
    pub used: usize,
    /// Width of one.
    pub ffn: usize,
}

impl ShapePreset {
    /// What its architecture prescribes.
    pub fn architecture(&self) -> &'static Architecture {
        architecture(self.arch).expect("a preset's architecture runs")
    }
}

/// The preset of that name.
pub fn shape(name: &str) -> Option<&'static ShapePreset> {
    SHAPES.iter().find(|shape| shape.name == name)
}

/// Qwen3-8B, to which the other dense Qwen3 are compared.
const QWEN3: ShapePreset = ShapePreset {
    name: "qwen3-8b",
    arch: "qwen3",
    layers: 36,
    hidden: 4096,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    ffn: 12288,
    experts: None,
    vocab: 151_936,
    context: 40_960,
    rope_base: 1e6,
    tied: false,
};

/// Qwen3-30B-A3B.
const QWEN3_MOE: ShapePreset = ShapePreset {
    name: "qwen3-30b-a3b",
    arch: "qwen3moe",
    layers: 48,
    hidden: 2048,
    kv_heads: 4,
    ffn: 6144,
    experts: Some(Experts { count: 128, used: 8, ffn: 768 }),
    ..QWEN3
};

/// Qwen2.5-7B.
const QWEN2: ShapePreset = ShapePreset {
    name: "qwen2.5-7b",
    arch: "qwen2",
    layers: 28,
    hidden: 3584,
    heads: 28,
    kv_heads: 4,
    ffn: 18944,
    vocab: 152_064,
    context: 32_768,
    ..QWEN3
};

/// Small enough for a test, large enough for every path: 4 query heads a key head, 256-blocks.
const TINY: ShapePreset = ShapePreset {
    name: "tiny-dense",
    layers: 4,
    hidden: 1024,
    heads: 8,
    kv_heads: 2,
    ffn: 512,
    vocab: 4096,
    context: 4096,
    tied: true,
    ..QWEN3
};

/// Every preset.
pub static SHAPES: [ShapePreset; 11] = [
    QWEN3_MOE,
    ShapePreset {
        name: "qwen3-coder-30b-a3b",
        ffn: 5472,
        context: 262_144,
        rope_base: 1e7,
        ..QWEN3_MOE
    },
    ShapePreset {
        name: "qwen3-0.6b",
        layers: 28,
        hidden: 1024,
        heads: 16,
        ffn: 3072,
        tied: true,
        ..QWEN3
    },
    ShapePreset {
        name: "qwen3-1.7b",
        layers: 28,
        hidden: 2048,
        heads: 16,
        ffn: 6144,
        tied: true,
        ..QWEN3
    },
    ShapePreset { name: "qwen3-4b", hidden: 2560, ffn: 9728, tied: true, ..QWEN3 },
    QWEN3,
    ShapePreset {
        name: "qwen2.5-0.5b",
        layers: 24,
        hidden: 896,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
        ffn: 4864,
        vocab: 151_936,
        tied: true,
        ..QWEN2
    },
    QWEN2,
    ShapePreset {
        name: "tiny-moe",
        arch: "qwen3moe",
        experts: Some(Experts { count: 8, used: 2, ffn: 512 }),
        tied: false,
        ..TINY
    },
    TINY,
    ShapePreset { name: "tiny-qwen2", arch: "qwen2", ..TINY },
];
