//! Shape: the requests of an agent as they were recorded, without their texts.
//!
//! ```text
//! {text:1234}   a text of so many characters, made up here
//! {model}       the model's name
//! {same}        what the request before said in this place
//! {answer} {call} {tool} {arguments} {input}    what came from the model
//! ```

use serde_json::{Map, Value};

/// An agent's requests, in their order.
pub struct Shape {
    /// What was recorded.
    pub version: String,
    /// One after the other.
    pub requests: Vec<Asking>,
}

/// A request.
pub struct Asking {
    /// What it is for.
    pub turn: Turn,
    /// Of HTTP.
    pub method: String,
    /// With its query.
    pub path: String,
    /// In their order.
    pub headers: Vec<(String, String)>,
    /// With marks.
    pub body: Option<Value>,
}

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Whether anybody is there.
    Probe,
    /// A title, a warm-up.
    Aside,
    /// The conversation, with tools where the agent has any.
    Main,
    /// The same with the result of a call.
    Result,
}

/// What came from the model.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Called {
    /// What it said before.
    pub text: String,
    /// The call's name for itself.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON.
    pub arguments: String,
}

impl Shape {
    /// Reads a recorded file.
    pub fn read(json: &str) -> Self {
        let shape: Value = serde_json::from_str(json).expect("a shape is JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let asking = |row: &Value| Asking {
            turn: match row["turn"].as_str() {
                Some("probe") => Turn::Probe,
                Some("aside") => Turn::Aside,
                Some("main") => Turn::Main,
                _ => Turn::Result,
            },
            method: text(&row["method"]),
            path: text(&row["path"]),
            headers: row["headers"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), written(&text(value), "")))
                .collect(),
            body: row.get("body").cloned(),
        };
        let requests = shape["requests"].as_array().expect("a list of requests");
        Self { version: text(&shape["version"]), requests: requests.iter().map(asking).collect() }
    }
}

/// A body as the agent would send it.
pub fn filled(shape: &Value, model: &str) -> Value {
    match shape {
        Value::String(text) => Value::String(written(text, model)),
        Value::Array(items) => items.iter().map(|item| filled(item, model)).collect(),
        Value::Object(pairs) => {
            pairs.iter().map(|(key, value)| (key.clone(), filled(value, model))).collect()
        }
        other => other.clone(),
    }
}

/// The request that brings the result of a call.
pub fn following(shape: &Value, before: &Value, called: &Called, model: &str) -> Value {
    let list = |items: &[Value], before: &[Value]| {
        let each = items.iter().enumerate().filter(|(_, item)| !is_empty_echo(item, called));
        let each = each.map(|(at, item)| match before.get(at) {
            Some(same) if item == "{same}" => same.clone(),
            _ => echoed(item, called, model),
        });
        each.collect::<Vec<Value>>()
    };
    let mut body = Map::new();
    for (key, value) in shape.as_object().expect("a body is an object") {
        let old = &before[key];
        let new = match (value, old) {
            (Value::String(mark), _) if mark == "{same}" => old.clone(),
            (Value::Array(items), Value::Array(before)) => list(items, before).into(),
            _ => filled(value, model),
        };
        body.insert(key.clone(), new);
    }
    Value::Object(body)
}

fn echoed(shape: &Value, called: &Called, model: &str) -> Value {
    match shape {
        Value::String(mark) => match mark.as_str() {
            "{answer}" => called.text.clone().into(),
            "{call}" => called.id.clone().into(),
            "{tool}" => called.name.clone().into(),
            "{arguments}" => called.arguments.clone().into(),
            "{input}" => serde_json::from_str(&called.arguments).unwrap_or_default(),
            text => written(text, model).into(),
        },
        Value::Array(items) => {
            let said = items.iter().filter(|item| !is_empty_echo(item, called));
            said.map(|item| echoed(item, called, model)).collect()
        }
        Value::Object(pairs) => {
            let pair =
                |(key, value): (&String, &Value)| (key.clone(), echoed(value, called, model));
            pairs.iter().map(pair).collect()
        }
        other => other.clone(),
    }
}

/// Whether something repeats what the model said, which was nothing. An agent leaves it out.
fn is_empty_echo(item: &Value, called: &Called) -> bool {
    let holds = |mark: &str| item.to_string().contains(mark);
    called.text.is_empty() && item.is_object() && holds("{answer}") && !holds("{call}")
}

/// A text with its marks replaced.
fn written(text: &str, model: &str) -> String {
    if text == "{model}" {
        return model.to_owned();
    }
    let length = text.strip_prefix("{text:").and_then(|rest| rest.strip_suffix('}'));
    length.and_then(|digits| digits.parse().ok()).map_or_else(|| text.to_owned(), prose)
}

/// So many characters that read like prose, and are said nowhere.
fn prose(length: usize) -> String {
    const WORDS: [&str; 16] = [
        "river", "under", "seven", "paint", "a", "quiet", "stone", "walks", "over", "the",
        "garden", "until", "morning", "finds", "its", "lamp",
    ];
    let mut text = String::with_capacity(length + 8);
    let mut at = length;
    while text.len() < length {
        text.push_str(WORDS[at % WORDS.len()]);
        text.push(' ');
        at = at / 3 + at * 7 + 1;
        at %= 1_000_003;
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_have_their_length_and_differ() {
        for length in [0, 1, 7, 1234] {
            assert_eq!(written(&format!("{{text:{length}}}"), "").chars().count(), length);
        }
        assert_ne!(prose(100)[..50], prose(101)[..50]);
        assert_eq!((written("{model}", "m"), written("auto", "m")), ("m".into(), "auto".into()));
    }

    #[test]
    fn what_follows_a_call_repeats_it() {
        let shape = json!({
            "model": "{same}",
            "messages": [
                "{same}",
                { "role": "assistant", "content": [
                    { "type": "text", "text": "{answer}" },
                    { "type": "tool_use", "id": "{call}", "name": "{tool}", "input": "{input}" },
                ] },
                { "role": "user", "content": [{ "tool_use_id": "{call}", "content": "{text:3}" }] },
            ],
        });
        let before = json!({ "model": "m", "messages": [{ "role": "user", "content": "a" }] });
        let mut called = Called {
            text: "b".into(),
            id: "i".into(),
            name: "n".into(),
            arguments: r#"{"c":1}"#.into(),
        };
        let body = following(&shape, &before, &called, "m");
        assert_eq!((&body["model"], &body["messages"][0]["content"]), (&json!("m"), &json!("a")));
        let call = json!({ "type": "tool_use", "id": "i", "name": "n", "input": { "c": 1 } });
        let said = &body["messages"][1]["content"];
        assert_eq!(said, &json!([{ "type": "text", "text": "b" }, call]));
        assert_eq!(body["messages"][2]["content"][0]["tool_use_id"], "i");
        called.text.clear();
        let silent = following(&shape, &before, &called, "m");
        assert_eq!(silent["messages"][1]["content"], json!([call]));
    }
}
