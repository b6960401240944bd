//! Answer: what a chat's generation is on OpenAI's wire, whole or in chunks.

use std::sync::Arc;

use axum::http::HeaderMap;
use qwire_engine::Sampled;
use qwire_text::Vocabulary;
use qwire_text::tools::Part;
use serde_json::{Map, Value, json};

use super::delivery::Delivery;
use super::letterhead::Letterhead;
use super::usage::{Usage, chat_logprobs};
use crate::app::Model;
use crate::chat::name::named;
use crate::chat::speaker::event;
use crate::chat::whole::whole;
use crate::chat::{Finish, Generation, Order, Over, Speaker, Step};
use crate::fault::{Fault, Wire};

const CHUNK: &str = "chat.completion.chunk";

/// OpenAI's words for a chat.
pub struct ChatSpeaker {
    letterhead: Letterhead,
    vocabulary: Arc<Vocabulary>,
    choices: usize,
    logprobs: bool,
    delivery: Delivery,
    usage: Usage,
}

impl ChatSpeaker {
    /// A speaker for the answers to an order.
    pub fn of(model: &Model, order: &Order, delivery: Delivery) -> Result<Self, Fault> {
        let seed = order.parameters.sampling.seed;
        Ok(Self {
            letterhead: Letterhead::of(model, "chatcmpl-", &order.ids, seed)?,
            vocabulary: model.vocabulary.clone(),
            choices: order.parameters.n,
            logprobs: order.logprobs.is_some(),
            delivery,
            usage: Usage::default(),
        })
    }

    fn chunk(&self, choice: &Value, out: &mut Vec<u8>) {
        self.delivery.chunk(self.letterhead.body(CHUNK, json!([choice])), out);
    }

    fn delta(&self, index: usize, delta: &Value, out: &mut Vec<u8>) {
        self.chunk(&choice(index, "delta", delta), out);
    }

    fn said(&self, index: usize, parts: Vec<Part>, token: Option<Sampled>, out: &mut Vec<u8>) {
        let mut deltas = parts.into_iter().filter_map(delta).collect::<Vec<_>>();
        // A token is told once, with the first thing that it made visible.
        let token = token.filter(|_| self.logprobs);
        if token.is_some() && deltas.is_empty() {
            deltas.push(json!({ "content": "" }));
        }
        let mut told = token.map(|token| chat_logprobs(&[token], &self.vocabulary));
        for delta in deltas {
            let mut choice = choice(index, "delta", &delta);
            if let Some(told) = told.take() {
                choice["logprobs"] = told;
            }
            self.chunk(&choice, out);
        }
    }
}

fn choice(index: usize, name: &str, said: &Value) -> Value {
    json!({ "index": index, name: said, "logprobs": null, "finish_reason": null })
}

fn end(choice: &mut Value, over: &Over) {
    choice["finish_reason"] = json!(match over.finish {
        Finish::Natural | Finish::Stop(_) => "stop",
        Finish::Calls => "tool_calls",
        Finish::Length | Finish::Repetition => "length",
    });
    match &over.finish {
        Finish::Repetition => choice["stopped"] = json!("repetition"),
        Finish::Stop(text) => choice["stop_reason"] = json!(text),
        _ => {}
    }
}

fn delta(part: Part) -> Option<Value> {
    let call = |call: Value| json!({ "tool_calls": [call] });
    Some(match part {
        Part::Text(text) => json!({ "content": text }),
        Part::Reasoning(text) => json!({ "reasoning_content": text }),
        Part::CallStart { index, name } => {
            let function = json!({ "name": name, "arguments": "" });
            // Without chance there is no name; a client sees an empty one, and goes on by index.
            let id = named("call_").unwrap_or_default();
            call(json!({ "index": index, "id": id, "type": "function", "function": function }))
        }
        Part::CallArguments { index, fragment } => {
            call(json!({ "index": index, "function": { "arguments": fragment } }))
        }
        Part::CallEnd { .. } => return None,
    })
}

impl Speaker for ChatSpeaker {
    fn head(&self, headers: &mut HeaderMap) {
        self.letterhead.head(headers);
    }

    async fn whole(mut self, mut generation: Generation) -> Result<Value, Fault> {
        let said = whole(&mut generation).await?;
        let mut choices = Vec::new();
        for (index, said) in said.into_iter().enumerate() {
            self.usage.add(&said.over, index == 0);
            let mut message = Map::from_iter([("role".to_owned(), json!("assistant"))]);
            let silent = said.text.is_empty() && !said.calls.is_empty();
            message.insert("content".into(), if silent { Value::Null } else { json!(said.text) });
            message.insert("refusal".into(), Value::Null);
            if !said.reasoning.is_empty() {
                message.insert("reasoning_content".into(), json!(said.reasoning));
            }
            let mut calls = Vec::new();
            for call in said.calls {
                let function = json!({ "name": call.name, "arguments": call.arguments });
                let id = named("call_")?;
                calls.push(json!({ "id": id, "type": "function", "function": function }));
            }
            if !calls.is_empty() {
                message.insert("tool_calls".into(), calls.into());
            }
            let mut choice = choice(index, "message", &message.into());
            end(&mut choice, &said.over);
            if self.logprobs {
                choice["logprobs"] = chat_logprobs(&said.tokens, &self.vocabulary);
            }
            choices.push(choice);
        }
        let mut body = self.letterhead.body("chat.completion", choices.into());
        body.insert("usage".into(), json!(self.usage));
        Ok(body.into())
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.choices {
            self.delta(index, &json!({ "role": "assistant", "content": "" }), out);
        }
    }

    fn speak(&mut self, step: Step, out: &mut Vec<u8>) -> bool {
        match step {
            Step::Started { .. } | Step::Prompt(..) => {}
            Step::Prefill { .. } | Step::Silence => {
                let nothing = choice(0, "delta", &json!({ "content": "" }));
                let body = |choices| self.letterhead.body(CHUNK, choices);
                self.delivery.wait(&step, body, &nothing, out);
            }
            Step::Said { choice, parts, token } => self.said(choice, parts, token, out),
            Step::Over(index, over) => {
                self.usage.add(&over, index == 0);
                let mut choice = choice(index, "delta", &json!({}));
                end(&mut choice, &over);
                self.chunk(&choice, out);
            }
            Step::Failed(_, fault) => {
                event(out, &fault.body(Wire::OpenAi, ""));
                return false;
            }
        }
        true
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.delivery.close(&self.letterhead, CHUNK, self.usage, out);
    }
}
