//! Streams: what an agent makes of an answer, and everything that would trip it.

mod chat;
mod messages;
mod responses;

use serde_json::Value;

use super::events::{Stream, shown};
use super::roster::Wire;
use super::shape::Called;

/// What was understood of a stream.
#[derive(Default, Debug)]
pub struct Said {
    /// Text.
    pub text: String,
    /// Calls, each complete.
    pub calls: Vec<Called>,
    /// Why it ended, in the wire's words.
    pub finish: String,
    /// What it cost, where the wire tells.
    pub usage: Option<Usage>,
    /// What an agent would stumble over.
    pub faults: Vec<String>,
}

/// Tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Of the prompt, the cached ones among them.
    pub prompt: u64,
    /// Those that were cached.
    pub cached: u64,
    /// Of the answer.
    pub answer: u64,
}

/// Reads a stream as a client of this wire does; `body` asked for it.
pub fn read(wire: Wire, stream: &Stream, body: &Value) -> Said {
    let mut said = match wire {
        Wire::Chat => chat::read(&stream.events, body),
        Wire::Messages => messages::read(&stream.events),
        Wire::Responses => responses::read(&stream.events),
    };
    said.faults.splice(0..0, stream.faults.iter().cloned());
    let mut ids: Vec<&str> = said.calls.iter().map(|call| call.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < said.calls.len() {
        said.faults.push("two calls have one id".into());
    }
    for call in &said.calls {
        said.faults.extend(misfit(wire, call, body));
    }
    said
}

/// Why a call cannot be executed.
fn misfit(wire: Wire, call: &Called, body: &Value) -> Option<String> {
    let Called { name, arguments, id, .. } = call;
    if id.is_empty() {
        return Some(format!("the call of `{name}` has no id"));
    }
    let Some(schema) = schema(wire, body, name) else {
        return Some(format!("`{}` is called, which was not offered", shown(name)));
    };
    let Ok(Value::Object(given)) = serde_json::from_str(arguments) else {
        return Some(format!("the arguments of `{name}` are no object: {}", shown(arguments)));
    };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing: Vec<&str> = required.filter(|key| !given.contains_key(*key)).collect();
    (!missing.is_empty()).then(|| format!("the call of `{name}` lacks {}", missing.join(", ")))
}

/// The schema of an offered tool's arguments.
fn schema<'a>(wire: Wire, body: &'a Value, name: &str) -> Option<&'a Value> {
    let tools = body["tools"].as_array()?.iter();
    let inner = tools.flat_map(|tool| {
        let more = tool["tools"].as_array().into_iter().flatten();
        std::iter::once(tool).chain(more)
    });
    let function = |tool: &'a Value| if wire == Wire::Chat { &tool["function"] } else { tool };
    let tool = inner.map(function).find(|tool| tool["name"] == name)?;
    Some(if wire == Wire::Messages { &tool["input_schema"] } else { &tool["parameters"] })
}

/// A text of a value, or nothing.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
