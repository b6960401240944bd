//! Answer: a generation as a response that grows, event by event. The whole answer is what the
//! last event shows.

use std::sync::Arc;

use qwire_text::tools::Part;
use serde_json::{Value, json};

use super::tools::{Origin, Tools};
use crate::app::App;
use crate::chat::name::named;
use crate::chat::speaker::{event_named, sign_of_life};
use crate::chat::{Finish, Generation, Over, Speaker, Step};
use crate::fault::{Fault, Wire};

/// Says what happens to a response.
pub struct ResponseSpeaker {
    response: Value,
    tools: Tools,
    shelf: Option<(Arc<App>, Vec<Value>)>,
    /// Finished items.
    output: Vec<Value>,
    open: Option<Item>,
    number: u64,
    failed: Option<Fault>,
}

/// An item under way.
struct Item {
    id: String,
    said: String,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    Call { index: usize, name: String, call_id: String, origin: Origin },
}

impl ResponseSpeaker {
    /// A speaker about a response that will be kept beside its items, or not.
    pub fn of(response: Value, tools: Tools, shelf: Option<(Arc<App>, Vec<Value>)>) -> Self {
        let (output, open, number, failed) = (Vec::new(), None, 0, None);
        Self { response, tools, shelf, output, open, number, failed }
    }

    fn tell(&mut self, name: &str, mut data: Value, out: &mut Vec<u8>) {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.number);
        self.number += 1;
        event_named(out, name, &data);
    }

    /// An event about the open item.
    fn tell_item(&mut self, name: &str, mut data: Value, out: &mut Vec<u8>) {
        if let Some(item) = &self.open {
            data["item_id"] = json!(item.id);
        }
        data["output_index"] = json!(self.output.len());
        self.tell(name, data, out);
    }

    fn begin(&mut self, kind: Kind, out: &mut Vec<u8>) {
        self.end("completed", out);
        let prefix = match &kind {
            Kind::Reasoning => "rs_",
            Kind::Message => "msg_",
            Kind::Call { .. } => "fc_",
        };
        // Without chance all have the same name, and their places tell them apart.
        let id = named(prefix).unwrap_or_else(|_| prefix.to_owned());
        let item = Item { id, said: String::new(), kind };
        let shown = item.shown("in_progress");
        let index = self.output.len();
        self.tell(
            "response.output_item.added",
            json!({ "output_index": index, "item": shown }),
            out,
        );
        let part = item.part();
        let about = match item.kind {
            Kind::Reasoning => Some(("response.reasoning_summary_part.added", "summary_index")),
            Kind::Message => Some(("response.content_part.added", "content_index")),
            Kind::Call { .. } => None,
        };
        self.open = Some(item);
        if let Some((name, place)) = about {
            self.tell_item(name, json!({ place: 0, "part": part }), out);
        }
    }

    fn end(&mut self, status: &str, out: &mut Vec<u8>) {
        let Some(item) = &self.open else { return };
        let (said, part) = (item.said.clone(), item.part());
        let shown = item.shown(status);
        match &item.kind {
            Kind::Reasoning => {
                let done = json!({ "summary_index": 0, "text": said });
                self.tell_item("response.reasoning_summary_text.done", done, out);
                let done = json!({ "summary_index": 0, "part": part });
                self.tell_item("response.reasoning_summary_part.done", done, out);
            }
            Kind::Message => {
                let done = json!({ "content_index": 0, "text": said, "logprobs": [] });
                self.tell_item("response.output_text.done", done, out);
                let done = json!({ "content_index": 0, "part": part });
                self.tell_item("response.content_part.done", done, out);
            }
            Kind::Call { origin: Origin::Function(_, own), .. } if status == "completed" => {
                let done = json!({ "arguments": said, "name": own });
                self.tell_item("response.function_call_arguments.done", done, out);
            }
            Kind::Call { origin: Origin::Custom, .. } if status == "completed" => {
                let input = shown["input"].clone();
                let delta = json!({ "delta": input });
                self.tell_item("response.custom_tool_call_input.delta", delta, out);
                let done = json!({ "input": input });
                self.tell_item("response.custom_tool_call_input.done", done, out);
            }
            Kind::Call { .. } => {}
        }
        let index = self.output.len();
        let done = json!({ "output_index": index, "item": shown });
        self.tell("response.output_item.done", done, out);
        self.open = None;
        self.output.push(shown);
    }

    fn say(&mut self, text: &str, name: &str, place: Option<&str>, out: &mut Vec<u8>) {
        if let Some(item) = &mut self.open {
            item.said += text;
        }
        let mut delta = json!({ "delta": text });
        if let Some(place) = place {
            delta[place] = json!(0);
        }
        if name == "response.output_text.delta" {
            delta["logprobs"] = json!([]);
        }
        self.tell_item(name, delta, out);
    }

    fn is_open(&self, kind: &Kind) -> bool {
        self.open.as_ref().is_some_and(|item| item.kind == *kind)
    }

    fn part(&mut self, part: Part, out: &mut Vec<u8>) {
        match part {
            Part::Text(text) => {
                if !self.is_open(&Kind::Message) {
                    self.begin(Kind::Message, out);
                }
                self.say(&text, "response.output_text.delta", Some("content_index"), out);
            }
            Part::Reasoning(text) => {
                if !self.is_open(&Kind::Reasoning) {
                    self.begin(Kind::Reasoning, out);
                }
                let name = "response.reasoning_summary_text.delta";
                self.say(&text, name, Some("summary_index"), out);
            }
            Part::CallStart { index, name } => {
                let call_id = named("call_").unwrap_or_default();
                let origin = self.tools.origin(&name);
                self.begin(Kind::Call { index, name, call_id, origin }, out);
            }
            Part::CallArguments { fragment, .. } => {
                let kind = self.open.as_ref().map(|item| &item.kind);
                if let Some(Kind::Call { origin: Origin::Function(..), .. }) = kind {
                    self.say(&fragment, "response.function_call_arguments.delta", None, out);
                } else if let Some(item) = &mut self.open {
                    // Other kinds are not JSON on the wire: they are told when they are whole.
                    item.said += &fragment;
                }
            }
            Part::CallEnd { .. } => self.end("completed", out),
        }
    }

    fn over(&mut self, over: &Over, out: &mut Vec<u8>) {
        let cut = matches!(over.finish, Finish::Length | Finish::Repetition);
        let status = if cut { "incomplete" } else { "completed" };
        self.end(status, out);
        let (prompt, answer) = (over.prompt_tokens, over.answer_tokens);
        self.response["status"] = json!(status);
        if cut {
            self.response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
            if over.finish == Finish::Repetition {
                self.response["stopped"] = json!("repetition");
            }
        }
        self.response["output"] = self.output.clone().into();
        self.response["usage"] = json!({
            "input_tokens": prompt,
            "input_tokens_details": { "cached_tokens": over.cached_tokens },
            "output_tokens": answer,
            "output_tokens_details": { "reasoning_tokens": over.thought_tokens },
            "total_tokens": prompt + answer,
        });
        if let Some((app, mut items)) = self.shelf.take() {
            items.extend(self.output.iter().cloned());
            let id = self.response["id"].as_str().unwrap_or_default().to_owned();
            app.kept.keep(&id, items, self.response.clone());
        }
        let response = self.response.clone();
        self.tell(&format!("response.{status}"), json!({ "response": response }), out);
    }
}

impl Item {
    fn part(&self) -> Value {
        match self.kind {
            Kind::Reasoning => json!({ "type": "summary_text", "text": self.said }),
            _ => json!({
                "type": "output_text", "text": self.said, "annotations": [], "logprobs": [],
            }),
        }
    }

    fn shown(&self, status: &str) -> Value {
        let begun = status == "in_progress";
        let parts = if begun { json!([]) } else { json!([self.part()]) };
        match &self.kind {
            Kind::Reasoning => json!({ "type": "reasoning", "id": self.id, "summary": parts }),
            Kind::Message => json!({
                "type": "message", "id": self.id, "status": status, "role": "assistant",
                "content": parts,
            }),
            Kind::Call { name, call_id, origin, .. } => {
                origin.item(&self.id, call_id, name, &self.said, status)
            }
        }
    }
}

impl Speaker for ResponseSpeaker {
    async fn whole(mut self, mut generation: Generation) -> Result<Value, Fault> {
        let mut unheard = Vec::new();
        while let Some(step) = generation.next().await {
            if !self.speak(step, &mut unheard) {
                break;
            }
            unheard.clear();
        }
        match self.failed {
            Some(fault) => Err(fault),
            None => Ok(self.response),
        }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        for name in ["response.created", "response.in_progress"] {
            let response = self.response.clone();
            self.tell(name, json!({ "response": response }), out);
        }
    }

    fn speak(&mut self, step: Step, out: &mut Vec<u8>) -> bool {
        match step {
            Step::Started { .. } | Step::Prompt(..) => {}
            Step::Prefill { .. } | Step::Silence => sign_of_life(&step, out),
            Step::Said { parts, .. } => parts.into_iter().for_each(|part| self.part(part, out)),
            Step::Over(_, over) => self.over(&over, out),
            Step::Failed(_, fault) => {
                self.end("incomplete", out);
                let body = fault.body(Wire::OpenAi, "");
                let code = fault.code.unwrap_or("server_error");
                self.response["status"] = json!("failed");
                self.response["error"] =
                    json!({ "code": code, "message": body["error"]["message"] });
                self.response["output"] = self.output.clone().into();
                let response = self.response.clone();
                self.tell("response.failed", json!({ "response": response }), out);
                self.failed = Some(fault);
                return false;
            }
        }
        true
    }

    fn close(&mut self, _out: &mut Vec<u8>) {}
}
