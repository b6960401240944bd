//! Whole: an answer that is sent at once.

use std::time::Duration;

use qwire_engine::Sampled;
use qwire_text::tools::Part;

use super::generation::{Generation, Over, Step};
use crate::fault::Fault;

/// A choice that is over.
#[derive(Debug)]
pub struct Said {
    /// Visible text.
    pub text: String,
    /// Thoughts.
    pub reasoning: String,
    /// Names and arguments, the last ones perhaps cut.
    pub calls: Vec<Call>,
    /// Its prompt's tokens after the first, where they were asked for.
    pub prompt: Vec<Sampled>,
    /// Its tokens.
    pub tokens: Vec<Sampled>,
    /// How it ended.
    pub over: Over,
}

/// A call.
#[derive(Debug, Default)]
pub struct Call {
    /// Of the tool.
    pub name: String,
    /// JSON.
    pub arguments: String,
    /// Whether nothing is missing.
    pub complete: bool,
}

#[derive(Default)]
struct Draft {
    text: String,
    reasoning: String,
    calls: Vec<Call>,
    prompt: Vec<Sampled>,
    tokens: Vec<Sampled>,
    over: Option<Over>,
}

/// Waits for every choice. The first one that fails is the fault of all.
pub async fn whole(generation: &mut Generation) -> Result<Vec<Said>, Fault> {
    let mut drafts: Vec<Draft> = Vec::new();
    drafts.resize_with(generation.choices(), Draft::default);
    while let Some(step) = generation.next().await {
        match step {
            Step::Started { .. } | Step::Prefill { .. } | Step::Silence => {}
            Step::Prompt(choice, tokens) => drafts[choice].prompt.extend(tokens),
            Step::Said { choice, parts, token } => {
                parts.into_iter().for_each(|part| drafts[choice].add(part));
                drafts[choice].tokens.extend(token);
            }
            Step::Over(choice, over) => drafts[choice].over = Some(over),
            Step::Failed(_, fault) => return Err(fault),
        }
    }
    let said = drafts.into_iter().map(|draft| {
        let Draft { text, reasoning, calls, prompt, tokens, over } = draft;
        let over = over.ok_or_else(Fault::internal)?;
        Ok(Said { text, reasoning, calls, prompt, tokens, over })
    });
    said.collect()
}

impl Draft {
    fn add(&mut self, part: Part) {
        match part {
            Part::Text(text) => self.text += &text,
            Part::Reasoning(text) => self.reasoning += &text,
            Part::CallStart { name, .. } => {
                self.calls.push(Call { name, ..Call::default() });
            }
            Part::CallArguments { index, fragment } => self.calls[index].arguments += &fragment,
            Part::CallEnd { index } => self.calls[index].complete = true,
        }
    }
}

/// A time in milliseconds, for people.
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}
