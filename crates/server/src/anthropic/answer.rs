//! Answer: what a generation is in Anthropic's words, whole or as events.

use axum::http::StatusCode;
use qwire_text::tools::Part;
use serde_json::{Value, json};

use crate::app::Model;
use crate::chat::name::named;
use crate::chat::speaker::event_named;
use crate::chat::whole::whole;
use crate::chat::{Finish, Generation, Over, Speaker, Step};
use crate::fault::{Fault, Wire};

/// Anthropic's words.
pub struct MessageSpeaker {
    id: String,
    model: String,
    prompt: usize,
    cached: usize,
    /// What is open, and how many blocks came before it.
    open: Option<Block>,
    index: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    Call(usize),
}

impl MessageSpeaker {
    /// A speaker about a prompt of so many tokens.
    pub fn of(model: &Model, prompt: usize) -> Result<Self, Fault> {
        let id = named("msg_")?;
        Ok(Self { id, model: model.name.clone(), prompt, cached: 0, open: None, index: 0 })
    }

    fn message(&self, content: &[Value]) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": null, "stop_sequence": null,
            "usage": self.usage(1),
        })
    }

    /// Input is what was neither read from a cache nor written to one.
    fn usage(&self, answered: usize) -> Value {
        json!({
            "input_tokens": self.prompt - self.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": answered,
        })
    }

    fn start(&mut self, block: Block, content: &Value, out: &mut Vec<u8>) {
        self.stop(out);
        self.open = Some(block);
        let start = json!({
            "type": "content_block_start", "index": self.index, "content_block": content,
        });
        event_named(out, "content_block_start", &start);
    }

    fn stop(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.open.take() else { return };
        if block == Block::Thinking {
            self.delta(&json!({ "type": "signature_delta", "signature": "" }), out);
        }
        let stop = json!({ "type": "content_block_stop", "index": self.index });
        event_named(out, "content_block_stop", &stop);
        self.index += 1;
    }

    fn delta(&self, delta: &Value, out: &mut Vec<u8>) {
        let delta = json!({ "type": "content_block_delta", "index": self.index, "delta": delta });
        event_named(out, "content_block_delta", &delta);
    }

    fn part(&mut self, part: Part, out: &mut Vec<u8>) {
        match part {
            Part::Text(text) => {
                if self.open != Some(Block::Text) {
                    self.start(Block::Text, &json!({ "type": "text", "text": "" }), out);
                }
                self.delta(&json!({ "type": "text_delta", "text": text }), out);
            }
            Part::Reasoning(thinking) => {
                if self.open != Some(Block::Thinking) {
                    let empty = json!({ "type": "thinking", "thinking": "", "signature": "" });
                    self.start(Block::Thinking, &empty, out);
                }
                self.delta(&json!({ "type": "thinking_delta", "thinking": thinking }), out);
            }
            Part::CallStart { index, name } => {
                let id = named("toolu_").unwrap_or_default();
                let call = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                self.start(Block::Call(index), &call, out);
            }
            Part::CallArguments { fragment, .. } => {
                self.delta(&json!({ "type": "input_json_delta", "partial_json": fragment }), out);
            }
            Part::CallEnd { .. } => self.stop(out),
        }
    }

    fn over(&mut self, over: &Over, out: &mut Vec<u8>) {
        self.stop(out);
        self.cached = over.cached_tokens;
        let (reason, stop) = reason(&over.finish);
        let mut delta = json!({
            "type": "message_delta",
            "delta": { "stop_reason": reason, "stop_sequence": stop },
            "usage": self.usage(over.answer_tokens),
        });
        if over.finish == Finish::Repetition {
            delta["delta"]["stopped"] = json!("repetition");
        }
        event_named(out, "message_delta", &delta);
    }
}

fn reason(finish: &Finish) -> (&'static str, Value) {
    match finish {
        Finish::Natural => ("end_turn", Value::Null),
        Finish::Stop(text) => ("stop_sequence", json!(text)),
        Finish::Calls => ("tool_use", Value::Null),
        Finish::Length | Finish::Repetition => ("max_tokens", Value::Null),
    }
}

impl Speaker for MessageSpeaker {
    fn learn(&mut self, cached: usize) {
        self.cached = cached;
    }

    /// A call that was cut is left out: nobody should execute it.
    async fn whole(mut self, mut generation: Generation) -> Result<Value, Fault> {
        let said = whole(&mut generation).await?.remove(0);
        let mut content = Vec::new();
        if !said.reasoning.is_empty() {
            let thinking = said.reasoning;
            content.push(json!({ "type": "thinking", "thinking": thinking, "signature": "" }));
        }
        if !said.text.is_empty() {
            content.push(json!({ "type": "text", "text": said.text }));
        }
        for call in said.calls.into_iter().filter(|call| call.complete) {
            let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            let id = named("toolu_")?;
            content
                .push(json!({ "type": "tool_use", "id": id, "name": call.name, "input": input }));
        }
        self.cached = said.over.cached_tokens;
        let (reason, stop) = reason(&said.over.finish);
        let mut message = self.message(&content);
        message["stop_reason"] = json!(reason);
        message["stop_sequence"] = stop;
        if said.over.finish == Finish::Repetition {
            message["stopped"] = json!("repetition");
        }
        message["usage"] = self.usage(said.over.answer_tokens);
        Ok(message)
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        let start = json!({ "type": "message_start", "message": self.message(&[]) });
        event_named(out, "message_start", &start);
        event_named(out, "ping", &json!({ "type": "ping" }));
    }

    fn speak(&mut self, step: Step, out: &mut Vec<u8>) -> bool {
        match step {
            Step::Started { .. } | Step::Prompt(..) => {}
            Step::Prefill { .. } | Step::Silence => {
                event_named(out, "ping", &json!({ "type": "ping" }));
            }
            Step::Said { parts, .. } => parts.into_iter().for_each(|part| self.part(part, out)),
            Step::Over(_, over) => self.over(&over, out),
            Step::Failed(_, fault) => {
                self.stop(out);
                let busy = fault.status == StatusCode::SERVICE_UNAVAILABLE;
                tracing::debug!(busy, %fault, "an answer ended with a fault");
                event_named(out, "error", &fault.body(Wire::Anthropic, &self.id));
                return false;
            }
        }
        true
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        event_named(out, "message_stop", &json!({ "type": "message_stop" }));
    }
}
