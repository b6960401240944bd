//! Conversation: what was said so far, in the shape that chat templates are written for.

use std::sync::Arc;

use qwire_text::tools::{Dialect, Reader, Rules, Thinking, Tool};
use qwire_text::{ChatTemplate, Oblivion, Opening, Prompt, Vocabulary};
use serde_json::{Map, Value, json};

use super::screen::Said;
use crate::failure::Failure;

/// What was said, by whom, with which tools at hand.
pub struct Conversation {
    /// What the model is told before all else.
    pub system: Option<String>,
    /// Tools in OpenAI's form.
    pub tools: Vec<Value>,
    messages: Vec<Value>,
    /// Calls without a result, (id, name), the next one last.
    awaited: Vec<(String, String)>,
    dialect: &'static Dialect,
    /// Whether the vocabulary has thoughts.
    thinks: bool,
}

impl Conversation {
    /// Nothing was said yet to a model with this template.
    pub fn new(system: Option<String>, template: &str, vocabulary: &Vocabulary) -> Self {
        Self {
            system,
            tools: Vec::new(),
            messages: Vec::new(),
            awaited: Vec::new(),
            dialect: Dialect::of_template(template).unwrap_or_default(),
            thinks: vocabulary.special_id("<think>").is_some(),
        }
    }

    /// The tool whose result comes next.
    pub fn awaited(&self) -> Option<&str> {
        self.awaited.last().map(|(_, name)| name.as_str())
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Forgets the messages after the first `len`, and what they wait for.
    pub fn truncate(&mut self, len: usize) {
        self.messages.truncate(len);
        self.awaited.clear();
        // A call that lost the last of its results waits for it again.
        let asked = self.messages.iter().rposition(|message| message["role"] == "assistant");
        if let Some(asked) = asked {
            let results = self.messages.len() - asked - 1;
            let calls = self.messages[asked]["tool_calls"].as_array().into_iter().flatten();
            self.awaited = calls.skip(results).map(named).collect();
            self.awaited.reverse();
        }
    }

    /// A message of the user, or a tool's result where one is awaited.
    pub fn say(&mut self, text: &str) {
        self.messages.push(match self.awaited.pop() {
            Some((id, name)) => {
                json!({ "role": "tool", "tool_call_id": id, "name": name, "content": text })
            }
            None => json!({ "role": "user", "content": text }),
        });
    }

    /// What the model said; false where it was nothing.
    pub fn answered(&mut self, said: Said) -> bool {
        if said.is_empty() {
            return false;
        }
        let mut message = json!({ "role": "assistant", "content": said.text });
        if !said.thoughts.is_empty() {
            message["reasoning_content"] = said.thoughts.into();
        }
        if !said.calls.is_empty() {
            let first = self.messages.len();
            let call = |(at, (name, arguments)): (usize, (String, Value))| {
                let function = json!({ "name": name, "arguments": arguments });
                json!({ "id": format!("call_{first}_{at}"), "type": "function",
                        "function": function })
            };
            let calls: Vec<_> = said.calls.into_iter().enumerate().map(call).collect();
            self.awaited = calls.iter().rev().map(named).collect();
            message["tool_calls"] = calls.into();
        }
        self.messages.push(message);
        true
    }

    /// All of it, as a request over HTTP would have it.
    pub fn request(&self) -> Value {
        let mut request = json!({ "messages": self.messages() });
        if !self.tools.is_empty() {
            request["tools"] = self.tools.clone().into();
        }
        request
    }

    /// What the model continues.
    pub fn prompt(
        &self,
        template: &ChatTemplate,
        vocabulary: &Vocabulary,
        switches: &Map<String, Value>,
    ) -> Result<Prompt, Failure> {
        let tools = (!self.tools.is_empty()).then(|| Value::from(self.tools.clone()));
        let messages = Value::from(self.messages());
        let opening = Opening::Fresh;
        let (tools, none) = (tools.as_ref(), &mut Oblivion);
        Ok(template.prompt(vocabulary, &messages, tools, opening, switches, none)?)
    }

    /// What reads the answer to a prompt.
    pub fn reader(&self, prompt: &str) -> Reader {
        let thinking = match self.thinks {
            _ if prompt.trim_end().ends_with("<think>") => Thinking::Inside,
            true => Thinking::Maybe,
            false => Thinking::Never,
        };
        let tool = |tool: &Value| Tool {
            name: tool["function"]["name"].as_str().unwrap_or_default().to_string(),
            parameters: tool["function"]["parameters"].clone(),
        };
        let tools: Arc<[Tool]> = self.tools.iter().map(tool).collect();
        Reader::new(self.dialect, tools, Rules { thinking, parallel: true })
    }

    fn messages(&self) -> Vec<Value> {
        let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
        system.chain(self.messages.iter().cloned()).collect()
    }
}

fn named(call: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    (text(&call["id"]), text(&call["function"]["name"]))
}
