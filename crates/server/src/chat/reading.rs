//! Reading: how the tokens of an answer are understood, and which of them are allowed.
//!
//! ```text
//! a form, a required call    the grammar from the first token on, or from the end of the thoughts
//! tools, as the model likes  free text, the grammar of calls wherever one begins
//! ```

use std::sync::Arc;

use qwire_engine::Constraint;
use qwire_text::tools::{Choice, Dialect, Reader, Rules, Thinking, Tool};
use qwire_text::{Grammar, Refused};

use super::constraint::{Held, Rigour};
use super::conversation::Conversation;
use super::form::Form;
use super::tool_choice::ToolChoice;
use crate::app::Model;
use crate::fault::Fault;

const CALL: &str = "<tool_call>";
const THINK_END: &str = "</think>";

/// How an answer is read.
#[derive(Clone)]
pub struct Reading {
    /// How the model writes calls.
    dialect: &'static Dialect,
    /// What may be called.
    tools: Arc<[Tool]>,
    /// What the answer may hold.
    pub rules: Rules,
    /// What was demanded, so that it can be demanded again.
    pub demand: (ToolChoice, Form),
    grammar: Option<(Grammar, Rigour)>,
}

impl Reading {
    /// Text in a form that may be demanded by this field.
    pub fn plain(model: &Model, form: &Form, field: &str) -> Result<Self, Fault> {
        let rules = Rules { thinking: Thinking::Never, parallel: true };
        Self::of(model, &Conversation::default(), rules, &ToolChoice::None, form, field)
    }

    /// How the answer in a conversation is read, and what binds it.
    pub fn of(
        model: &Model,
        conversation: &Conversation,
        rules: Rules,
        choice: &ToolChoice,
        form: &Form,
        field: &str,
    ) -> Result<Self, Fault> {
        let (dialect, tools) = (model.dialect, conversation.offered());
        let demand = (choice.clone(), form.clone());
        let mut reading = Self { dialect, tools, rules, demand, grammar: None };
        let demanded = match choice {
            ToolChoice::Required => Some(Choice::Required),
            ToolChoice::Named(name) => Some(Choice::Named(name)),
            ToolChoice::None | ToolChoice::Auto => None,
        };
        reading.grammar = match (demanded, form) {
            (Some(choice), _) => {
                let grammar = reading.calls(model, choice);
                let grammar = grammar.map_err(|refused| fault(&refused, "tools"))?;
                grammar.map(|grammar| (reading.thought(grammar), Rigour::Strict))
            }
            (None, Form::Free) => reading.helped(model),
            (None, _) if !reading.tools.is_empty() => {
                let fault = "stands beside `tools`, which may be called instead; say `none` or \
                             `required` in `tool_choice`";
                return Err(Fault::field(field, fault));
            }
            (None, form) => {
                let grammar = form.compile(&model.grammars);
                let grammar = grammar.map_err(|refused| fault(&refused, field))?;
                Some((reading.thought(grammar), Rigour::Strict))
            }
        };
        Ok(reading)
    }

    /// The grammar of calls.
    fn calls(&self, model: &Model, choice: Choice<'_>) -> Result<Option<Grammar>, Refused> {
        let text = self.dialect.grammar(&self.tools, choice, self.rules.parallel);
        text.map(|text| model.grammars.calls(&text)).transpose()
    }

    /// What keeps the calls of a model in order that calls as it likes. Without it they are read
    /// all the same.
    fn helped(&self, model: &Model) -> Option<(Grammar, Rigour)> {
        let grammar = self.calls(model, Choice::Begun);
        let grammar = grammar.inspect_err(|refused| {
            tracing::warn!(fault = %refused.message, "calls go without a grammar");
        });
        let bare = self.tools.iter().filter_map(|tool| self.dialect.opener(tool));
        let bare: Vec<String> = bare.collect();
        let openers: Vec<&str> =
            [CALL].into_iter().chain(bare.iter().map(String::as_str)).collect();
        let grammar = grammar.ok().flatten()?.triggered(&openers);
        Some((self.thought(grammar), Rigour::Lenient))
    }

    /// A grammar that waits for the end of thoughts that the prompt has opened.
    fn thought(&self, grammar: Grammar) -> Grammar {
        match self.rules.thinking {
            Thinking::Inside => grammar.after(THINK_END),
            Thinking::Never | Thinking::Maybe => grammar,
        }
    }

    /// How the model writes calls, and which there are.
    pub fn tools(&self) -> (&'static str, &[Tool]) {
        (self.dialect.name(), &self.tools)
    }

    /// A reader at the start of an answer.
    pub fn reader(&self) -> Reader {
        Reader::new(self.dialect, self.tools.clone(), self.rules)
    }

    /// What a choice may say within so many tokens.
    pub fn constraint(&self, left: usize) -> Option<Box<dyn Constraint>> {
        let (grammar, rigour) = self.grammar.clone()?;
        // One token is for the end itself. A call that the model chose and that does not fit is
        // cut: what is half of one must not look whole.
        let strict = rigour == Rigour::Strict;
        let left = if strict { left.saturating_sub(1) } else { usize::MAX };
        Some(Box::new(Held::new(grammar, left, rigour)))
    }
}

fn fault(refused: &Refused, field: &str) -> Fault {
    Fault::field(field, format!("cannot be held to: {}", refused.message))
        .code("unsupported_constraint")
}
