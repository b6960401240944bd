//! Items: what a client of Responses hands in, as the conversation that templates know.
//!
//! Reasoning, words and calls that follow one another were one answer, and become one message.

use serde_json::{Map, Value, json};

use super::tools::Tools;
use crate::chat::Conversation;
use crate::chat::conversation::walkable;
use crate::fault::Fault;
use crate::fields::{Fields, wrong};

/// Reads `input`: a text, or items.
pub fn read(fields: &mut Fields) -> Result<Vec<Value>, Fault> {
    let path = fields.path("input");
    match fields.take("input") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => {
            Ok(vec![json!({ "type": "message", "role": "user", "content": text })])
        }
        Some(Value::Array(items)) => match items.iter().position(|item| !item.is_object()) {
            Some(at) => Err(wrong(&format!("{path}[{at}]"), &items[at], "an object")),
            None => Ok(items),
        },
        Some(other) => Err(wrong(&path, &other, "a text or a list of items")),
    }
}

/// The conversation that items are.
pub fn conversation(
    instructions: Option<String>,
    items: &[Value],
    tools: &Tools,
) -> Result<Conversation, Fault> {
    let mut conversation = Conversation { tools: tools.functions.clone(), ..Default::default() };
    if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
        conversation.push("system", instructions, Map::new());
    }
    let mut answer = Answer::default();
    for (at, item) in items.iter().enumerate() {
        if !answer.takes(item, tools) {
            answer.end(&mut conversation);
            push(item, &mut conversation, at)?;
        }
    }
    answer.end(&mut conversation);
    if conversation.messages.is_empty() {
        return Err(Fault::field("input", "is required"));
    }
    Ok(conversation)
}

/// What somebody else than the model said.
fn push(item: &Value, conversation: &mut Conversation, at: usize) -> Result<(), Fault> {
    match item["type"].as_str() {
        None | Some("message") => {
            let role = match item["role"].as_str() {
                Some("system" | "developer") => "system",
                Some("user") => "user",
                other => {
                    let found = other.unwrap_or("absent").chars().take(40).collect::<String>();
                    let fault = format!(
                        "is `{found}`: accepted is `user`, `system`, `developer` \
                                         and `assistant`"
                    );
                    return Err(Fault::field(format!("input[{at}].role"), fault));
                }
            };
            conversation.push(role, text_of(&item["content"]), Map::new());
        }
        Some(kind) if kind.ends_with("_output") => {
            let more = Map::from_iter([("tool_call_id".to_owned(), item["call_id"].clone())]);
            conversation.push("tool", text_of(&item["output"]), more);
        }
        // Searches and other things that ran elsewhere left nothing that this model could read.
        Some(_) => {}
    }
    Ok(())
}

/// The text of a content, whatever its shape.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(part).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn part(part: &Value) -> String {
    // What a shell wrote.
    if let (Some(out), error) = (part["stdout"].as_str(), part["stderr"].as_str()) {
        return [out, error.unwrap_or_default()].concat();
    }
    let text = part["text"].as_str().or_else(|| part["refusal"].as_str());
    text.map_or_else(
        || {
            let kind: String = part["type"].as_str().unwrap_or("part").chars().take(40).collect();
            format!("[{kind}: not shown, this model reads text alone]")
        },
        str::to_owned,
    )
}

/// An answer of the model's, being put together.
#[derive(Default)]
struct Answer {
    text: String,
    thoughts: String,
    calls: Vec<Value>,
    any: bool,
}

impl Answer {
    /// Takes an item that the model made; false if somebody else did.
    fn takes(&mut self, item: &Value, tools: &Tools) -> bool {
        let mine = match item["type"].as_str() {
            None | Some("message") if item["role"] == "assistant" => {
                if !self.text.is_empty() {
                    self.text.push_str("\n\n");
                }
                self.text += &text_of(&item["content"]);
                true
            }
            Some("reasoning") => {
                let parts = ["content", "summary"].map(|key| text_of(&item[key]));
                self.thoughts += parts.iter().find(|text| !text.is_empty()).map_or("", |t| t);
                true
            }
            Some("function_call") => {
                let name = item["name"].as_str().unwrap_or_default();
                self.call(item, &tools.function(item["namespace"].as_str(), name), || {
                    item["arguments"].clone()
                });
                true
            }
            Some("custom_tool_call") => {
                let name = item["name"].as_str().unwrap_or_default();
                self.call(item, name, || json!({ "input": item["input"] }));
                true
            }
            Some("local_shell_call") => {
                self.call(item, "local_shell", || {
                    let action = &item["action"];
                    json!({ "command": action["command"] })
                });
                true
            }
            Some("shell_call") => {
                self.call(item, "shell", || item["action"].clone());
                true
            }
            Some("apply_patch_call") => {
                self.call(item, "apply_patch", || item["operation"].clone());
                true
            }
            _ => false,
        };
        self.any |= mine;
        mine
    }

    fn call(&mut self, item: &Value, name: &str, arguments: impl Fn() -> Value) {
        let function = json!({ "name": name, "arguments": walkable(arguments()) });
        let id = &item["call_id"];
        self.calls.push(json!({ "id": id, "type": "function", "function": function }));
    }

    fn end(&mut self, conversation: &mut Conversation) {
        let Self { text, thoughts, calls, any } = std::mem::take(self);
        if !any {
            return;
        }
        let mut more = Map::new();
        if !thoughts.is_empty() {
            more.insert("reasoning_content".into(), json!(thoughts));
        }
        if !calls.is_empty() {
            more.insert("tool_calls".into(), calls.into());
        }
        conversation.push("assistant", text, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_model_said_in_a_row_is_one_message() {
        let items = json!([
            { "role": "user", "content": "a" },
            { "type": "reasoning", "summary": [{ "type": "summary_text", "text": "b" }] },
            { "type": "message", "role": "assistant",
              "content": [{ "type": "output_text", "text": "c" }] },
            { "type": "function_call", "call_id": "x", "name": "d", "arguments": "{\"e\":1}" },
            { "type": "web_search_call" },
            { "type": "function_call_output", "call_id": "x", "output": "f" },
            { "type": "message", "role": "developer", "content": "g" },
        ]);
        let tools = Tools::default();
        let system = Some("z".to_owned());
        let found = conversation(system, items.as_array().unwrap(), &tools).unwrap().messages;
        let call = json!({ "id": "x", "type": "function",
            "function": { "name": "d", "arguments": { "e": 1 } } });
        let reminder = "<system-reminder>\ng\n</system-reminder>";
        let expected = json!([
            { "role": "system", "content": "z" },
            { "role": "user", "content": "a" },
            { "role": "assistant", "content": "c", "reasoning_content": "b",
              "tool_calls": [call] },
            { "role": "tool", "content": "f", "tool_call_id": "x" },
            { "role": "user", "content": reminder },
        ]);
        assert_eq!(Value::from(found), expected);
    }
}
