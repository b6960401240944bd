//! Facts: everything that `inspect` knows of a file, as it appears in `--json`.

use std::sync::Arc;

use qwire_gguf::{File, Metadata};
use qwire_kernels::rope::Scaling;
use qwire_model::{KvType, Shape, describe};
use qwire_text::{ChatTemplate, Controls, Vocabulary};
use serde::Serialize;

use super::check::CheckFacts;
use super::sidecar::SidecarFacts;
use super::weights::{TensorFacts, WeightFacts};
use crate::commands::recommended;
use crate::failure::Failure;
use crate::{backend, memory, quantity};

/// Contexts whose cost is shown, where the model has them.
const CONTEXTS: [usize; 6] = [4_096, 16_384, 32_768, 65_536, 131_072, 262_144];

#[derive(Serialize)]
pub struct Facts {
    pub file: FileFacts,
    /// None where the metadata describe no model that can run; `runs` says why.
    pub model: Option<ModelFacts>,
    pub weights: WeightFacts,
    pub tokenizer: TokenizerFacts,
    pub template: TemplateFacts,
    pub sampling: SamplingFacts,
    pub memory: Option<MemoryFacts>,
    /// Found beside the file, not in it.
    pub sidecar: Option<SidecarFacts>,
    pub runs: Verdict,
    pub unused_tensors: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensors: Option<Vec<TensorFacts>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckFacts>,
}

#[derive(Serialize)]
pub struct FileFacts {
    pub bytes: u64,
    pub shards: usize,
    pub version: u32,
    pub alignment: u64,
    pub keys: usize,
    pub tensors: usize,
    pub architecture: Option<String>,
    pub name: Option<String>,
}

#[derive(Serialize)]
pub struct ModelFacts {
    pub architecture: &'static str,
    pub layers: usize,
    pub context: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub experts: usize,
    pub experts_used: usize,
    pub routed: bool,
    pub ffn: usize,
    pub vocabulary: usize,
    pub tied_head: bool,
    pub norm_epsilon: f32,
    pub rope_dims: usize,
    pub rope_base: f64,
    pub rope_scaling: String,
}

#[derive(Serialize, Default)]
pub struct TokenizerFacts {
    pub problem: Option<String>,
    pub model: Option<String>,
    pub splitter: Option<String>,
    pub tokens: usize,
    pub merges: usize,
    pub ignored_merges: usize,
    pub add_bos: bool,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub ends: Vec<End>,
}

/// A token that ends an answer.
#[derive(Serialize)]
pub struct End {
    pub id: u32,
    pub text: String,
}

#[derive(Serialize, Default)]
pub struct TemplateFacts {
    pub present: bool,
    pub problem: Option<String>,
    pub bytes: usize,
    pub first_line: Option<String>,
    /// How tools are called, guessed from the text.
    pub tools: Option<&'static str>,
    pub thinking: bool,
}

#[derive(Serialize)]
pub struct SamplingFacts {
    /// Whether the file recommends anything.
    pub in_file: bool,
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
}

#[derive(Serialize)]
pub struct MemoryFacts {
    pub weights_bytes: u64,
    pub available_bytes: Option<u64>,
    pub kv_bytes_per_token_f16: u64,
    pub kv_bytes_per_token_f32: u64,
    /// None where heads cannot be stored so, as everything of i8.
    pub kv_bytes_per_token_i8: Option<u64>,
    pub longest_context_f16: Option<usize>,
    pub longest_context_f32: Option<usize>,
    pub longest_context_i8: Option<usize>,
    pub contexts: Vec<CacheCost>,
}

/// What one context takes beside the weights.
#[derive(Serialize)]
pub struct CacheCost {
    pub tokens: usize,
    pub f16_bytes: u64,
    pub f32_bytes: u64,
    pub i8_bytes: Option<u64>,
    pub fits_f16: Option<bool>,
}

#[derive(Serialize)]
pub struct Verdict {
    pub here: bool,
    pub why_not: Option<String>,
}

impl Facts {
    /// Everything but the contents of the tensors.
    pub fn gather(file: &Arc<File>, list: bool) -> Self {
        let metadata = file.metadata();
        let text = |key| metadata.str(key).ok().flatten().map(str::to_string);
        let described = describe(file).map(|(_, shape)| shape).map_err(Failure::from);
        let shape = described.as_ref().ok();
        let vocabulary = Vocabulary::from_gguf(metadata);
        let memory = shape.map(|shape| MemoryFacts::of(shape, file.len_bytes()));
        let bound = described
            .as_ref()
            .map_err(Failure::message)
            .and_then(|_| backend::bind(file).map_err(|failure| failure.message()));
        let tokenizer = TokenizerFacts::of(metadata, vocabulary.as_ref());
        let why_not = bound.as_ref().err().cloned();
        let why_not = why_not.or_else(|| tokenizer.problem.clone());
        let why_not = why_not.or_else(|| memory.as_ref().and_then(MemoryFacts::problem));
        Self {
            file: FileFacts {
                bytes: file.len_bytes(),
                shards: file.shards(),
                version: file.version(),
                alignment: file.alignment(),
                keys: metadata.len(),
                tensors: file.tensors().len(),
                architecture: text("general.architecture"),
                name: text("general.name"),
            },
            model: shape.map(|shape| ModelFacts::of(file, shape)),
            weights: WeightFacts::of(file, shape),
            template: TemplateFacts::of(metadata, vocabulary.as_ref().ok()),
            tokenizer,
            sampling: SamplingFacts::of(metadata),
            memory,
            sidecar: None,
            runs: Verdict { here: why_not.is_none(), why_not },
            unused_tensors: bound.unwrap_or_default(),
            tensors: list.then(|| file.tensors().iter().map(TensorFacts::of).collect()),
            check: None,
        }
    }

    /// Whether a checked model would run here, with its template.
    pub fn verdict(&self, check: &CheckFacts) -> Result<(), Failure> {
        if let Some(why_not) = &self.runs.why_not {
            return Err(Failure::new(why_not));
        }
        if let Some(problem) = &self.template.problem {
            let hint = "with `qwire run --raw` the model runs without its template";
            return Err(Failure::new(problem).hint(hint));
        }
        check.verdict()
    }
}

impl ModelFacts {
    fn of(file: &File, shape: &Shape) -> Self {
        Self {
            architecture: shape.architecture,
            layers: shape.layers,
            context: shape.context,
            hidden: shape.hidden,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            experts: shape.experts,
            experts_used: shape.routing.used,
            routed: shape.routed,
            ffn: shape.ffn,
            vocabulary: file.tensor("token_embd.weight").map_or(0, |t| t.rows() as usize),
            tied_head: file.tensor("output.weight").is_none(),
            norm_epsilon: shape.eps,
            rope_dims: shape.rotation.dims,
            rope_base: shape.rotation.base,
            rope_scaling: match shape.rotation.scaling {
                Scaling::None => "none".into(),
                Scaling::Linear { factor } => format!("linear × {factor}"),
                Scaling::Yarn { factor, original_context, .. } => {
                    format!("yarn × {factor} from {}", quantity::grouped(original_context as u64))
                }
            },
        }
    }
}

impl TokenizerFacts {
    fn of(metadata: &Metadata, vocabulary: Result<&Vocabulary, &qwire_text::Error>) -> Self {
        let text = |key| metadata.str(key).ok().flatten().map(str::to_string);
        let model = text("tokenizer.ggml.model");
        let splitter = text("tokenizer.ggml.pre");
        let vocabulary = match vocabulary {
            Ok(vocabulary) => vocabulary,
            Err(error) => {
                let problem = Some(error.to_string());
                let tokens = metadata.strings("tokenizer.ggml.tokens").ok().flatten();
                let tokens = tokens.map_or(0, |tokens| tokens.len());
                return Self { problem, model, splitter, tokens, ..Self::default() };
            }
        };
        let end = |id: &u32| End { id: *id, text: vocabulary.decode(&[*id], Controls::Show) };
        let ids = vocabulary.special_ids();
        Self {
            problem: None,
            model,
            splitter,
            tokens: vocabulary.len(),
            merges: vocabulary.merges(),
            ignored_merges: vocabulary.ignored_merges(),
            add_bos: vocabulary.add_bos(),
            bos: ids.bos,
            eos: ids.eos,
            pad: ids.pad,
            ends: vocabulary.end_ids().iter().map(end).collect(),
        }
    }
}

impl TemplateFacts {
    fn of(metadata: &Metadata, vocabulary: Option<&Vocabulary>) -> Self {
        let source = match metadata.str("tokenizer.chat_template") {
            Ok(Some(source)) => source,
            Ok(None) => return Self::default(),
            Err(error) => return Self { problem: Some(error.to_string()), ..Self::default() },
        };
        let parsed = match vocabulary {
            Some(vocabulary) => ChatTemplate::from_gguf(metadata, vocabulary).map(|_| ()),
            None => ChatTemplate::new(source).map(|_| ()),
        };
        Self {
            present: true,
            problem: parsed.err().map(|error| error.to_string()),
            bytes: source.len(),
            first_line: source.lines().next().map(|line| line.chars().take(60).collect()),
            tools: dialect(source),
            thinking: source.contains("enable_thinking"),
        }
    }
}

/// How a template writes calls of tools, by what only that dialect contains.
fn dialect(source: &str) -> Option<&'static str> {
    const DIALECTS: [(&[&str], &str); 3] = [
        (&["<tool_call>", "<function="], "Qwen3-Coder (XML)"),
        (&["<tool_call>", "\"name\""], "Hermes (JSON)"),
        (&["<tool_call>"], "unknown, in <tool_call>"),
    ];
    if !source.contains("tools") {
        return None;
    }
    let all = |marks: &[&str]| marks.iter().all(|mark| source.contains(mark));
    DIALECTS.iter().find(|row| all(row.0)).map(|row| row.1)
}

impl SamplingFacts {
    fn of(metadata: &Metadata) -> Self {
        let sampling = recommended(metadata);
        Self {
            in_file: metadata.iter().any(|(key, _)| key.starts_with("general.sampling.")),
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repetition_penalty,
        }
    }
}

impl MemoryFacts {
    fn of(shape: &Shape, weights_bytes: u64) -> Self {
        let available = memory::available();
        let room = available.map(|available| memory::room(available, weights_bytes));
        let page = |kv| shape.page_bytes(kv) as u64;
        let cost = |tokens, kv| memory::cache_bytes(shape, tokens, kv);
        let longest = |kv: KvType| {
            let pages = room.map(|room| (room / page(kv)) as usize);
            pages.map(|pages| pages.saturating_mul(memory::PAGE).min(shape.context))
        };
        let i8 = KvType::I8.refusal(shape.head_dim).is_none().then_some(KvType::I8);
        let contexts = CONTEXTS.iter().copied().filter(|tokens| *tokens < shape.context);
        let contexts = contexts.chain([shape.context]).map(|tokens| CacheCost {
            tokens,
            f16_bytes: cost(tokens, KvType::F16),
            f32_bytes: cost(tokens, KvType::F32),
            i8_bytes: i8.map(|kv| cost(tokens, kv)),
            fits_f16: room.map(|room| cost(tokens, KvType::F16) <= room),
        });
        Self {
            weights_bytes,
            available_bytes: available,
            kv_bytes_per_token_f16: page(KvType::F16) / memory::PAGE as u64,
            kv_bytes_per_token_f32: page(KvType::F32) / memory::PAGE as u64,
            kv_bytes_per_token_i8: i8.map(|kv| page(kv) / memory::PAGE as u64),
            longest_context_f16: longest(KvType::F16),
            longest_context_f32: longest(KvType::F32),
            longest_context_i8: i8.and_then(longest),
            contexts: contexts.collect(),
        }
    }

    fn problem(&self) -> Option<String> {
        let available = self.available_bytes?;
        (self.longest_context_f16 == Some(0)).then(|| {
            format!(
                "the weights take {}, but only {} of memory are available",
                quantity::bytes(self.weights_bytes),
                quantity::bytes(available)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::shape;

    #[test]
    fn dialects_are_told_by_their_marks() {
        assert_eq!(dialect("{{ messages }}"), None);
        assert_eq!(dialect("tools <tool_call>\n<function=f>"), Some("Qwen3-Coder (XML)"));
        assert_eq!(dialect("tools <tool_call>{\"name\": 1}"), Some("Hermes (JSON)"));
    }

    #[test]
    fn no_size_is_named_of_a_cache_that_is_refused() {
        let of = |head_dim| MemoryFacts::of(&Shape { head_dim, ..shape() }, 0);
        let taken = of(64);
        assert!(taken.kv_bytes_per_token_i8.is_some_and(|i8| i8 < taken.kv_bytes_per_token_f16));
        let refused = of(48);
        assert_eq!((refused.kv_bytes_per_token_i8, refused.longest_context_i8), (None, None));
        assert!(refused.contexts.iter().all(|context| context.i8_bytes.is_none()));
        assert!(refused.kv_bytes_per_token_f16 > 0 && !refused.contexts.is_empty());
    }
}
