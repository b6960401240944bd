//! Prompt: a conversation as the tokens that the model continues.

use qwire_text::Prompt;
use qwire_text::tools::Thinking;
use serde_json::Value;

use super::conversation::Conversation;
use crate::app::Model;
use crate::fault::Fault;

/// Renders and encodes a conversation.
pub fn of(conversation: &Conversation, model: &Model) -> Result<Prompt, Fault> {
    let Some(template) = &model.template else {
        let fault = "the model's file has no chat template; use /v1/completions";
        return Err(Fault::request(fault).code("no_chat_template"));
    };
    let Conversation { messages, tools, switches, opening } = conversation;
    let tools = (!tools.is_empty()).then(|| Value::from(tools.clone()));
    let messages = Value::from(messages.clone());
    let prompt = template.prompt(&model.vocabulary, &messages, tools.as_ref(), *opening, switches);
    prompt.map_err(|error| {
        Fault { param: Some("messages".into()), ..Fault::request(error.to_string()) }
            .code("template_failed")
    })
}

/// Whether the answer to a prompt starts with thoughts.
pub fn thinking(prompt: &Prompt, model: &Model) -> Thinking {
    if prompt.text.trim_end().ends_with("<think>") {
        Thinking::Inside
    } else if model.vocabulary.special_id("<think>").is_some() {
        Thinking::Maybe
    } else {
        Thinking::Never
    }
}
