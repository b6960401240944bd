//! Roles: who speaks when, as templates want it.
//!
//! ```text
//! reminders behind a tool's result   part of the result: where thoughts are kept until a new
//!                                    question, a user's message would drop those before it
//! the template refuses the order     neighbours of one role become one message
//! it refuses that too                instructions stand before the first question
//! ```
//! Each step changes messages in place, so that what stands before them stays as it is.

use serde_json::{Value, json};

const OPEN: &str = "<system-reminder>";
const CLOSE: &str = "</system-reminder>";

/// The steps that a conversation takes until its template renders it.
pub const STEPS: [fn(Vec<Value>) -> Vec<Value>; 2] = [merged, instructed];

/// Messages whose reminders stand in the results before them.
pub fn joined(messages: Vec<Value>) -> Vec<Value> {
    join(messages, |before, message| {
        let text = message["content"].as_str().unwrap_or_default();
        before["role"] == "tool" && message["role"] == "user" && reminds(text)
    })
}

/// Whether a text is reminders and nothing else.
fn reminds(text: &str) -> bool {
    let mut rest = text.trim();
    let any = !rest.is_empty();
    while let Some(inside) = rest.strip_prefix(OPEN) {
        let Some(end) = inside.find(CLOSE) else { return false };
        rest = inside[end + CLOSE.len()..].trim();
    }
    any && rest.is_empty()
}

/// Messages of which no two neighbours are a user's, or a model's without calls.
fn merged(messages: Vec<Value>) -> Vec<Value> {
    join(messages, |before, message| {
        let plain = |message: &Value| message.get("tool_calls").is_none();
        let role = &message["role"];
        *role == before["role"]
            && (*role == "user" || *role == "assistant" && plain(before) && plain(message))
    })
}

/// Messages without a system's: what it said comes before the first question.
fn instructed(messages: Vec<Value>) -> Vec<Value> {
    let mut messages = merged(messages);
    let system = messages.first().is_some_and(|first| first["role"] == "system");
    if system && messages.get(1).is_some_and(|next| next["role"] == "user") {
        let first = messages.remove(0);
        messages[0]["content"] = json!(together(&first, &messages[0]));
    }
    messages
}

/// Puts each message into the one before it where that is right.
fn join(messages: Vec<Value>, fits: impl Fn(&Value, &Value) -> bool) -> Vec<Value> {
    let mut joined: Vec<Value> = Vec::with_capacity(messages.len());
    for message in messages {
        match joined.last_mut().filter(|before| fits(before, &message)) {
            Some(before) => before["content"] = json!(together(before, &message)),
            None => joined.push(message),
        }
    }
    joined
}

fn together(one: &Value, other: &Value) -> String {
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    format!("{}\n\n{}", text(one), text(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(list: &[(&str, &str)]) -> Vec<Value> {
        list.iter().map(|(role, text)| json!({ "role": role, "content": text })).collect()
    }

    #[test]
    fn reminders_are_part_of_the_result_before_them() {
        let check = |given: &[(&str, &str)], expected: &[(&str, &str)]| {
            assert_eq!(joined(messages(given)), messages(expected));
        };
        let (a, b) =
            ("<system-reminder>\na\n</system-reminder>", "<system-reminder>b</system-reminder>");
        let both = format!("x\n\n{a}\n\n{b}");
        check(
            &[("tool", "x"), ("user", a), ("user", b), ("user", "c")],
            &[("tool", &both), ("user", "c")],
        );
        let mixed = format!("{a} Go on. {b}");
        for text in [mixed.as_str(), "c", "", "<system-reminder>a"] {
            check(&[("tool", "x"), ("user", text)], &[("tool", "x"), ("user", text)]);
        }
        check(&[("user", "c"), ("user", a)], &[("user", "c"), ("user", a)]);
    }

    #[test]
    fn what_is_refused_is_put_in_order() {
        let given =
            [("system", "s"), ("user", "a"), ("user", "b"), ("assistant", "c"), ("tool", "d")];
        let [merged, instructed] = STEPS.map(|step| step(messages(&given)));
        let rest = [("assistant", "c"), ("tool", "d")];
        let expected = [&[("system", "s"), ("user", "a\n\nb")], &rest[..]].concat();
        assert_eq!(merged, messages(&expected));
        let expected = [&[("user", "s\n\na\n\nb")], &rest[..]].concat();
        assert_eq!(instructed, messages(&expected));
    }
}
