//! Turn: a conversation that waits for an answer, and what the answer may be.

use qwire_engine::Report;
use qwire_text::Prompt;
use qwire_text::tools::{Rules, Thinking};
use serde_json::Value;

use super::conversation::Conversation;
use super::form::Form;
use super::generation::Order;
use super::parameters::{Logprobs, Parameters};
use super::reading::Reading;
use super::tool_choice::ToolChoice;
use crate::app::Model;
use crate::fault::Fault;

/// What the wires of conversations ask for.
pub struct Turn {
    /// What was said.
    pub conversation: Conversation,
    /// How the answer is made.
    pub parameters: Parameters,
    /// What is told of each token.
    pub logprobs: Option<Logprobs>,
    /// Which tools may or must be called.
    pub choice: ToolChoice,
    /// Whether more than one.
    pub parallel: bool,
    /// What the answer must look like, and the field that says so.
    pub form: (Form, String),
}

impl Turn {
    /// The conversation without tools that must not be called.
    pub fn narrowed(&self) -> Conversation {
        let mut conversation = self.conversation.clone();
        if self.choice == ToolChoice::None {
            conversation.tools.clear();
        }
        conversation
    }

    /// Renders, encodes and compiles it.
    pub fn order(self, model: &Model) -> Result<Order, Fault> {
        let conversation = self.narrowed();
        let prompt = prompt(&conversation, model)?;
        let rules = Rules { thinking: thinking(&prompt, model), parallel: self.parallel };
        let (form, field) = &self.form;
        let reading = Reading::of(model, &conversation, rules, &self.choice, form, field)?;
        Ok(Order {
            ids: prompt.ids,
            parameters: self.parameters,
            logprobs: self.logprobs,
            report: Report::Nothing,
            reading,
        })
    }
}

/// Renders and encodes a conversation.
pub fn prompt(conversation: &Conversation, model: &Model) -> Result<Prompt, Fault> {
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
fn thinking(prompt: &Prompt, model: &Model) -> Thinking {
    if prompt.text.trim_end().ends_with("<think>") {
        Thinking::Inside
    } else if model.vocabulary.special_id("<think>").is_some() {
        Thinking::Maybe
    } else {
        Thinking::Never
    }
}
