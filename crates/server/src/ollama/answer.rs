//! Answer: a generation in lines of JSON, or at once in one of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use qwire_engine::Sampled;
use qwire_text::Vocabulary;
use qwire_text::tools::Part;
use serde_json::{Map, Value, json};

use crate::answer::Json;
use crate::app::{Model, date, now};
use crate::chat::name::named;
use crate::chat::speaker::line;
use crate::chat::whole::{Call, whole};
use crate::chat::{Finish, Generation, Over, Speaker, Step};
use crate::fault::{Fault, Wire};
use crate::openai::usage::chat_logprobs;

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A conversation: answers are messages.
    Chat,
    /// A prompt: answers are texts.
    Generate,
}

/// Ollama's words.
pub struct LineSpeaker {
    model: String,
    vocabulary: Arc<Vocabulary>,
    kind: Kind,
    began: Instant,
    /// Calls that have begun; each is told when it is whole.
    calls: Vec<Call>,
}

/// A text, thoughts or calls, and whatever else a line tells.
#[derive(Default)]
struct Said {
    text: String,
    thoughts: String,
    calls: Vec<Value>,
}

impl LineSpeaker {
    /// A speaker that counts the time from now on.
    pub fn of(model: &Model, kind: Kind) -> Self {
        let (model, vocabulary) = (shown(model), model.vocabulary.clone());
        Self { model, vocabulary, kind, began: Instant::now(), calls: Vec::new() }
    }

    fn line(&self, said: Said, tokens: &[Sampled]) -> Map<String, Value> {
        let mut line = head(&self.model, self.kind, said);
        if !tokens.is_empty() {
            let listed = chat_logprobs(tokens, &self.vocabulary);
            line.insert("logprobs".into(), listed["content"].clone());
        }
        line
    }

    fn end(&self, line: &mut Map<String, Value>, over: &Over) {
        let nanos = |time: Duration| json!(time.as_nanos() as u64);
        let reason = match over.finish {
            Finish::Length | Finish::Repetition => "length",
            Finish::Natural | Finish::Stop(_) | Finish::Calls => "stop",
        };
        line["done"] = json!(true);
        line.insert("done_reason".into(), json!(reason));
        if over.finish == Finish::Repetition {
            line.insert("stopped".into(), json!("repetition"));
        }
        for (name, value) in [
            ("total_duration", nanos(self.began.elapsed())),
            ("load_duration", json!(0)),
            ("prompt_eval_count", json!(over.prompt_tokens)),
            ("prompt_eval_duration", nanos(over.reading_time)),
            ("eval_count", json!(over.answer_tokens)),
            ("eval_duration", nanos(over.writing_time)),
        ] {
            line.insert(name.into(), value);
        }
    }

    fn part(&mut self, part: Part, said: &mut Said) {
        match part {
            Part::Text(text) => said.text += &text,
            Part::Reasoning(text) => said.thoughts += &text,
            Part::CallStart { name, .. } => self.calls.push(Call { name, ..Call::default() }),
            Part::CallArguments { index, fragment } => self.calls[index].arguments += &fragment,
            Part::CallEnd { index } => said.calls.push(call(index, &self.calls[index])),
        }
    }
}

/// A call that is whole.
fn call(index: usize, call: &Call) -> Value {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
    let function = json!({ "index": index, "name": call.name, "arguments": arguments });
    json!({ "id": named("call_").unwrap_or_default(), "function": function })
}

fn head(model: &str, kind: Kind, said: Said) -> Map<String, Value> {
    let Said { text, thoughts, calls } = said;
    let mut line = Map::from_iter([
        ("model".to_owned(), json!(model)),
        ("created_at".to_owned(), json!(date(now()))),
    ]);
    let mut message = Map::new();
    if kind == Kind::Chat {
        message.insert("role".into(), json!("assistant"));
        message.insert("content".into(), json!(text));
    } else {
        line.insert("response".into(), json!(text));
    }
    let inside = if kind == Kind::Chat { &mut message } else { &mut line };
    if !thoughts.is_empty() {
        inside.insert("thinking".into(), json!(thoughts));
    }
    if !calls.is_empty() {
        inside.insert("tool_calls".into(), calls.into());
    }
    if kind == Kind::Chat {
        line.insert("message".into(), message.into());
    }
    line.insert("done".into(), json!(false));
    line
}

/// The answer to who only wants the model to be there.
pub fn loaded(model: &Model, kind: Kind) -> Json<Value> {
    let mut line = head(&shown(model), kind, Said::default());
    line["done"] = json!(true);
    line.insert("done_reason".into(), json!("load"));
    Json(line.into())
}

/// A model's name as Ollama writes it, with a tag.
pub fn shown(model: &Model) -> String {
    let name = &model.name;
    if name.contains(':') { name.clone() } else { format!("{name}:latest") }
}

impl Speaker for LineSpeaker {
    const STREAM: HeaderValue = HeaderValue::from_static("application/x-ndjson");

    async fn whole(self, mut generation: Generation) -> Result<Value, Fault> {
        let found = whole(&mut generation).await?.remove(0);
        let complete = found.calls.iter().filter(|call| call.complete).enumerate();
        let calls = complete.map(|(index, one)| call(index, one)).collect();
        let told = if found.tokens.iter().any(|token| token.logprob != 0.0) {
            &found.tokens[..]
        } else {
            &[]
        };
        let said = Said { text: found.text, thoughts: found.reasoning, calls };
        let mut line = self.line(said, told);
        self.end(&mut line, &found.over);
        Ok(line.into())
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        line(out, &self.line(Said::default(), &[]));
    }

    fn speak(&mut self, step: Step, out: &mut Vec<u8>) -> bool {
        match step {
            Step::Started { .. } | Step::Prompt(..) => {}
            Step::Prefill { .. } | Step::Silence => {
                line(out, &self.line(Said::default(), &[]));
            }
            Step::Said { parts, token, .. } => {
                let mut said = Said::default();
                parts.into_iter().for_each(|part| self.part(part, &mut said));
                let token = token.filter(|token| token.logprob != 0.0);
                let visible = !said.text.is_empty()
                    || !said.thoughts.is_empty()
                    || !said.calls.is_empty()
                    || token.is_some();
                if visible {
                    line(out, &self.line(said, token.as_slice()));
                }
            }
            Step::Over(_, over) => {
                let mut last = self.line(Said::default(), &[]);
                self.end(&mut last, &over);
                line(out, &last);
            }
            Step::Failed(_, fault) => {
                line(out, &fault.body(Wire::Ollama, ""));
                return false;
            }
        }
        true
    }

    fn close(&mut self, _out: &mut Vec<u8>) {}
}
