//! Conversation: messages and tools as the model's template wants them.

use serde_json::{Map, Value};

use crate::app::Model;
use crate::fault::Fault;
use crate::fields::{Fields, wrong};

/// What a template renders.
pub struct Conversation {
    messages: Value,
    tools: Option<Value>,
    add_generation_prompt: bool,
    extra: Map<String, Value>,
}

impl Conversation {
    /// Reads the fields of a body; none without messages.
    pub fn read(fields: &mut Fields) -> Result<Option<Self>, Fault> {
        let messages = fields.list("messages")?;
        let tools = fields.list("tools")?;
        let add_generation_prompt = fields.flag("add_generation_prompt")?.unwrap_or(true);
        let extra = fields.take("chat_template_kwargs").unwrap_or(Value::Object(Map::new()));
        let Value::Object(extra) = extra else {
            return Err(wrong("chat_template_kwargs", &extra, "an object"));
        };
        Ok(messages.map(|messages| Self {
            messages: Value::Array(messages),
            tools: tools.map(Value::Array),
            add_generation_prompt,
            extra,
        }))
    }

    /// The prompt. It may take a while.
    pub fn render(&self, model: &Model) -> Result<String, Fault> {
        let template = model.template.as_ref().ok_or_else(|| {
            Fault::field("messages", "cannot be rendered: this model has no chat template")
        })?;
        let Self { messages, tools, add_generation_prompt, extra } = self;
        let prompt = template.render(messages, tools.as_ref(), *add_generation_prompt, extra);
        prompt.map_err(|error| Fault {
            param: Some("messages".into()),
            ..Fault::request(error.to_string())
        })
    }
}
