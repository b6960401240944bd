//! Reader: a model's answer, from pieces of text to parts.
//!
//! What may still become a marker is held back and looked at again when more has come. Markers are
//! short, and blank between them is skipped until something else arrives, so that the work is
//! linear in the text however it is cut.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::answer::{Answer, Spot};
use super::look::{Look, blank};
use super::{CLOSER, Calls, Dialect, Ending, OPENER, Part, Place, Repair, Step, Thinking, Tool};

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";

/// What an answer may hold.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether thoughts come first.
    pub thinking: Thinking,
    /// Whether there may be several calls. Where not, the answer is over when a second begins.
    pub parallel: bool,
}

/// Reads one answer.
pub struct Reader {
    dialect: &'static Dialect,
    tools: Arc<[Tool]>,
    phase: Phase,
    answer: Answer,
    /// Text that waits for what follows.
    held: String,
}

enum Phase {
    /// Before the first thought or word.
    Start(Thinking),
    Thoughts,
    /// The line breaks after thoughts.
    Gap,
    Prose,
    Calls(Box<dyn Calls>),
}

impl Reader {
    /// A reader of an answer to a request that offered these tools. Without any, every marker of
    /// a call is text.
    pub fn new(dialect: &'static Dialect, tools: Arc<[Tool]>, rules: Rules) -> Self {
        let answer = Answer::new(!tools.is_empty(), rules.parallel);
        let phase = Phase::Start(rules.thinking);
        Self { dialect, tools, phase, answer, held: String::new() }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        let is_blank = |text: &str| text.ends_with(|c: char| c.is_ascii_whitespace());
        let waits = is_blank(&self.held);
        self.held.push_str(text);
        if !(waits && blank(text) == text.len()) {
            self.read(None);
        }
        self.answer.take()
    }

    /// The text is at its end: what was held back comes out, and at a natural end what the model
    /// left open is closed. Nothing may be pushed afterwards.
    pub fn finish(&mut self, how: Ending) -> Vec<Part> {
        self.read(Some(how));
        if let (Ending::Cut, Phase::Calls(calls)) = (how, &mut self.phase) {
            calls.cut(&self.held, &mut self.answer);
        }
        self.answer.finish();
        self.answer.take()
    }

    /// Whether nothing that follows can be part of the answer, so that the model may stop.
    pub fn is_over(&self) -> bool {
        self.answer.is_over()
    }

    /// How often each kind of slip was met.
    pub fn repairs(&self) -> &BTreeMap<Repair, u32> {
        self.answer.repairs()
    }

    fn read(&mut self, end: Option<Ending>) {
        let mut held = mem::take(&mut self.held);
        let mut at = 0;
        while !self.answer.is_over() {
            match self.step(&held[at..], end) {
                Step::Read(len) => at += len,
                Step::Wait => break,
                Step::Leave(len) => {
                    self.phase = Phase::Prose;
                    at += len;
                }
            }
        }
        held.drain(..if self.answer.is_over() { held.len() } else { at });
        self.held = held;
    }

    fn step(&mut self, rest: &str, end: Option<Ending>) -> Step {
        let ended = end.is_some();
        match &mut self.phase {
            Phase::Start(thinking) => {
                let thinking = *thinking;
                self.start(thinking, rest, ended)
            }
            Phase::Calls(calls) => calls.read(rest, end == Some(Ending::Natural), &mut self.answer),
            _ if rest.is_empty() => Step::Wait,
            Phase::Gap => {
                let text = rest.trim_start_matches('\n');
                if !text.is_empty() {
                    self.phase = Phase::Prose;
                }
                Step::Read(rest.len() - text.len())
            }
            Phase::Prose if self.tools.is_empty() => {
                self.answer.text(rest);
                Step::Read(rest.len())
            }
            Phase::Prose => match rest.find('<') {
                Some(0) => self.mark(rest, ended),
                at => {
                    let len = at.unwrap_or(rest.len());
                    self.answer.text(&rest[..len]);
                    Step::Read(len)
                }
            },
            Phase::Thoughts => self.think(rest, ended),
        }
    }

    /// `<think>`, written again where the prompt had opened it, or none.
    fn start(&mut self, thinking: Thinking, rest: &str, ended: bool) -> Step {
        let skipped = blank(rest);
        let look = match thinking {
            Thinking::Never => Look::No,
            _ => Look::at(&rest[skipped..], THINK).settled(ended),
        };
        match (look, thinking) {
            (Look::Wait, _) => return Step::Wait,
            (Look::No, Thinking::Never | Thinking::Maybe) => self.phase = Phase::Prose,
            _ => self.phase = Phase::Thoughts,
        }
        Step::Read(if let Look::Yes(len) = look { skipped + len } else { 0 })
    }

    fn think(&mut self, rest: &str, ended: bool) -> Step {
        let at = rest.find('<').unwrap_or(rest.len());
        let look = Look::at(&rest[at..], THINK_END).settled(ended);
        let len = match look {
            _ if at > 0 => at,
            Look::Wait => return Step::Wait,
            Look::Yes(len) => {
                self.phase = Phase::Gap;
                self.answer.end_thoughts();
                return Step::Read(len);
            }
            Look::No => 1,
        };
        self.answer.reasoning(&rest[..len]);
        Step::Read(len)
    }

    /// At a `<` in prose.
    fn mark(&mut self, rest: &str, ended: bool) -> Step {
        if self.answer.spot() == Spot::AfterCall {
            match Look::at(rest, CLOSER).settled(ended) {
                Look::No => {}
                Look::Wait => return Step::Wait,
                Look::Yes(len) => {
                    self.answer.close();
                    return Step::Read(len);
                }
            }
        }
        let fresh = self.answer.spot() != Spot::InLine;
        let is_block = rest.starts_with(OPENER);
        match (self.dialect.opens)(&Place { tools: &self.tools, fresh, ended }, rest) {
            Look::Wait => Step::Wait,
            Look::Yes(len) => {
                if !is_block && !self.answer.open {
                    self.answer.repair(Repair::MissingOpener);
                }
                self.answer.open |= is_block;
                self.phase = Phase::Calls((self.dialect.calls)(self.tools.clone(), &rest[..len]));
                Step::Read(len)
            }
            Look::No => {
                if is_block {
                    self.answer.repair(Repair::NotACall);
                }
                self.answer.text("<");
                Step::Read(1)
            }
        }
    }
}
