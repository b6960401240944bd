//! Parts: the metadata of a GGUF file from which a vocabulary is made, as the file states it.

use qwire_gguf::{Kind, Metadata, Value};

use crate::error::Error;

/// Metadata under `tokenizer.ggml.`, not yet checked.
#[derive(Debug, Clone, Default)]
pub struct Parts<'a> {
    /// `model`: the kind of vocabulary; only `gpt2` (byte-level pairs) is accepted.
    pub model: &'a str,
    /// `pre`: the name of the splitter.
    pub pre: Option<&'a str>,
    /// `tokens`: the text of each token, in the byte alphabet of GPT-2.
    pub tokens: Vec<&'a str>,
    /// `token_type`: the kind of each token.
    pub types: Option<Vec<i32>>,
    /// `merges`: pairs of token texts with one space between, by rank.
    pub merges: Option<Vec<&'a str>>,
    /// The ids with a purpose of their own.
    pub ids: SpecialIds,
    /// `add_bos_token`: whether a prompt starts with the `bos` token.
    pub add_bos: bool,
}

impl<'a> Parts<'a> {
    /// What a file states; whether it fits together is for the vocabulary to check.
    pub fn from_gguf(metadata: &'a Metadata) -> Result<Self, Error> {
        let id = |name: &str| metadata.u32(&format!("tokenizer.ggml.{name}_token_id"));
        let types = "tokenizer.ggml.token_type";
        Ok(Self {
            model: metadata.require_str("tokenizer.ggml.model")?,
            pre: metadata.str("tokenizer.ggml.pre")?,
            tokens: metadata.require_strings("tokenizer.ggml.tokens")?.collect(),
            types: match metadata.get(types) {
                Some(Value::Array(array)) if !matches!(array.kind(), Kind::I32 | Kind::U32) => {
                    let kind = array.kind();
                    let problem = format!("is an array of {kind}; accepted: an array of i32");
                    return Err(metadata.invalid(types, problem).into());
                }
                _ => metadata.i32s(types)?,
            },
            merges: metadata.strings("tokenizer.ggml.merges")?.map(Iterator::collect),
            ids: SpecialIds {
                bos: id("bos")?,
                eos: id("eos")?,
                eot: id("eot")?,
                eom: id("eom")?,
                pad: id("padding")?,
                fim_pre: id("fim_pre")?,
                fim_suf: id("fim_suf")?,
                fim_mid: id("fim_mid")?,
                fim_pad: id("fim_pad")?,
                fim_rep: id("fim_rep")?,
                fim_sep: id("fim_sep")?,
            },
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(false),
        })
    }
}

/// Ids with a purpose of their own, each under its GGUF key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// `bos_token_id`: starts a text.
    pub bos: Option<u32>,
    /// `eos_token_id`: ends a text.
    pub eos: Option<u32>,
    /// `eot_token_id`: ends a turn.
    pub eot: Option<u32>,
    /// `eom_token_id`: ends a message.
    pub eom: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `fim_pre_token_id`: what stands before the gap to fill.
    pub fim_pre: Option<u32>,
    /// `fim_suf_token_id`: what stands after the gap.
    pub fim_suf: Option<u32>,
    /// `fim_mid_token_id`: where filling begins.
    pub fim_mid: Option<u32>,
    /// `fim_pad_token_id`.
    pub fim_pad: Option<u32>,
    /// `fim_rep_token_id`: a repository's name follows.
    pub fim_rep: Option<u32>,
    /// `fim_sep_token_id`: a file's path follows.
    pub fim_sep: Option<u32>,
}

impl SpecialIds {
    /// The ids under their GGUF keys.
    pub(crate) fn by_key(&self) -> [(&'static str, Option<u32>); 11] {
        [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.eot_token_id", self.eot),
            ("tokenizer.ggml.eom_token_id", self.eom),
            ("tokenizer.ggml.padding_token_id", self.pad),
            ("tokenizer.ggml.fim_pre_token_id", self.fim_pre),
            ("tokenizer.ggml.fim_suf_token_id", self.fim_suf),
            ("tokenizer.ggml.fim_mid_token_id", self.fim_mid),
            ("tokenizer.ggml.fim_pad_token_id", self.fim_pad),
            ("tokenizer.ggml.fim_rep_token_id", self.fim_rep),
            ("tokenizer.ggml.fim_sep_token_id", self.fim_sep),
        ]
    }

    /// The ids after which nothing more is generated.
    pub(crate) fn ends(&self) -> impl Iterator<Item = u32> {
        [self.eos, self.eot, self.eom, self.fim_pad, self.fim_rep, self.fim_sep]
            .into_iter()
            .flatten()
    }
}
