//! Tools: a model's answer, from pieces of decoded text to typed parts.
//!
//! ```text
//!                 ┌ Start ─ Thoughts ─ Gap ┐ <think>…</think>
//! text ─► Reader ─┤                        ▼
//!                 └──────────────────►  Prose ──opener of the dialect──► Calls ─► Answer ─► Parts
//!                                         ▲  └─ anything else is text      │
//!                                         └────────────────────────────────┘
//! ```
//!
//! A dialect is a file: how a call is announced, how it is read, and a grammar that makes a model
//! write it. It is chosen by what stands in the model's chat template. Whatever the cuts between
//! pieces, the parts say the same; nothing is held back but what may still become markup, and what
//! does not become a call comes out as text. Nothing here knows HTTP, ids or tokens.

mod answer;
mod grammar;
mod hermes;
mod json;
mod look;
mod python;
mod qwen_coder;
mod reader;
mod schema;
mod trigger;

use std::fmt;
use std::sync::Arc;

pub use grammar::{Choice, GRAMMAR};
pub use reader::{Reader, Rules};
pub use trigger::Trigger;

use answer::Answer;
use look::Look;

/// Every dialect; where the fingerprints of two stand in a template, the first is meant.
const DIALECTS: [&Dialect; 2] = [&qwen_coder::DIALECT, &hermes::DIALECT];

const OPENER: &str = "<tool_call>";
const CLOSER: &str = "</tool_call>";

/// A function that the model may call.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its parameters.
    pub parameters: serde_json::Value,
}

/// A way of writing calls.
pub struct Dialect {
    name: &'static str,
    /// What stands in a chat template that teaches this dialect.
    fingerprint: &'static str,
    /// What a call begins with, for a trigger, besides `<tool_call>`: at the start of a line.
    bare_opener: Option<&'static str>,
    /// Whether a call begins here; `Yes` says how much stands before what [`Calls`] read.
    opens: fn(&Place<'_>, &str) -> Look,
    /// Reads calls from there on; is told the text that was passed over.
    calls: fn(Arc<[Tool]>, &str) -> Box<dyn Calls>,
    /// The rules of one call of the tool with this number, under `call_N` and names below it, and
    /// whether they must hold all of its schema.
    grammar: fn(usize, &Tool, bool) -> String,
}

/// Where a marker was found.
struct Place<'a> {
    tools: &'a [Tool],
    /// At the start of a line, or right after a call.
    fresh: bool,
    ended: bool,
}

/// What a dialect reads after the opener.
trait Calls: Send {
    /// Reads on. At the natural end of the text `ended` is set, and `rest` is all that comes.
    fn read(&mut self, rest: &str, ended: bool, answer: &mut Answer) -> Step;

    /// The text was cut off, with `rest` as all that was not read; a call stays as it is.
    fn cut(&mut self, _rest: &str, _answer: &mut Answer) {}
}

/// What became of the text that was to be read.
enum Step {
    /// So many bytes are done with.
    Read(usize),
    /// What follows decides.
    Wait,
    /// So many bytes are done with, and what follows is no longer a call.
    Leave(usize),
}

/// A piece of an answer. Calls are numbered from 0 and never interleave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What the user reads.
    Text(String),
    /// What the model thought before.
    Reasoning(String),
    /// A call begins.
    CallStart {
        /// Its number.
        index: usize,
        /// The name of a tool that was offered.
        name: String,
    },
    /// More of the JSON object of its arguments.
    CallArguments {
        /// Its number.
        index: usize,
        /// What to append.
        fragment: String,
    },
    /// The call is complete and its arguments are JSON. A call that never comes to this was cut
    /// off, or went wrong beyond repair: it must not be executed.
    CallEnd {
        /// Its number.
        index: usize,
    },
}

/// Whether thoughts come before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thinking {
    /// `<think>` is text.
    #[default]
    Never,
    /// The model opens `<think>` itself, or does not.
    Maybe,
    /// The prompt has opened it.
    Inside,
}

/// How a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The model came to its end.
    Natural,
    /// It was stopped in the middle: too long, cancelled.
    Cut,
}

/// A slip of the model that was put right, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repair {
    /// A call without `<tool_call>`.
    MissingOpener,
    /// A `</tool_call>` that nothing had opened.
    OrphanCloser,
    /// A value without `</parameter>`.
    UnclosedValue,
    /// A call without its end.
    UnclosedCall,
    /// More closing braces than were opened.
    ExtraBrace,
    /// A parameter that came before.
    Duplicate,
    /// A value that its schema does not allow, given as text.
    Mistyped,
    /// A value in Python's spelling, or an integer with a point.
    Respelled,
    /// A line break or another control character in a JSON string.
    RawControl,
    /// `<tool_call>` without a call of a tool that was offered: it came out as text.
    NotACall,
    /// Arguments that ceased to be JSON after the call had begun.
    Broken,
}

impl Repair {
    /// Its name in a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::MissingOpener => "missing_opener",
            Self::OrphanCloser => "orphan_closer",
            Self::UnclosedValue => "unclosed_value",
            Self::UnclosedCall => "unclosed_call",
            Self::ExtraBrace => "extra_brace",
            Self::Duplicate => "duplicate",
            Self::Mistyped => "mistyped",
            Self::Respelled => "respelled",
            Self::RawControl => "raw_control",
            Self::NotACall => "not_a_call",
            Self::Broken => "broken",
        }
    }
}

impl Dialect {
    /// The dialect that a chat template teaches.
    pub fn of_template(source: &str) -> Option<&'static Self> {
        DIALECTS.into_iter().find(|dialect| source.contains(dialect.fingerprint))
    }

    /// The dialect of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        DIALECTS.into_iter().find(|dialect| dialect.name == name)
    }

    /// The names of all dialects.
    pub fn names() -> impl Iterator<Item = &'static str> {
        DIALECTS.into_iter().map(Self::name)
    }

    /// What begins a call of this tool besides `<tool_call>`, where anything does.
    pub fn opener(&self, tool: &Tool) -> Option<String> {
        self.bare_opener.map(|opener| format!("{opener}{}>", tool.name))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// What most models of this kind were taught.
impl Default for &'static Dialect {
    fn default() -> Self {
        &hermes::DIALECT
    }
}

impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialect({})", self.name)
    }
}
