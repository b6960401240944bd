//! Blocks: Anthropic's messages as the conversation that templates know.
//!
//! ```text
//! user       [tool_result, text]      a tool's message, then a user's, in the order of the blocks
//! assistant  [thinking, text, tool_use]   one message: reasoning_content, content, tool_calls
//! what is unknown                     a note in its place, so that nothing is refused or lost
//! ```
//! A tool that is deferred is not shown in the head of the prompt, which stays short and the same:
//! its definition stands where the client's own search found it, as a `tool_reference`, and from
//! there on it may be called. Where no tool of the client could search, all are shown.

use qwire_text::Opening;
use serde_json::{Map, Value, json};

use crate::chat::Conversation;
use crate::fault::Fault;
use crate::fields::{Fields, wrong};

const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];

/// Reads `system`, `messages` and `tools`.
pub fn read(fields: &mut Fields) -> Result<Conversation, Fault> {
    let mut conversation = Conversation::default();
    let path = fields.path("system");
    if let Some(system) = fields.take("system") {
        let text = texts(&blocks(system, &path)?, "\n\n");
        if !text.is_empty() {
            conversation.push("system", text, Map::new());
        }
    }
    let deferred = read_tools(fields, &mut conversation)?;
    let path = fields.path("messages");
    let messages = fields.list("messages")?;
    let messages = messages.ok_or_else(|| Fault::field(&*path, "is required"))?;
    if messages.is_empty() {
        return Err(Fault::field(path, "is empty"));
    }
    for (at, message) in messages.into_iter().enumerate() {
        let mut message = Fields::of(message, &format!("{path}[{at}]"))?;
        let role = message.word("role", &ROLES)?;
        let role = role.ok_or_else(|| message.fault("role", "is required"))?;
        let path = message.path("content");
        let mut content = blocks(message.required("content")?, &path)?;
        find(&mut content, &deferred, &mut conversation.found);
        match role.as_str() {
            "assistant" => push_assistant(&mut conversation, content),
            "user" => push_user(&mut conversation, content),
            _ => conversation.push("system", texts(&content, "\n\n"), Map::new()),
        }
    }
    let last = conversation.messages.last();
    let begun = last.is_some_and(|last| {
        last["role"] == "assistant" && last.get("tool_calls").is_none() && last["content"] != ""
    });
    if begun {
        conversation.opening = Opening::Last;
    }
    Ok(conversation)
}

/// Puts the definitions of tools in the place of references to them.
fn find(blocks: &mut [Value], deferred: &[Value], found: &mut Vec<Value>) {
    for block in blocks {
        if let Some(inner) = block.get_mut("content").and_then(Value::as_array_mut) {
            find(inner, deferred, found);
        }
        let named = |tool: &&Value| tool["function"]["name"] == block["tool_name"];
        let tool = deferred.iter().find(named).filter(|_| block["type"] == "tool_reference");
        let Some(tool) = tool else { continue };
        if !found.contains(tool) {
            found.push(tool.clone());
        }
        *block = json!({ "type": "text", "text": tool.to_string() });
    }
}

/// Tools in OpenAI's shape, which templates are written for. Those that Anthropic itself would run
/// are left out. Gives those that are deferred to their discovery.
fn read_tools(fields: &mut Fields, conversation: &mut Conversation) -> Result<Vec<Value>, Fault> {
    let path = fields.path("tools");
    let (mut deferred, mut hosted) = (Vec::new(), false);
    for (at, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        let mut tool = Fields::of(tool, &format!("{path}[{at}]"))?;
        let kind = tool.text("type")?;
        if let Some(kind) = kind.filter(|kind| kind != "custom") {
            hosted |= kind.starts_with("tool_search_tool");
            continue;
        }
        let later = tool.flag("defer_loading")?.unwrap_or(false);
        let name = tool.text("name")?;
        let name = name.ok_or_else(|| tool.fault("name", "is required"))?;
        let mut function = Map::from_iter([("name".to_owned(), json!(name))]);
        if let Some(description) = tool.text("description")? {
            function.insert("description".into(), json!(description));
        }
        let schema = tool.take("input_schema").unwrap_or_else(|| json!({ "type": "object" }));
        function.insert("parameters".into(), schema);
        let shown = if later { &mut deferred } else { &mut conversation.tools };
        shown.push(json!({ "type": "function", "function": function }));
    }
    if hosted || conversation.tools.is_empty() {
        conversation.tools.append(&mut deferred);
    }
    Ok(deferred)
}

/// A text is one block.
fn blocks(content: Value, path: &str) -> Result<Vec<Value>, Fault> {
    match content {
        Value::String(text) => Ok(vec![json!({ "type": "text", "text": text })]),
        Value::Array(blocks) => Ok(blocks),
        other => Err(wrong(path, &other, "a text or a list of blocks")),
    }
}

fn texts(blocks: &[Value], between: &str) -> String {
    blocks.iter().map(text_of).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(between)
}

/// What a block says to a model that reads text alone.
fn text_of(block: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match block["type"].as_str() {
        Some("text") => text(&block["text"]).unwrap_or_default(),
        Some("document") => text(&block["source"]["data"])
            .filter(|_| block["source"]["type"] == "text")
            .unwrap_or_else(|| note("document")),
        Some("redacted_thinking") => String::new(),
        Some(kind) => note(kind),
        None => block.as_str().map(str::to_owned).unwrap_or_default(),
    }
}

fn note(kind: &str) -> String {
    let kind: String = kind.chars().take(40).collect();
    format!("[{kind}: not shown, this model reads text alone]")
}

fn push_user(conversation: &mut Conversation, blocks: Vec<Value>) {
    let mut words = Vec::new();
    let flush = |words: &mut Vec<Value>, conversation: &mut Conversation| {
        if !words.is_empty() {
            conversation.push("user", texts(&std::mem::take(words), "\n"), Map::new());
        }
    };
    for mut block in blocks {
        if block["type"] != "tool_result" {
            words.push(block);
            continue;
        }
        flush(&mut words, conversation);
        let content = match block["content"].take() {
            Value::String(text) => text,
            Value::Array(blocks) => texts(&blocks, "\n"),
            _ => String::new(),
        };
        let id = block["tool_use_id"].take();
        let more = Map::from_iter([("tool_call_id".to_owned(), id)]);
        conversation.push("tool", content, more);
    }
    flush(&mut words, conversation);
}

fn push_assistant(conversation: &mut Conversation, blocks: Vec<Value>) {
    let (mut words, mut thoughts, mut calls) = (Vec::new(), String::new(), Vec::new());
    for mut block in blocks {
        match block["type"].as_str() {
            Some("thinking") => thoughts += block["thinking"].as_str().unwrap_or_default(),
            Some("tool_use") => {
                let arguments = match block["input"].take() {
                    Value::Null => json!({}),
                    input => crate::chat::conversation::walkable(input),
                };
                let function = json!({ "name": block["name"], "arguments": arguments });
                let id = block["id"].take();
                calls.push(json!({ "id": id, "type": "function", "function": function }));
            }
            _ => words.push(block),
        }
    }
    let mut more = Map::new();
    if !thoughts.is_empty() {
        more.insert("reasoning_content".into(), json!(thoughts));
    }
    if !calls.is_empty() {
        more.insert("tool_calls".into(), calls.into());
    }
    conversation.push("assistant", texts(&words, "\n"), more);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(body: &Value) -> (Value, Value, Opening) {
        let mut fields = Fields::of_body(body.to_string().as_bytes()).unwrap();
        let conversation = read(&mut fields).unwrap();
        (conversation.messages.into(), conversation.tools.into(), conversation.opening)
    }

    #[test]
    fn blocks_keep_their_order() {
        let body = json!({
            "system": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }],
            "messages": [
                { "role": "user", "content": "c" },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "d", "signature": "" },
                    { "type": "text", "text": "e" },
                    { "type": "tool_use", "id": "x", "name": "f", "input": { "g": 1 } },
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "x", "is_error": true,
                      "content": [{ "type": "text", "text": "h" }, { "type": "image" }] },
                    { "type": "text", "text": "i", "cache_control": { "type": "ephemeral" } },
                    { "type": "hologram" },
                ] },
            ],
            "tools": [
                { "name": "f", "description": "j", "input_schema": { "type": "object" } },
                { "type": "web_search_20250305", "name": "web_search" },
            ],
        });
        let note = |kind| format!("[{kind}: not shown, this model reads text alone]");
        let call = json!({ "id": "x", "type": "function",
            "function": { "name": "f", "arguments": { "g": 1 } } });
        let expected = json!([
            { "role": "system", "content": "a\n\nb" },
            { "role": "user", "content": "c" },
            { "role": "assistant", "content": "e", "reasoning_content": "d",
              "tool_calls": [call] },
            { "role": "tool", "content": format!("h\n{}", note("image")), "tool_call_id": "x" },
            { "role": "user", "content": format!("i\n{}", note("hologram")) },
        ]);
        let function =
            json!({ "name": "f", "description": "j", "parameters": { "type": "object" } });
        let tools = json!([{ "type": "function", "function": function }]);
        assert_eq!(messages(&body), (expected, tools, Opening::Fresh));
    }

    #[test]
    fn a_deferred_tool_stands_where_it_was_found() {
        let deferred = |name: &str| json!({ "name": name, "defer_loading": true });
        let search = json!({ "name": "search" });
        let reference = |name: &str| json!({ "type": "tool_reference", "tool_name": name });
        let result = json!({ "type": "tool_result", "tool_use_id": "x",
            "content": [reference("far"), reference("absent")] });
        let read = |tools: Value| {
            let messages = json!([{ "role": "user", "content": [result] }]);
            let body = json!({ "messages": messages, "tools": tools }).to_string();
            let conversation = read(&mut Fields::of_body(body.as_bytes()).unwrap()).unwrap();
            let names = |tools: &[Value]| -> Vec<String> {
                tools.iter().map(|t| t["function"]["name"].as_str().unwrap().into()).collect()
            };
            let said = conversation.messages[0]["content"].as_str().unwrap().to_owned();
            (names(&conversation.tools), names(&conversation.found), said)
        };
        let (shown, found, said) = read(json!([search, deferred("far"), deferred("farther")]));
        assert_eq!((shown, found), (vec!["search".into()], vec!["far".into()]));
        let definition = r#"{"type":"function","function":{"name":"far","#;
        assert!(said.starts_with(definition) && said.contains("[tool_reference: "), "{said}");
        // Whoever cannot search is shown everything.
        let hosted = json!({ "type": "tool_search_tool_bm25_20251119", "name": "t" });
        let all = vec!["search".to_owned(), "far".into()];
        assert_eq!(read(json!([hosted, search, deferred("far")])).0, all);
        assert_eq!(read(json!([deferred("far")])).0, ["far"]);
    }

    #[test]
    fn a_begun_answer_is_continued() {
        let body = json!({ "messages": [
            { "role": "user", "content": "a" }, { "role": "assistant", "content": "{" },
        ] });
        assert_eq!(messages(&body).2, Opening::Last);
    }
}
