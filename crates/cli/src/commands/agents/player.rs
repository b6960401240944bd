//! Player: asks a server what an agent asks, in its order, and checks each answer as it would.
//!
//! ```text
//! models ─ probe ─ aside ─ main ─┬─ a call ──────────────┬─ result ─ count ─ refusals
//!                                └─ none: one is demanded ┘
//! ```

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Lost};
use super::events::{Stream, shown};
use super::refusals;
use super::report::Check;
use super::roster::{Agent, Told, Wire};
use super::shape::{Asking, Called, Shape, Turn, filled, following};
use super::streams::{self, Said, Usage};
use crate::quantity::grouped;

/// Agents that hear nothing for minutes give up, and ask again.
const SILENCE: Duration = Duration::from_mins(1);

/// What may be lost of a prefix that was read before: a page's end.
const PAGE: u64 = 64;

/// An agent's part, played.
pub struct Player<'a> {
    pub agent: &'static Agent,
    pub client: &'a Client,
    pub told: &'a Told,
    /// Most tokens of an answer; as the agent says where nobody does.
    pub most: Option<u64>,
    /// Hears of each check.
    pub hear: &'a mut dyn FnMut(Check),
}

impl Player<'_> {
    /// Plays it to its end, or until nobody answers.
    pub fn play(&mut self) -> Result<(), Lost> {
        let shape = Shape::read(self.agent.shape);
        let of = |turn| shape.requests.iter().filter(move |asking| asking.turn == turn);
        self.models()?;
        for probe in of(Turn::Probe) {
            self.probe(probe)?;
        }
        for aside in of(Turn::Aside) {
            let body = self.body(aside);
            self.turn("aside", aside, &body, form_faults)?;
        }
        for main in of(Turn::Main) {
            let body = self.body(main);
            let said = self.turn("conversation", main, &body, |_, _| Vec::new())?;
            let Some((usage, mut calls)) = said.map(|said| (said.usage, calls(said))) else {
                continue;
            };
            if let (true, Some(tool)) = (calls.is_empty(), self.agent.reads) {
                calls = self.demand(main, &body, tool)?;
            }
            if let (Some(result), Some(called)) = (of(Turn::Result).next(), calls.first()) {
                let shape = result.body.as_ref().expect("it brings a result");
                let next = following(shape, &body, called, &self.told.model);
                self.turn("result", main, &next, |said, _| cache_faults(usage, said.usage))?;
            }
            if self.agent.wire == Wire::Messages {
                self.count(main, &body, usage)?;
            }
            self.refusals(main)?;
        }
        Ok(())
    }

    fn tell(&mut self, name: &'static str, seen: String, faults: Vec<String>, took: Duration) {
        (self.hear)(Check { name, seen, faults, took });
    }

    fn body(&self, asking: &Asking) -> Value {
        let mut body = filled(asking.body.as_ref().expect("it has a body"), &self.told.model);
        let key = match self.agent.wire {
            Wire::Responses => "max_output_tokens",
            Wire::Chat | Wire::Messages => "max_tokens",
        };
        if let Some(most) = self.most {
            let asked = body[key].as_u64().unwrap_or(u64::MAX);
            body[key] = json!(asked.min(most));
        }
        body
    }

    fn models(&mut self) -> Result<(), Lost> {
        let headers = match self.agent.wire {
            Wire::Messages => vec![("anthropic-version".to_owned(), "2023-06-01".to_owned())],
            Wire::Chat | Wire::Responses => Vec::new(),
        };
        let answer = self.client.ask("GET", "/v1/models", &headers, None)?;
        let list = answer.json();
        let whole = match self.agent.wire {
            Wire::Messages => list["data"][0]["type"] == "model" && list["has_more"] == false,
            Wire::Chat | Wire::Responses => list["object"] == "list",
        };
        let mut faults = Vec::new();
        if answer.status != 200 || !whole || !list["data"][0]["id"].is_string() {
            faults.push(format!("{}: {}", answer.status, shown(&answer.text())));
        }
        let context = self.told.context.map(|n| format!(", context {} tokens", grouped(n)));
        let seen = format!("{}{}", self.told.model, context.unwrap_or_default());
        self.tell("models", seen, faults, answer.took);
        Ok(())
    }

    /// Whatever the status is, somebody is there.
    fn probe(&mut self, asking: &Asking) -> Result<(), Lost> {
        let Asking { method, path, headers, .. } = asking;
        let answer = self.client.ask(method, path, headers, None)?;
        let faults = (answer.status >= 500).then(|| format!("the status is {}", answer.status));
        let seen = format!("{method} {path}: {}", answer.status);
        self.tell("probe", seen, faults.into_iter().collect(), answer.took);
        Ok(())
    }

    /// Asks and reads a stream; what was said, if anything was.
    fn turn(
        &mut self,
        name: &'static str,
        asking: &Asking,
        body: &Value,
        more: impl FnOnce(&Said, &Value) -> Vec<String>,
    ) -> Result<Option<Said>, Lost> {
        let Asking { method, path, headers, .. } = asking;
        let answer = self.client.ask(method, path, headers, Some(body))?;
        if answer.status != 200 {
            let fault = format!("{}: {}", answer.status, shown(&answer.text()));
            self.tell(name, "refused".into(), vec![fault], answer.took);
            return Ok(None);
        }
        let stream = Stream::of(&answer);
        let said = streams::read(self.agent.wire, &stream, body);
        let mut faults = said.faults.clone();
        if stream.silence > SILENCE {
            let silence = stream.silence.as_secs();
            faults.push(format!("nothing was heard for {silence} s: agents give up"));
        }
        faults.extend(more(&said, body));
        self.tell(name, seen(&stream, &said), faults, answer.took);
        Ok(Some(said))
    }

    /// Demands a call, since the model made none.
    fn demand(&mut self, main: &Asking, body: &Value, tool: &str) -> Result<Vec<Called>, Lost> {
        let mut body = body.clone();
        body["tool_choice"] = match self.agent.wire {
            Wire::Chat => json!({ "type": "function", "function": { "name": tool } }),
            Wire::Responses => json!({ "type": "function", "name": tool }),
            Wire::Messages => json!({ "type": "tool", "name": tool }),
        };
        let called = |said: &Said, _: &Value| {
            let others = said.calls.iter().filter(|call| call.name != tool);
            let mut faults: Vec<String> =
                others.map(|call| format!("`{}` was called instead", shown(&call.name))).collect();
            // A model that rambles may be cut before its call is complete.
            let cut = ["length", "max_tokens", "incomplete"].contains(&said.finish.as_str());
            if said.calls.is_empty() && !cut {
                faults.push(format!("no call of `{tool}` came about, which was demanded"));
            }
            faults
        };
        let said = self.turn("demanded call", main, &body, called)?;
        Ok(said.map(calls).unwrap_or_default())
    }

    fn count(&mut self, main: &Asking, body: &Value, usage: Option<Usage>) -> Result<(), Lost> {
        let mut body = body.clone();
        let fields = body.as_object_mut().expect("a body is an object");
        fields.retain(|key, _| ["model", "messages", "system", "tools"].contains(&key.as_str()));
        let path = main.path.replacen("/messages", "/messages/count_tokens", 1);
        let answer = self.client.ask("POST", &path, &main.headers, Some(&body))?;
        let counted = answer.json()["input_tokens"].as_u64();
        let mut faults = Vec::new();
        if counted.is_none() || counted != usage.map(|usage| usage.prompt) {
            let read = usage.map(|usage| usage.prompt);
            let said = shown(&answer.text());
            faults.push(format!("{}: {said}, and {read:?} were read", answer.status));
        }
        let seen = format!("{} tokens", counted.map_or_else(|| "no".into(), grouped));
        self.tell("count_tokens", seen, faults, answer.took);
        Ok(())
    }

    fn refusals(&mut self, main: &Asking) -> Result<(), Lost> {
        let (wire, told) = (self.agent.wire, self.told);
        let nonsense = refusals::nonsense(wire, &told.model);
        let answer = self.client.ask("POST", &main.path, &main.headers, Some(&nonsense))?;
        let seen = format!("a request that makes no sense: {}", answer.status);
        self.tell("refusal", seen, refusals::faults(wire, &answer), answer.took);
        if let Some(context) = told.context {
            let endless = refusals::endless(wire, &told.model, context + 1);
            let answer = self.client.ask("POST", &main.path, &main.headers, Some(&endless))?;
            let seen = format!("more than {} tokens: {}", grouped(context), answer.status);
            let faults = refusals::faults_of_length(wire, &answer);
            self.tell("too long", seen, faults, answer.took);
        }
        Ok(())
    }
}

/// Its calls, each with the text before it.
fn calls(said: Said) -> Vec<Called> {
    let Said { calls, text, .. } = said;
    calls.into_iter().map(|call| Called { text: text.clone(), ..call }).collect()
}

fn seen(stream: &Stream, said: &Said) -> String {
    let first = stream.first.as_secs_f64();
    let usage = said.usage.map_or_else(String::new, |Usage { prompt, cached, answer }| {
        let [prompt, cached, answer] = [prompt, cached, answer].map(grouped);
        format!(", {prompt} tokens read, {cached} of them cached, {answer} written")
    });
    let calls = said.calls.iter().map(|call| shown(&call.name)).collect::<Vec<_>>().join(", ");
    let calls = if calls.is_empty() { calls } else { format!(" ({calls})") };
    format!("first sign after {first:.2} s{usage}, ends with {}{calls}", said.finish)
}

/// A form that was asked for is kept, unless the answer was cut.
fn form_faults(said: &Said, body: &Value) -> Vec<String> {
    let schema = &body["output_config"]["format"]["schema"];
    if schema.is_null() || said.finish == "max_tokens" {
        return Vec::new();
    }
    let found: Value = serde_json::from_str(&said.text).unwrap_or_default();
    let keys = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing: Vec<&str> = keys.filter(|key| found.get(*key).is_none()).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![format!("not in the form that was asked for: {}", shown(&said.text))]
}

/// What was read for one turn needs no reading for the next.
fn cache_faults(before: Option<Usage>, now: Option<Usage>) -> Vec<String> {
    let (Some(before), Some(now)) = (before, now) else { return Vec::new() };
    if now.cached + PAGE >= before.prompt {
        return Vec::new();
    }
    let [cached, read] = [now.cached, before.prompt].map(grouped);
    let fault = format!("{cached} of {read} tokens that were read before are cached");
    vec![format!("{fault}; GET /v1/cache/explain says where the prompts part")]
}
