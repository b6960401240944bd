//! Chat: chunks of OpenAI's chat completions, as the official clients put them together.

use serde_json::Value;

use super::super::events::{Event, shown};
use super::{Called, Said, Usage, text};

const FINISHES: [&str; 3] = ["stop", "tool_calls", "length"];

/// Reads a stream.
pub fn read(events: &[Event], body: &Value) -> Said {
    let mut reader = Reader::default();
    let (last, chunks) = match events.split_last() {
        Some((last, chunks)) => (last.data.as_str(), chunks),
        None => ("", events),
    };
    for event in chunks {
        reader.chunk(event);
    }
    if last != "[DONE]" {
        let last = shown(last);
        reader.fault(format!("the last message is `{last}`, not [DONE]"));
    }
    reader.finish(body["stream_options"]["include_usage"] == true)
}

#[derive(Default)]
struct Reader {
    said: Said,
    id: Option<String>,
    begun: bool,
    finished: bool,
}

impl Reader {
    fn fault(&mut self, fault: impl Into<String>) {
        self.said.faults.push(fault.into());
    }

    fn chunk(&mut self, event: &Event) {
        let chunk = event.json();
        if let Some(message) = chunk["error"]["message"].as_str() {
            return self.fault(format!("an error came in the stream: {}", shown(message)));
        }
        if event.name.is_some() || chunk["object"] != "chat.completion.chunk" {
            return self.fault(format!("`{}` is no chunk", shown(&event.data)));
        }
        let id = text(&chunk["id"]);
        if self.id.get_or_insert_with(|| id.to_owned()) != id || id.is_empty() {
            self.fault("the id changes within the stream, or is missing");
        }
        if !chunk["usage"].is_null() {
            self.usage(&chunk["usage"]);
        }
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            self.choice(choice);
        }
    }

    fn choice(&mut self, choice: &Value) {
        let delta = &choice["delta"];
        if !self.begun && delta["role"] != "assistant" {
            self.fault("the first chunk does not say that the assistant speaks");
        }
        self.begun = true;
        if choice["index"] != 0 {
            self.fault("a choice that was not asked for");
        }
        if self.finished && delta.as_object().is_some_and(|delta| !delta.is_empty()) {
            self.fault("something comes after the end");
        }
        self.said.text += text(&delta["content"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call);
        }
        if let Some(finish) = choice["finish_reason"].as_str() {
            self.finished = true;
            finish.clone_into(&mut self.said.finish);
        }
    }

    /// Clients tell calls apart by their index; id and name come once, with the first fragment.
    fn call(&mut self, call: &Value) {
        let Some(at) = call["index"].as_u64() else {
            return self.fault("a fragment of a call has no index");
        };
        let (id, function) = (text(&call["id"]), &call["function"]);
        let (name, fragment) = (text(&function["name"]), text(&function["arguments"]));
        let calls = self.said.calls.len() as u64;
        if at == calls {
            if id.is_empty() || name.is_empty() || call["type"] != "function" {
                self.fault("a call does not begin with id, type and name");
            }
            let (id, name) = (id.to_owned(), name.to_owned());
            self.said.calls.push(Called { id, name, ..Called::default() });
        } else if at + 1 != calls {
            return self.fault(format!("a fragment of call {at} where {calls} have begun"));
        } else if !id.is_empty() || !name.is_empty() {
            self.fault("id or name of a call come again");
        }
        if let Some(call) = self.said.calls.last_mut() {
            call.arguments += fragment;
        }
    }

    fn usage(&mut self, usage: &Value) {
        let count = |key: &str| usage[key].as_u64().unwrap_or(u64::MAX);
        let (prompt, answer) = (count("prompt_tokens"), count("completion_tokens"));
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        if prompt.checked_add(answer) != usage["total_tokens"].as_u64() || cached > prompt {
            self.fault(format!("the usage does not add up: {usage}"));
        }
        self.said.usage = Some(Usage { prompt, cached, answer });
    }

    fn finish(mut self, wants_usage: bool) -> Said {
        if wants_usage && self.said.usage.is_none() {
            self.fault("no usage, which was asked for");
        }
        let finish = self.said.finish.clone();
        if !FINISHES.contains(&finish.as_str()) {
            self.fault(format!("the finish reason is `{finish}`"));
        }
        if finish == "length" {
            // What was cut is nobody's to execute.
            self.said.calls.clear();
        } else if (finish == "tool_calls") == self.said.calls.is_empty() {
            let calls = self.said.calls.len();
            self.fault(format!("the finish reason is `{finish}` with {calls} calls"));
        }
        self.said
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(deltas: &[Value], finish: &str, more: &[&str]) -> Vec<Event> {
        let chunk = |delta: &Value, finish: Value| {
            let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
            json!({ "id": "c", "object": "chat.completion.chunk", "choices": [choice] }).to_string()
        };
        let mut data: Vec<String> = deltas.iter().map(|delta| chunk(delta, Value::Null)).collect();
        data.push(chunk(&json!({}), json!(finish)));
        data.extend(more.iter().map(|text| (*text).to_owned()));
        data.into_iter().map(|data| Event { name: None, data }).collect()
    }

    #[test]
    fn a_call_comes_together_and_every_slip_is_told() {
        let role = json!({ "role": "assistant", "content": "" });
        let fragment = |call: Value| json!({ "tool_calls": [call] });
        let begin = fragment(json!({ "index": 0, "id": "x", "type": "function",
            "function": { "name": "n", "arguments": "" } }));
        let more = fragment(json!({ "index": 0, "function": { "arguments": "{}" } }));
        let done = ["[DONE]"];
        let good = events(&[role.clone(), begin.clone(), more.clone()], "tool_calls", &done);
        let said = read(&good, &json!({}));
        assert!(said.faults.is_empty(), "{:?}", said.faults);
        assert_eq!((said.calls[0].id.as_str(), said.calls[0].arguments.as_str()), ("x", "{}"));
        let again = fragment(json!({ "index": 0, "id": "x", "function": { "arguments": "" } }));
        for (deltas, finish, more, words) in [
            (vec![begin.clone()], "tool_calls", &done[..], "does not say"),
            (vec![role.clone(), begin.clone()], "stop", &done, "`stop` with 1 calls"),
            (vec![role.clone()], "tool_calls", &done, "`tool_calls` with 0 calls"),
            (vec![role.clone()], "ended", &done, "finish reason is `ended`"),
            (vec![role.clone()], "stop", &[], "not [DONE]"),
            (vec![role.clone(), begin.clone(), again], "tool_calls", &done, "come again"),
            (vec![role.clone(), more], "stop", &done, "does not begin with"),
            (vec![role], "stop", &["{}", "[DONE]"], "`{}` is no chunk"),
        ] {
            let said = read(&events(&deltas, finish, more), &json!({}));
            assert!(said.faults.iter().any(|fault| fault.contains(words)), "{words}: {said:?}");
        }
    }
}
