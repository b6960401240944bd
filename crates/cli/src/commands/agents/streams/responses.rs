//! Responses: OpenAI's named events, as Codex puts them together.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::events::{Event, shown};
use super::{Called, Said, Usage, text};

const ENDS: [&str; 3] = ["response.completed", "response.incomplete", "response.failed"];

/// Reads a stream.
pub fn read(events: &[Event]) -> Said {
    let mut reader = Reader::default();
    for (at, event) in events.iter().enumerate() {
        reader.event(at, event);
    }
    if !reader.over {
        reader.fault("the stream ends without response.completed");
    }
    reader.said
}

#[derive(Default)]
struct Reader {
    said: Said,
    /// What came of each item, by its place.
    items: BTreeMap<u64, Item>,
    done: Vec<Value>,
    over: bool,
}

#[derive(Default)]
struct Item {
    id: String,
    fragments: String,
    done: bool,
}

impl Reader {
    fn fault(&mut self, fault: impl Into<String>) {
        self.said.faults.push(fault.into());
    }

    fn event(&mut self, at: usize, event: &Event) {
        let data = event.json();
        let kind = text(&data["type"]).to_owned();
        if event.name.as_deref() != Some(kind.as_str()) {
            let name = event.name.clone().unwrap_or_default();
            return self.fault(format!("event `{name}` holds data of type `{kind}`"));
        }
        if kind == "error" {
            let message = shown(text(&data["message"]));
            return self.fault(format!("an error came in the stream: {message}"));
        }
        if data["sequence_number"] != at {
            let number = &data["sequence_number"];
            self.fault(format!("sequence number {number} where {at} is due"));
        }
        if self.over {
            return self.fault(format!("`{kind}` comes after the end"));
        }
        match (at, kind.as_str()) {
            (0, "response.created") | (1, "response.in_progress") => {}
            (0 | 1, _) => self.fault(format!("the stream begins with `{kind}`")),
            (_, "response.output_item.added") => self.begin(&data),
            (_, "response.output_item.done") => self.end(&data),
            (_, "response.in_progress") => {}
            (_, kind) if ENDS.contains(&kind) => self.finish(kind, &data["response"]),
            (_, kind) => match kind.rsplit('.').next() {
                Some("delta") => self.delta(kind, &data),
                Some("done") => self.compare(kind, &data),
                Some("added") => {}
                _ => self.fault(format!("`{kind}` is no event of Responses")),
            },
        }
    }

    fn begin(&mut self, data: &Value) {
        let due = self.items.len() as u64;
        if data["output_index"] != due {
            let found = &data["output_index"];
            self.fault(format!("item {found} where {due} is due"));
        }
        let id = text(&data["item"]["id"]).to_owned();
        self.items.insert(due, Item { id, ..Item::default() });
    }

    fn delta(&mut self, kind: &str, data: &Value) {
        let Some(item) = self.item(data) else {
            return self.fault(format!("a `{kind}` for an item that has not begun"));
        };
        item.fragments += text(&data["delta"]);
    }

    /// What is complete is what came in pieces.
    fn compare(&mut self, kind: &str, data: &Value) {
        let whole = ["text", "arguments", "input"].iter().find_map(|key| data[*key].as_str());
        let Some(item) = self.item(data) else {
            return self.fault(format!("a `{kind}` for an item that has not begun"));
        };
        let same = whole.is_none_or(|whole| whole == item.fragments);
        if !kind.ends_with("part.done") && !same {
            self.fault(format!("`{kind}` is not what the deltas said"));
        }
    }

    fn item(&mut self, data: &Value) -> Option<&mut Item> {
        let item = self.items.get_mut(&data["output_index"].as_u64()?)?;
        (!item.done && data["item_id"] == item.id.as_str()).then_some(item)
    }

    fn end(&mut self, data: &Value) {
        let item = data["item"].clone();
        let at = data["output_index"].as_u64().unwrap_or(u64::MAX);
        let Some(begun) = self.items.get_mut(&at).filter(|begun| !begun.done) else {
            return self.fault("an item ends that has not begun");
        };
        begun.done = true;
        let fragments = std::mem::take(&mut begun.fragments);
        match text(&item["type"]) {
            "message" => {
                let parts = item["content"].as_array().into_iter().flatten();
                let whole: String = parts.map(|part| text(&part["text"])).collect();
                if whole != fragments {
                    self.fault("a message is not what the deltas said");
                }
                self.said.text += &whole;
            }
            "function_call" => {
                if text(&item["arguments"]) != fragments {
                    self.fault("arguments are not what the deltas said");
                }
                if item["status"] == "completed" {
                    self.said.calls.push(Called {
                        id: text(&item["call_id"]).to_owned(),
                        name: text(&item["name"]).to_owned(),
                        arguments: text(&item["arguments"]).to_owned(),
                        ..Called::default()
                    });
                }
            }
            "reasoning" | "custom_tool_call" | "local_shell_call" => {}
            kind => {
                let fault = format!("an item of type `{kind}`");
                self.fault(fault);
            }
        }
        self.done.push(item);
    }

    fn finish(&mut self, kind: &str, response: &Value) {
        self.over = true;
        let status = text(&response["status"]).to_owned();
        if kind.strip_prefix("response.") != Some(&status) {
            self.fault(format!("`{kind}` with status `{status}`"));
        }
        if kind == "response.failed" {
            let message = shown(text(&response["error"]["message"]));
            self.fault(format!("the response failed: {message}"));
        }
        if response["output"].as_array() != Some(&self.done) {
            self.fault("the response's output is not the items that were done");
        }
        self.said.finish = status;
        let usage = &response["usage"];
        let count = |value: &Value| value.as_u64();
        match (count(&usage["input_tokens"]), count(&usage["output_tokens"])) {
            (Some(prompt), Some(answer)) if usage["total_tokens"] == prompt + answer => {
                let cached = count(&usage["input_tokens_details"]["cached_tokens"]).unwrap_or(0);
                self.said.usage = Some(Usage { prompt, cached, answer });
            }
            _ => self.fault(format!("the usage does not add up: {usage}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(rows: &[Value]) -> Vec<Event> {
        let event = |(at, row): (usize, &Value)| {
            let mut row = row.clone();
            row["sequence_number"] = json!(at);
            Event { name: Some(text(&row["type"]).to_owned()), data: row.to_string() }
        };
        rows.iter().enumerate().map(event).collect()
    }

    fn good() -> Vec<Value> {
        let item = json!({ "type": "function_call", "id": "f", "call_id": "x", "name": "n",
            "arguments": "{}", "status": "completed" });
        let usage = json!({ "input_tokens": 3, "output_tokens": 2, "total_tokens": 5,
            "input_tokens_details": { "cached_tokens": 1 } });
        vec![
            json!({ "type": "response.created" }),
            json!({ "type": "response.in_progress" }),
            json!({ "type": "response.output_item.added", "output_index": 0,
                "item": { "id": "f" } }),
            json!({ "type": "response.function_call_arguments.delta", "output_index": 0,
                "item_id": "f", "delta": "{}" }),
            json!({ "type": "response.function_call_arguments.done", "output_index": 0,
                "item_id": "f", "arguments": "{}" }),
            json!({ "type": "response.output_item.done", "output_index": 0, "item": item }),
            json!({ "type": "response.completed", "response": { "status": "completed",
                "output": [item], "usage": usage } }),
        ]
    }

    #[test]
    fn a_call_comes_together_and_every_slip_is_told() {
        let said = read(&events(&good()));
        assert!(said.faults.is_empty(), "{:?}", said.faults);
        assert_eq!((said.calls[0].id.as_str(), said.calls[0].name.as_str()), ("x", "n"));
        assert_eq!(said.usage, Some(Usage { prompt: 3, cached: 1, answer: 2 }));
        for (at, words) in [
            (0, "begins with"),
            (2, "has not begun"),
            (3, "not what the deltas said"),
            (5, "output is not the items"),
            (6, "without response.completed"),
        ] {
            let mut rows = good();
            rows.remove(at);
            let said = read(&events(&rows));
            assert!(said.faults.iter().any(|fault| fault.contains(words)), "{words}: {said:?}");
        }
        let mut late = events(&good());
        late.swap(3, 4);
        assert!(read(&late).faults.iter().any(|fault| fault.contains("sequence number")));
    }
}
