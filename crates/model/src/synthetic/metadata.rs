//! Metadata: the keys of a synthetic model.

use qwire_gguf::{Error, OwnedArray, OwnedValue, Writer};

use super::Recipe;
use super::vocabulary::Vocabulary;

/// A conversation in the format of Qwen3-Coder.
const TEMPLATE: &str = include_str!("template.jinja");
/// Epsilon of every Qwen's norms.
const EPS: f32 = 1e-6;

/// Adds every key of a model of `depth` layers.
pub fn declare(
    writer: &mut Writer,
    recipe: &Recipe,
    depth: usize,
    vocabulary: Vocabulary,
) -> Result<(), Error> {
    let shape = recipe.shape;
    writer
        .metadata("general.architecture", shape.arch)?
        .metadata("general.type", "model")?
        .metadata("general.name", format!("Synthetic {}", shape.name))?
        .metadata("general.file_type", recipe.mix.file_type)?
        .metadata("general.quantization_version", 2_u32)?;
    for (key, size) in sizes(recipe, depth) {
        writer.metadata(&format!("{}.{key}", shape.arch), size)?;
    }
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    for (name, text) in
        [("bos", "<|endoftext|>"), ("eos", "<|im_end|>"), ("padding", "<|endoftext|>")]
    {
        writer.metadata(&key(&format!("{name}_token_id")), vocabulary.id(text))?;
    }
    writer
        .metadata(&key("add_bos_token"), false)?
        .metadata(&key("model"), vocabulary.model)?
        .metadata(&key("pre"), vocabulary.pre)?
        .metadata(&key("tokens"), OwnedArray::strings(vocabulary.tokens))?
        .metadata(&key("token_type"), vocabulary.types)?
        .metadata(&key("merges"), OwnedArray::strings(vocabulary.merges))?
        .metadata("tokenizer.chat_template", TEMPLATE)?;
    Ok(())
}

/// Keys under the architecture's prefix.
fn sizes(recipe: &Recipe, depth: usize) -> Vec<(&'static str, OwnedValue)> {
    let shape = recipe.shape;
    let count = |count: usize| OwnedValue::U32(count as u32);
    let mut sizes = vec![
        ("block_count", count(depth)),
        ("context_length", count(shape.context)),
        ("embedding_length", count(shape.hidden)),
        ("feed_forward_length", count(shape.ffn)),
        ("attention.head_count", count(shape.heads)),
        ("attention.head_count_kv", count(shape.kv_heads)),
        ("attention.key_length", count(shape.head_dim)),
        ("attention.value_length", count(shape.head_dim)),
        ("attention.layer_norm_rms_epsilon", EPS.into()),
        ("rope.freq_base", shape.rope_base.into()),
    ];
    if let Some(experts) = shape.experts {
        sizes.extend([
            ("expert_count", count(experts.count)),
            ("expert_used_count", count(experts.used)),
            ("expert_feed_forward_length", count(experts.ffn)),
        ]);
    }
    sizes
}
