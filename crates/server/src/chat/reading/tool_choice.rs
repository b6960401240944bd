//! Tool choice: which of the offered tools may or must be called.

use serde_json::Value;

use crate::chat::Conversation;
use crate::fault::Fault;
use crate::fields::Fields;

/// A choice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToolChoice {
    /// None.
    None,
    /// As the model likes.
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// Reads OpenAI's `tool_choice`.
    pub fn read(fields: &mut Fields, conversation: &Conversation) -> Result<Self, Fault> {
        let path = fields.path("tool_choice");
        Self::of(fields.take("tool_choice"), &path, conversation)
    }

    /// The choice that a value of this name is.
    pub fn of(
        value: Option<Value>,
        path: &str,
        conversation: &Conversation,
    ) -> Result<Self, Fault> {
        let choice = match value {
            None => return Ok(Self::Auto),
            Some(Value::String(word)) => match word.as_str() {
                "none" => Self::None,
                "auto" => Self::Auto,
                "required" => Self::Required,
                _ => {
                    let accepted = "`none`, `auto`, `required` or a function";
                    return Err(Fault::field(path, format!("is unknown: accepted is {accepted}")));
                }
            },
            Some(named) => {
                let mut named = Fields::of(named, path)?;
                named.word("type", &["function"])?;
                let function = named.object("function")?;
                let mut function =
                    function.ok_or_else(|| named.fault("function", "is required"))?;
                let name = function.text("name")?;
                Self::Named(name.ok_or_else(|| function.fault("name", "is required"))?)
            }
        };
        choice.check(conversation, path)?;
        Ok(choice)
    }

    /// Refuses to call what is not offered.
    pub fn check(&self, conversation: &Conversation, path: &str) -> Result<(), Fault> {
        let offered = conversation.offered();
        match self {
            Self::Named(name) if !offered.iter().any(|tool| tool.name == *name) => {
                Err(Fault::field(path, "names a function that is not among `tools`"))
            }
            Self::Required if offered.is_empty() => {
                Err(Fault::field(path, "is `required`, and there are no `tools`"))
            }
            _ => Ok(()),
        }
    }
}
