//! Template: a conversation to the text that the model was trained to continue.
//!
//! A model file carries its own Jinja source, written for Python and for Transformers' settings.
//! It is foreign code: it runs with bounded fuel, depth and output, reads no files, and whatever
//! it does ends in a text or in one line that says why not. What single steps copy is bounded from
//! outside: a rendering has its own thread, [`watch`] stops waiting for it after 3 s or, on Linux,
//! once the process has gained 64 MiB, and [`amounts`] refuses the filters' largest arguments. A
//! thread that is not waited for may go on with its last step until that ends.
//!
//! Known differences to Jinja2: `%` does not format, `~` writes floats without an exponent, a
//! slice `[:0:-1]` includes the first item, and the filters that only web pages need are absent.

mod amounts;
mod builtins;
mod clock;
mod guard;
mod json;
mod python;
mod tags;
mod turns;
mod watch;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State};

use qwire_gguf::Metadata;

use crate::error::{Error, excerpt};
use crate::tokenizer::{Controls, Vocabulary};
use builtins::{Clock, Raised};
use guard::marked;
pub(crate) use guard::unmarked;
pub use turns::{Oblivion, Recall};
use watch::Watch;

/// Steps of a rendering; a conversation of 1,000 messages with 100 tools takes about 200,000.
/// Values nested by as many steps must fit the stack of [`watch`].
const FUEL: u64 = 1_000_000;
/// What a rendering may print, and the longest text that a filter may make.
const MAX_TEXT_BYTES: usize = 16 << 20;
const NAME: &str = "chat";

/// A chat template, parsed and ready.
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    variables: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// The template of a file, which knows the tokens of its vocabulary; `None` without one.
    pub fn from_gguf(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Option<Self>, Error> {
        let Some(source) = metadata.str("tokenizer.chat_template")? else { return Ok(None) };
        let ids = vocabulary.special_ids();
        let text = |id: Option<u32>| id.map(|id| vocabulary.decode(&[id], Controls::Show));
        let (bos, eos) = (text(ids.bos), text(ids.eos));
        Ok(Some(Self::new(source)?.with_tokens(bos.as_deref(), eos.as_deref())))
    }

    /// Parses the source of a template.
    pub fn new(source: &str) -> Result<Self, Error> {
        Self::with_clock(source, clock::now)
    }

    /// The texts of the tokens that templates know as `bos_token` and `eos_token`.
    pub fn with_tokens(mut self, bos: Option<&str>, eos: Option<&str>) -> Self {
        for (name, text) in [("bos_token", bos), ("eos_token", eos)] {
            if let Some(text) = text {
                self.variables.insert(name.into(), text.into());
            }
        }
        self
    }

    fn with_clock(source: &str, clock: Clock) -> Result<Self, Error> {
        let source = tags::prepare(source).map_err(Error::Template)?;
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(false);
        environment.set_syntax(syntax.build().map_err(|error| failed(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(print);
        builtins::add_to(&mut environment, clock);
        environment
            .add_template_owned(NAME, source.into_owned())
            .map_err(|error| failed(&error))?;
        let variables = BTreeMap::from([
            ("tools".to_owned(), Value::from(())),
            ("documents".to_owned(), Value::from(())),
        ]);
        Ok(Self { environment: Arc::new(environment), variables })
    }

    /// The prompt of a conversation, in which control tokens are the template's alone: what
    /// people, tools and earlier answers wrote stays text. What the model said before has the
    /// tokens that `recall` remembers. The other arguments are those of [`ChatTemplate::render`].
    pub fn prompt(
        &self,
        vocabulary: &Vocabulary,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        opening: Opening,
        extra: &serde_json::Map<String, serde_json::Value>,
        recall: &mut dyn Recall,
    ) -> Result<Prompt, Error> {
        let guarded = |json: &serde_json::Value| marked(json, &vocabulary.controls);
        let tools = tools.map(guarded);
        let extra = extra.iter().map(|(name, value)| (name.clone(), guarded(value))).collect();
        let messages = guarded(messages);
        let fresh = opening == Opening::Fresh;
        let mut text = self.render(&messages, tools.as_ref(), fresh, &extra)?;
        if opening == Opening::Last {
            let end = end_of_last(&messages, &text).ok_or_else(|| {
                Error::Template("it does not show the last message as it is".into())
            })?;
            text.truncate(end);
        }
        let ids = turns::encoded(vocabulary, &text, recall);
        let opener = (opening != Opening::Nowhere).then(|| turns::opener(vocabulary, &text));
        Ok(Prompt { text: unmarked(&text).into_owned(), ids, opener: opener.flatten() })
    }

    /// Renders a conversation. `extra` are the template's own switches, such as
    /// `enable_thinking`; they win over everything else.
    pub fn render(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        extra: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, Error> {
        let mut variables = self.variables.clone();
        variables.insert("messages".into(), python::value_of(messages));
        variables.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let mut input_bytes = size_of_json(messages);
        if let Some(tools) = tools {
            variables.insert("tools".into(), python::value_of(tools));
            input_bytes += size_of_json(tools);
        }
        for (name, value) in extra {
            variables.insert(name.clone(), python::value_of(value));
            input_bytes += size_of_json(value);
        }
        let environment = Arc::clone(&self.environment);
        Watch::over(input_bytes).run(move || print_page(&environment, variables))
    }
}

/// Where an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// In a message of its own, which the template opens.
    Fresh,
    /// At the end of the last message, which is its beginning.
    Last,
    /// Nowhere: the conversation is over.
    Nowhere,
}

/// What a model continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// As text, which does not tell whose a control token's text is.
    pub text: String,
    /// As tokens.
    pub ids: Vec<u32>,
    /// What the answer's turn opens with, as [`Recall`] knows it.
    pub opener: Option<String>,
}

/// Where the last message's text ends in a rendering. Templates trim it.
fn end_of_last(messages: &serde_json::Value, text: &str) -> Option<usize> {
    let last = messages.as_array()?.last()?["content"].as_str()?.trim();
    text.rfind(last).map(|at| at + last.len())
}

/// About how many bytes a conversation takes inside a template.
fn size_of_json(json: &serde_json::Value) -> usize {
    64 + match json {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(size_of_json).sum(),
        serde_json::Value::Object(pairs) => {
            pairs.iter().map(|(key, value)| key.len() + size_of_json(value)).sum()
        }
        _ => 0,
    }
}

/// The whole rendering, on whatever thread it is called.
fn print_page(
    environment: &Environment<'_>,
    variables: BTreeMap<String, Value>,
) -> Result<String, Error> {
    let template = environment.get_template(NAME).map_err(|error| failed(&error))?;
    let mut page = Page { bytes: Vec::new(), full: false };
    match template.render_captured_to(Value::from(variables), &mut page) {
        Ok(_) => String::from_utf8(page.bytes)
            .map_err(|error| Error::Template(format!("its output is not UTF-8: {error}"))),
        Err(_) if page.full => Err(too_much()),
        Err(error) => Err(failed(&error)),
    }
}

/// Where a rendering goes: as much as one may print.
struct Page {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_TEXT_BYTES {
            self.full = true;
            return Err(io::Error::other("full"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes printed so far, those captured by macros and blocks included.
#[derive(Default)]
struct Printed(usize);

/// Prints `{{ value }}` as Python would.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    watch::go_on()?;
    let text = python::str(value, MAX_TEXT_BYTES)?;
    let printed = state.get_or_insert_extension(Printed::default());
    printed.0 += text.len();
    if printed.0 > 2 * MAX_TEXT_BYTES {
        return Err(python::too_long(2 * MAX_TEXT_BYTES));
    }
    Ok(out.write_str(&text)?)
}

fn too_much() -> Error {
    Error::Template(format!("it prints more than {MAX_TEXT_BYTES} bytes"))
}

/// The error of the engine in one line.
fn failed(error: &minijinja::Error) -> Error {
    let mut source = error.source();
    let mut why = String::new();
    if let Some(line) = error.line() {
        let _ = write!(why, "line {line}: "); // a String takes everything
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::Template(format!("it takes more than {FUEL} steps"));
    }
    let _ = write!(why, "{}", error.kind());
    if let Some(detail) = error.detail() {
        let _ = write!(why, ": {detail}");
    }
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return Error::Raised(excerpt(message, 500));
        }
        if let Some(inner) = inner.downcast_ref::<minijinja::Error>() {
            let _ = write!(why, ": {}", inner.detail().unwrap_or_default());
        }
        source = inner.source();
    }
    Error::Template(excerpt(&why, 300))
}

#[cfg(test)]
mod tests;
