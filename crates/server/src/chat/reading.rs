//! Reading: how the tokens of an answer are understood, and which of them are allowed.

use std::sync::Arc;

use qwire_text::tools::{Dialect, Reader, Rules, Thinking, Tool};

use super::conversation::Conversation;
use super::form::Form;
use super::tool_choice::ToolChoice;
use crate::app::Model;
use crate::fault::Fault;

/// How an answer is read.
#[derive(Clone)]
pub struct Reading {
    /// How the model writes calls.
    pub dialect: &'static Dialect,
    /// What may be called.
    pub tools: Arc<[Tool]>,
    /// What the answer may hold.
    pub rules: Rules,
}

impl Reading {
    /// Text is text.
    pub fn plain(model: &Model) -> Self {
        let rules = Rules { thinking: Thinking::Never, parallel: true };
        Self { dialect: model.dialect, tools: Arc::new([]), rules }
    }

    /// How the answer in a conversation is read, and what binds it.
    pub fn of(
        model: &Model,
        conversation: &Conversation,
        rules: Rules,
        _choice: &ToolChoice,
        _form: &Form,
        _field: &str,
    ) -> Result<Self, Fault> {
        Ok(Self { dialect: model.dialect, tools: conversation.offered(), rules })
    }

    /// A reader at the start of an answer.
    pub fn reader(&self) -> Reader {
        Reader::new(self.dialect, self.tools.clone(), self.rules)
    }

    /// What a choice may say.
    pub fn constraint(&self, _choice: usize) -> Option<Box<dyn qwire_engine::Constraint>> {
        None
    }
}
