//! Conversation: messages and tools in the one shape that templates are written for.
//!
//! ```text
//! system, developer at the start   one system message
//! system, developer later          a user's message in <system-reminder>, in place, so that what
//!                                  stands before it stays the same and cached
//! content in parts                 one text
//! arguments as JSON text           an object, as templates walk through it
//! ```

pub mod roles;
pub mod volatile;

use std::sync::Arc;

use qwire_text::Opening;
use qwire_text::tools::Tool;
use serde_json::{Map, Value, json};

use crate::chat::parameters;
use crate::fault::Fault;
use crate::fields::{Fields, text, wrong};

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
/// Most characters of a tool's name.
const NAME: usize = 128;
/// Most tools of a request.
const TOOLS: usize = 1024;

/// What a template renders.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Objects with `role`, `content`, `tool_calls`, `reasoning_content`.
    pub messages: Vec<Value>,
    /// As they came, so that their text is stable.
    pub tools: Vec<Value>,
    /// Tools whose definitions stand in messages, where the client found them. They may be called,
    /// and the head of the prompt is the same as before.
    pub found: Vec<Value>,
    /// The template's own switches.
    pub switches: Map<String, Value>,
    /// Where the answer begins.
    pub opening: Opening,
}

impl Default for Conversation {
    fn default() -> Self {
        let (messages, tools, found, switches) = Default::default();
        Self { messages, tools, found, switches, opening: Opening::Fresh }
    }
}

impl Conversation {
    /// Adds a message of the wire's order. Systems go where templates take them.
    pub fn push(&mut self, role: &str, content: String, more: Map<String, Value>) {
        let leading = self.messages.len() <= 1
            && self.messages.first().is_none_or(|first| first["role"] == "system");
        let (role, content) = match role {
            "system" if leading => {
                if let Some(first) = self.messages.first_mut() {
                    let before = first["content"].as_str().unwrap_or_default();
                    first["content"] = json!(format!("{before}\n\n{content}"));
                    return;
                }
                ("system", content)
            }
            "system" => ("user", format!("<system-reminder>\n{content}\n</system-reminder>")),
            role => (role, content),
        };
        let mut message = Map::from_iter([
            ("role".to_owned(), json!(role)),
            ("content".to_owned(), json!(content)),
        ]);
        message.extend(more);
        self.messages.push(message.into());
    }

    /// Reads what a prompt of OpenAI's chat is made of.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let mut conversation = Self::default();
        conversation.read_messages(fields)?;
        conversation.read_tools(fields)?;
        conversation.switches = parameters::switches(fields)?;
        conversation.read_opening(fields)?;
        Ok(conversation)
    }

    fn read_opening(&mut self, fields: &mut Fields) -> Result<(), Fault> {
        let continues = fields.flag("continue_final_message")?.unwrap_or(false);
        let opens = fields.flag("add_generation_prompt")?;
        let last = self.messages.last().map(|last| &last["role"]);
        if continues && last.is_none_or(|role| role != "assistant") {
            let fault = "needs the last message to be the assistant's";
            return Err(fields.fault("continue_final_message", fault));
        }
        self.opening = match (continues, opens) {
            (true, Some(true)) => {
                let fault = "is the opposite of `continue_final_message`";
                return Err(fields.fault("add_generation_prompt", fault));
            }
            (true, _) => Opening::Last,
            (false, Some(false)) => Opening::Nowhere,
            (false, _) => Opening::Fresh,
        };
        Ok(())
    }

    fn read_messages(&mut self, fields: &mut Fields) -> Result<(), Fault> {
        let path = fields.path("messages");
        let items = match fields.required("messages")? {
            Value::Array(items) => items,
            other => return Err(wrong(&path, &other, "a list")),
        };
        if items.is_empty() {
            return Err(Fault::field(path, "is empty"));
        }
        for (at, item) in items.into_iter().enumerate() {
            self.read_message(Fields::of(item, &format!("{path}[{at}]"))?)?;
        }
        Ok(())
    }

    fn read_message(&mut self, mut fields: Fields) -> Result<(), Fault> {
        let role = fields.word("role", &ROLES)?;
        let role = role.ok_or_else(|| fields.fault("role", "is required"))?;
        let path = fields.path("content");
        let content = fields.take("content");
        let mut more = Map::new();
        let role = match role.as_str() {
            "system" | "developer" => "system",
            "assistant" => {
                for name in ["reasoning_content", "reasoning"] {
                    if let Some(thoughts) = fields.text(name)? {
                        more.insert("reasoning_content".into(), json!(thoughts));
                    }
                }
                if let Some(calls) = calls(&mut fields)? {
                    more.insert("tool_calls".into(), calls);
                }
                "assistant"
            }
            "tool" | "function" => {
                if let Some(id) = fields.text("tool_call_id")? {
                    more.insert("tool_call_id".into(), json!(id));
                }
                "tool"
            }
            _ => "user",
        };
        let content = match content {
            Some(content) => flat(content, &path)?,
            None if role == "assistant" => fields.text("refusal")?.unwrap_or_default(),
            None => return Err(Fault::field(path, "is required")),
        };
        self.push(role, content, more);
        Ok(())
    }

    /// Reads tools in OpenAI's shape.
    pub fn read_tools(&mut self, fields: &mut Fields) -> Result<(), Fault> {
        let path = fields.path("tools");
        let tools = fields.list("tools")?.unwrap_or_default();
        if tools.len() > TOOLS {
            return Err(Fault::field(path, format!("has more than {TOOLS} items")));
        }
        for (at, tool) in tools.iter().enumerate() {
            let mut tool = Fields::of(tool.clone(), &format!("{path}[{at}]"))?;
            tool.word("type", &["function"])?.ok_or_else(|| tool.fault("type", "is required"))?;
            let function = tool.object("function")?;
            let mut function = function.ok_or_else(|| tool.fault("function", "is required"))?;
            let name = function.text("name")?;
            let name = name.ok_or_else(|| function.fault("name", "is required"))?;
            let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
            if name.is_empty() || name.len() > NAME || !name.chars().all(fits) {
                let accepted = format!("1 to {NAME} letters, digits, `_`, `-`, `.`, `:` and `/`");
                return Err(function.fault("name", format!("is no name: accepted is {accepted}")));
            }
            function.text("description")?;
            function.object("parameters")?;
            function.flag("strict")?;
        }
        self.tools = tools;
        Ok(())
    }

    /// What each tool accepts.
    pub fn offered(&self) -> Arc<[Tool]> {
        let tool = |tool: &Value| Tool {
            name: tool["function"]["name"].as_str().unwrap_or_default().to_owned(),
            parameters: tool["function"]["parameters"].clone(),
        };
        self.tools.iter().chain(&self.found).map(tool).collect()
    }
}

/// The calls of an assistant's message.
pub fn calls(fields: &mut Fields) -> Result<Option<Value>, Fault> {
    let path = fields.path("tool_calls");
    let Some(items) = fields.list("tool_calls")? else { return Ok(None) };
    let call = |(at, item): (usize, Value)| {
        let mut call = Fields::of(item, &format!("{path}[{at}]"))?;
        let id = call.text("id")?.unwrap_or_default();
        let function = call.object("function")?;
        let mut function = function.ok_or_else(|| call.fault("function", "is required"))?;
        let name = function.text("name")?;
        let name = name.ok_or_else(|| function.fault("name", "is required"))?;
        let arguments = function.take("arguments").unwrap_or_else(|| json!({}));
        let function = json!({ "name": name, "arguments": walkable(arguments) });
        Ok(json!({ "id": id, "type": "function", "function": function }))
    };
    let calls = items.into_iter().enumerate().map(call).collect::<Result<Vec<_>, Fault>>()?;
    Ok((!calls.is_empty()).then_some(calls.into()))
}

/// Arguments as an object. What a model once wrote wrongly must not end its conversation, so text
/// that is no object stands under a name of its own.
pub fn walkable(arguments: Value) -> Value {
    match arguments {
        Value::String(text) if text.trim().is_empty() => json!({}),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(object @ Value::Object(_)) => object,
            _ => json!({ "arguments": text }),
        },
        object @ Value::Object(_) => object,
        other => json!({ "arguments": other }),
    }
}

/// Content in parts as one text.
pub fn flat(content: Value, path: &str) -> Result<String, Fault> {
    let Value::Array(parts) = content else { return text(content, path) };
    let part = |(at, part): (usize, Value)| {
        let mut part = Fields::of(part, &format!("{path}[{at}]"))?;
        let kind = part.text("type")?.unwrap_or_else(|| "text".into());
        let words = match kind.as_str() {
            "text" | "input_text" | "output_text" => part.text("text")?,
            "refusal" => part.text("refusal")?,
            _ => {
                let shown: String = kind.chars().take(40).collect();
                let fault = format!("is `{shown}`: this model reads text alone");
                return Err(part.fault("type", fault));
            }
        };
        words.ok_or_else(|| part.fault("text", "is required"))
    };
    let texts: Vec<_> = parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: &str) -> Result<Vec<Value>, Fault> {
        let mut fields = Fields::of_body(format!("{{\"messages\":{messages}}}").as_bytes())?;
        let mut conversation = Conversation::default();
        conversation.read_messages(&mut fields)?;
        Ok(conversation.messages)
    }

    #[test]
    fn systems_go_where_templates_take_them() {
        let messages = read(
            r#"[{"role":"system","content":"a"},{"role":"developer","content":"b"},
                {"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]},
                {"role":"system","content":"e"}]"#,
        );
        let later = "<system-reminder>\ne\n</system-reminder>";
        assert_eq!(
            Value::from(messages.unwrap()),
            json!([
                { "role": "system", "content": "a\n\nb" },
                { "role": "user", "content": "c\nd" },
                { "role": "user", "content": later },
            ])
        );
    }

    #[test]
    fn arguments_are_objects_whatever_they_were() {
        let calls = |arguments: &str| {
            let call = format!(r#"{{"id":"x","function":{{"name":"f","arguments":{arguments}}}}}"#);
            let message =
                format!(r#"[{{"role":"assistant","content":null,"tool_calls":[{call}]}}]"#);
            read(&message).unwrap()[0]["tool_calls"][0]["function"]["arguments"].clone()
        };
        assert_eq!(calls(r#""{\"b\":1,\"a\":2}""#).to_string(), r#"{"b":1,"a":2}"#);
        assert_eq!(calls(r#"{"a":1}"#), json!({ "a": 1 }));
        assert_eq!(calls(r#""""#), json!({}));
        assert_eq!(calls(r#""{\"a\":""#), json!({ "arguments": "{\"a\":" }));
    }

    #[test]
    fn a_message_that_is_none_is_refused_by_its_name() {
        for (messages, param) in [
            ("[]", "messages"),
            ("{}", "messages"),
            ("[1]", "messages[0]"),
            (r#"[{"content":"a"}]"#, "messages[0].role"),
            (r#"[{"role":"king","content":"a"}]"#, "messages[0].role"),
            (r#"[{"role":"user"}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":1}]"#, "messages[0].content"),
            (
                r#"[{"role":"user","content":[{"type":"image_url"}]}]"#,
                "messages[0].content[0].type",
            ),
            (r#"[{"role":"assistant","tool_calls":[{}]}]"#, "messages[0].tool_calls[0].function"),
        ] {
            assert_eq!(read(messages).unwrap_err().param.as_deref(), Some(param), "{messages}");
        }
    }
}
