//! Prompt: a conversation as the tokens that the model continues.

use qwire_text::{Special, Thinking};
use serde_json::Value;

use super::conversation::Conversation;
use crate::app::Model;
use crate::fault::Fault;

/// Tokens to be continued.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether the answer starts with thoughts.
    pub thinking: Thinking,
}

impl Prompt {
    /// Renders and encodes a conversation.
    pub fn of(conversation: &Conversation, model: &Model) -> Result<Self, Fault> {
        let text = render(conversation, model)?;
        let ids = model.vocabulary.encode_prompt(&text, Special::Parse);
        let thinking = if text.trim_end().ends_with("<think>") {
            Thinking::Inside
        } else if model.vocabulary.special_id("<think>").is_some() {
            Thinking::Maybe
        } else {
            Thinking::Never
        };
        Ok(Self { ids, thinking })
    }
}

/// The text that the model's template makes of a conversation.
pub fn render(conversation: &Conversation, model: &Model) -> Result<String, Fault> {
    let Some(template) = &model.template else {
        let fault = "the model's file has no chat template; use /v1/completions";
        return Err(Fault::request(fault).code("no_chat_template"));
    };
    let Conversation { messages, tools, switches, continues } = conversation;
    let tools = (!tools.is_empty()).then(|| Value::from(tools.clone()));
    let messages = Value::from(messages.clone());
    let text = template.render(&messages, tools.as_ref(), !continues, switches);
    let mut text = text.map_err(|error| {
        Fault { param: Some("messages".into()), ..Fault::request(error.to_string()) }
            .code("template_failed")
    })?;
    if *continues {
        let last = messages.as_array().and_then(|all| all.last());
        let begun = last.and_then(|last| last["content"].as_str()).unwrap_or_default().trim_end();
        let Some(at) = text.rfind(begun) else {
            let fault = "the model's template does not show the last message as it is";
            return Err(Fault::field("continue_final_message", format!("cannot be: {fault}")));
        };
        text.truncate(at + begun.len());
    }
    Ok(text)
}
