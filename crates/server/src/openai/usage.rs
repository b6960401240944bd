//! Usage and log-probabilities, as OpenAI counts and writes them.

use qwire_engine::Sampled;
use qwire_text::{Controls, Vocabulary};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::answer::decimal;
use crate::chat::Over;

/// The least log-probability that is written: JSON has no infinity.
const FLOOR: f32 = -9999.0;

/// Tokens of a whole request.
#[derive(Clone, Copy, Default, Serialize, Debug)]
pub struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Default, Serialize, Debug)]
struct PromptDetails {
    cached_tokens: usize,
}

#[derive(Clone, Copy, Default, Serialize, Debug)]
struct CompletionDetails {
    #[serde(rename = "reasoning_tokens")]
    reasoning: usize,
    #[serde(rename = "accepted_prediction_tokens")]
    accepted: usize,
    #[serde(rename = "rejected_prediction_tokens")]
    rejected: usize,
}

impl Usage {
    /// Adds a choice. The first one of each prompt counts it.
    pub fn add(&mut self, over: &Over, first: bool) {
        if first {
            self.prompt_tokens += over.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += over.cached_tokens;
        }
        self.completion_tokens += over.answer_tokens;
        let details = &mut self.completion_tokens_details;
        details.reasoning += over.thought_tokens;
        details.accepted += over.predicted_tokens.0;
        details.rejected += over.predicted_tokens.1;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

/// The `logprobs` of a chat's choice or chunk.
pub fn chat_logprobs(tokens: &[Sampled], vocabulary: &Vocabulary) -> Value {
    let content: Vec<Value> = tokens
        .iter()
        .map(|sampled| {
            let mut entry = entry(sampled.token.0, sampled.logprob, vocabulary);
            let top = sampled.top.iter().map(|(id, logprob)| entry_of(id.0, *logprob, vocabulary));
            entry.insert("top_logprobs".into(), top.collect());
            Value::Object(entry)
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

fn logarithm(logprob: f32) -> Value {
    decimal(logprob.max(FLOOR))
}

fn entry(id: u32, logprob: f32, vocabulary: &Vocabulary) -> Map<String, Value> {
    let bytes = vocabulary.token_bytes(id, Controls::Show);
    let text = String::from_utf8_lossy(bytes);
    Map::from_iter([
        ("token".into(), json!(text)),
        ("logprob".into(), logarithm(logprob)),
        ("bytes".into(), json!(bytes)),
    ])
}

fn entry_of(id: u32, logprob: f32, vocabulary: &Vocabulary) -> Value {
    entry(id, logprob, vocabulary).into()
}

/// The `logprobs` of a completion, which start at some place of its text.
pub struct Listing<'a> {
    vocabulary: &'a Vocabulary,
    tokens: Vec<String>,
    logprobs: Vec<Value>,
    tops: Vec<Value>,
    offsets: Vec<usize>,
    offset: usize,
}

impl<'a> Listing<'a> {
    /// An empty listing at so many characters.
    pub fn at(offset: usize, vocabulary: &'a Vocabulary) -> Self {
        let (tokens, logprobs, tops, offsets) = Default::default();
        Self { vocabulary, tokens, logprobs, tops, offsets, offset }
    }

    /// Adds a token that was not drawn: the first of a prompt.
    pub fn given(&mut self, id: u32) {
        let text = self.text(id);
        self.add(text, Value::Null, Value::Null);
    }

    /// Adds a token.
    pub fn sampled(&mut self, sampled: &Sampled) {
        let text = self.text(sampled.token.0);
        let top = sampled.top.iter().map(|(id, logprob)| (self.text(id.0), logarithm(*logprob)));
        let top = Value::Object(top.collect());
        self.add(text, logarithm(sampled.logprob), top);
    }

    /// How many characters are listed.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// As it is written.
    pub fn value(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.tops,
            "text_offset": self.offsets,
        })
    }

    /// Half a character is spelt by its bytes, as OpenAI does, so that no two tokens look alike.
    fn text(&self, id: u32) -> String {
        let bytes = self.vocabulary.token_bytes(id, Controls::Show);
        let spelt =
            || bytes.iter().fold("bytes:".to_owned(), |text, b| text + &format!("\\x{b:02x}"));
        str::from_utf8(bytes).map_or_else(|_| spelt(), Into::into)
    }

    fn add(&mut self, text: String, logprob: Value, top: Value) {
        self.offsets.push(self.offset);
        self.offset += text.chars().count();
        self.tokens.push(text);
        self.logprobs.push(logprob);
        self.tops.push(top);
    }
}
