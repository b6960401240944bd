//! Messages: Anthropic's events, as the official clients put them together.

use serde_json::Value;

use super::super::events::{Event, shown};
use super::{Called, Said, Usage, text};

const REASONS: [&str; 4] = ["end_turn", "tool_use", "max_tokens", "stop_sequence"];

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Before,
    /// Between two blocks.
    Between,
    /// Within one.
    Within,
    /// After the last block.
    Ending,
    Over,
}

/// Reads a stream.
pub fn read(events: &[Event]) -> Said {
    let mut reader = Reader::default();
    for event in events {
        reader.event(event);
    }
    if reader.place != Place::Over {
        reader.fault("the stream ends without message_stop");
    }
    if reader.said.usage.is_none() {
        reader.fault("no usage");
    }
    reader.said
}

#[derive(Default)]
struct Reader {
    said: Said,
    place: Place,
    blocks: u64,
    kind: String,
    arguments: String,
}

impl Reader {
    fn fault(&mut self, fault: impl Into<String>) {
        self.said.faults.push(fault.into());
    }

    fn event(&mut self, event: &Event) {
        let data = event.json();
        let kind = text(&data["type"]).to_owned();
        if event.name.as_deref() != Some(kind.as_str()) {
            let name = event.name.clone().unwrap_or_default();
            return self.fault(format!("event `{name}` holds data of type `{kind}`"));
        }
        match (kind.as_str(), self.place) {
            ("ping", _) => {}
            ("error", _) => {
                let message = shown(text(&data["error"]["message"]));
                self.fault(format!("an error came in the stream: {message}"));
            }
            ("message_start", Place::Before) => self.start(&data["message"]),
            ("content_block_start", Place::Between) => self.block(&data),
            ("content_block_delta", Place::Within) => self.delta(&data),
            ("content_block_stop", Place::Within) => self.stop(&data),
            ("message_delta", Place::Between) => self.end(&data),
            ("message_stop", Place::Ending) => self.place = Place::Over,
            (kind, _) => self.fault(format!("`{kind}` comes out of turn")),
        }
    }

    fn start(&mut self, message: &Value) {
        self.place = Place::Between;
        let whole = message["content"].as_array().is_some_and(Vec::is_empty)
            && message["role"] == "assistant"
            && message["type"] == "message"
            && !text(&message["id"]).is_empty()
            && !text(&message["model"]).is_empty();
        if !whole {
            self.fault(format!("message_start lacks something: {}", shown(&message.to_string())));
        }
        self.usage(&message["usage"]);
    }

    fn block(&mut self, data: &Value) {
        self.place = Place::Within;
        self.index(data);
        let block = &data["content_block"];
        text(&block["type"]).clone_into(&mut self.kind);
        let whole = match self.kind.as_str() {
            "text" => block["text"] == "",
            "thinking" => block["thinking"] == "" && block["signature"] == "",
            "tool_use" => {
                let (id, name) = (text(&block["id"]).to_owned(), text(&block["name"]).to_owned());
                let whole = block["input"].as_object().is_some_and(serde_json::Map::is_empty);
                self.said.calls.push(Called { id, name, ..Called::default() });
                whole
            }
            _ => false,
        };
        if !whole {
            self.fault(format!("a block begins with {}", shown(&block.to_string())));
        }
        self.arguments.clear();
    }

    fn delta(&mut self, data: &Value) {
        self.index(data);
        let delta = &data["delta"];
        match (text(&delta["type"]), self.kind.as_str()) {
            ("text_delta", "text") => self.said.text += text(&delta["text"]),
            ("thinking_delta" | "signature_delta", "thinking") => {}
            ("input_json_delta", "tool_use") => self.arguments += text(&delta["partial_json"]),
            (delta, block) => {
                let fault = format!("a `{delta}` in a block of `{block}`");
                self.fault(fault);
            }
        }
    }

    fn stop(&mut self, data: &Value) {
        self.place = Place::Between;
        self.index(data);
        self.blocks += 1;
        if self.kind == "tool_use" {
            let arguments = std::mem::take(&mut self.arguments);
            let call = self.said.calls.last_mut().expect("its block has begun");
            call.arguments = if arguments.is_empty() { "{}".into() } else { arguments };
        }
    }

    fn index(&mut self, data: &Value) {
        if data["index"] != self.blocks {
            let (index, expected) = (&data["index"], self.blocks);
            self.fault(format!("block {index} where {expected} is due"));
        }
    }

    fn end(&mut self, data: &Value) {
        self.place = Place::Ending;
        let reason = text(&data["delta"]["stop_reason"]).to_owned();
        if !REASONS.contains(&reason.as_str()) {
            self.fault(format!("the stop reason is `{reason}`"));
        }
        if reason == "max_tokens" {
            // What was cut is nobody's to execute.
            self.said.calls.clear();
        } else if (reason == "tool_use") == self.said.calls.is_empty() {
            let calls = self.said.calls.len();
            self.fault(format!("the stop reason is `{reason}` with {calls} calls"));
        }
        self.said.finish = reason;
        self.usage(&data["usage"]);
    }

    /// What stands in the end is added to what stood in the beginning.
    fn usage(&mut self, usage: &Value) {
        let before = self.said.usage;
        let count = |key: &str| usage[key].as_u64();
        let cached = count("cache_read_input_tokens");
        let fresh = count("input_tokens");
        let written = count("cache_creation_input_tokens").unwrap_or(0);
        let (Some(answer), Some(prompt)) = (
            count("output_tokens"),
            fresh.map(|n| n + written + cached.unwrap_or(0)).or(before.map(|usage| usage.prompt)),
        ) else {
            return self.fault(format!("the usage lacks something: {usage}"));
        };
        if before.is_some_and(|before| before.prompt != prompt) {
            self.fault("the prompt's tokens differ between start and end");
        }
        let cached = cached.or(before.map(|usage| usage.cached)).unwrap_or(0);
        self.said.usage = Some(Usage { prompt, cached, answer });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(rows: &[Value]) -> Vec<Event> {
        let event = |row: &Value| Event {
            name: Some(text(&row["type"]).to_owned()),
            data: row.to_string(),
        };
        rows.iter().map(event).collect()
    }

    fn good() -> Vec<Value> {
        let usage = json!({ "input_tokens": 3, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 2, "output_tokens": 1 });
        let call = json!({ "type": "tool_use", "id": "x", "name": "n", "input": {} });
        let fragment = json!({ "type": "input_json_delta", "partial_json": "{\"a\":1}" });
        vec![
            json!({ "type": "message_start", "message": { "id": "m", "type": "message",
                "role": "assistant", "model": "q", "content": [], "usage": usage } }),
            json!({ "type": "ping" }),
            json!({ "type": "content_block_start", "index": 0, "content_block": call }),
            json!({ "type": "content_block_delta", "index": 0, "delta": fragment }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" },
                "usage": { "output_tokens": 9 } }),
            json!({ "type": "message_stop" }),
        ]
    }

    #[test]
    fn a_call_comes_together_and_every_slip_is_told() {
        let said = read(&events(&good()));
        assert!(said.faults.is_empty(), "{:?}", said.faults);
        assert_eq!(said.usage, Some(Usage { prompt: 5, cached: 2, answer: 9 }));
        assert_eq!(said.calls[0].arguments, "{\"a\":1}");
        let slips: [(usize, Option<Value>, &str); 6] = [
            (0, None, "out of turn"),
            (4, None, "out of turn"),
            (6, None, "without message_stop"),
            (4, Some(json!({ "type": "content_block_stop", "index": 1 })), "block 1 where 0"),
            (
                2,
                Some(json!({ "type": "content_block_start", "index": 0,
                "content_block": { "type": "text", "text": "" } })),
                "in a block of `text`",
            ),
            (
                5,
                Some(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" },
                "usage": { "output_tokens": 9 } })),
                "`end_turn` with 1 calls",
            ),
        ];
        for (at, row, words) in slips {
            let mut rows = good();
            rows.splice(at..=at, row);
            let said = read(&events(&rows));
            assert!(said.faults.iter().any(|fault| fault.contains(words)), "{words}: {said:?}");
        }
    }
}
