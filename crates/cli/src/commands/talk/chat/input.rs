//! Input: messages as they are typed, or as they come through a pipe.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};

use super::order;
use crate::arguments::utf8;
use crate::failure::Failure;

/// Most lines that are kept for the next time.
const HISTORY_LINES: usize = 1000;
/// Stands before and after a message of several lines.
const QUOTES: &str = "\"\"\"";

/// Where messages come from.
pub enum Input {
    /// Somebody types.
    Terminal(Box<Editor<Typist, FileHistory>>, Option<PathBuf>),
    /// Lines of a file or of another program.
    Pipe,
}

/// What came.
pub enum Line {
    /// A message, or an order.
    Text(String),
    /// Nothing, or something that was given up.
    Dropped,
    /// Nothing more.
    End,
}

/// Tells whether a message is complete, and completes orders.
pub struct Typist;

impl Input {
    /// Stdin; typed lines are remembered in the file.
    pub fn open(history: Option<PathBuf>) -> Result<Self, Failure> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Self::Pipe);
        }
        let failed = |error: ReadlineError| Failure::new(format!("the terminal: {error}"));
        let config = Config::builder().max_history_size(HISTORY_LINES).map_err(failed)?;
        let config = config.history_ignore_space(true).build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Typist));
        if let Some(path) = &history {
            // Absent at the first time; without it nothing but comfort is lost.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal(Box::new(editor), history))
    }

    /// Whether somebody types.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(..))
    }

    /// The next message.
    pub fn read(&mut self, prompt: &str) -> Result<Line, Failure> {
        let text = match self {
            Self::Terminal(editor, _) => match editor.readline(prompt) {
                Ok(text) => text,
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(ReadlineError::Interrupted) => {
                    eprintln!("Ctrl-D ends the conversation");
                    return Ok(Line::Dropped);
                }
                Err(error) => return Err(Failure::new(format!("the terminal: {error}"))),
            },
            Self::Pipe => match piped()? {
                Some(text) => text,
                None => return Ok(Line::End),
            },
        };
        if text.trim().is_empty() {
            return Ok(Line::Dropped);
        }
        self.remember(&text);
        Ok(Line::Text(unfolded(&text)))
    }

    /// Keeps a line at once, since a terminal may be closed at any time.
    fn remember(&mut self, text: &str) {
        let Self::Terminal(editor, history) = self else { return };
        // Without a history nothing but comfort is lost.
        let _ = editor.add_history_entry(text);
        if let Some(path) = history {
            let _ = path.parent().map(fs::create_dir_all);
            let _ = editor.append_history(path);
        }
    }
}

/// Lines of stdin up to the end of a message.
fn piped() -> Result<Option<String>, Failure> {
    let (mut stdin, mut text) = (io::stdin().lock(), Vec::new());
    loop {
        let read = stdin.read_until(b'\n', &mut text);
        let read = read.map_err(|error| Failure::new(format!("cannot read stdin: {error}")))?;
        let so_far = utf8(text, "stdin")?;
        let message = so_far.strip_suffix('\n').unwrap_or(&so_far);
        let message = message.strip_suffix('\r').unwrap_or(message);
        match read {
            0 if so_far.is_empty() => return Ok(None),
            _ if read == 0 || is_complete(message) => return Ok(Some(message.to_string())),
            _ => text = so_far.into_bytes(),
        }
    }
}

/// Whether nothing of a message is still to come.
fn is_complete(text: &str) -> bool {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(rest) => rest.trim_end().ends_with(QUOTES),
        None => !text.ends_with('\\'),
    }
}

/// A message without what held its lines together.
fn unfolded(text: &str) -> String {
    let quoted = text.trim().strip_prefix(QUOTES).map(|rest| rest.strip_suffix(QUOTES));
    match quoted {
        Some(inner) => {
            let inner = inner.unwrap_or(text.trim());
            let inner = inner.strip_prefix('\n').unwrap_or(inner);
            inner.strip_suffix('\n').unwrap_or(inner).to_string()
        }
        None => text.replace("\\\r\n", "\n").replace("\\\n", "\n"),
    }
}

impl Validator for Typist {
    fn validate(&self, typed: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let complete = is_complete(typed.input());
        Ok(if complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for Typist {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let names = order::NAMES.iter().filter(|name| name.starts_with(&line[..at]));
        let names = names.filter(|_| line.starts_with('/'));
        Ok((0, names.map(ToString::to_string).collect()))
    }
}

impl Hinter for Typist {
    type Hint = String;
}

impl Highlighter for Typist {}

impl Helper for Typist {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_held_together() {
        let check = |text: &str, complete: bool, unfolds: &str| {
            assert_eq!(is_complete(text), complete, "{text:?}");
            assert_eq!(unfolded(text), unfolds, "{text:?}");
        };
        check("hello", true, "hello");
        check("a\\", false, "a\\");
        check("a\\\nb", true, "a\nb");
        check("a\\\r\nb", true, "a\nb");
        check("\"\"\"", false, "\"\"\"");
        check("\"\"\"a\nb\\\nc\"\"\"", true, "a\nb\\\nc");
        check("\"\"\"\na\n\"\"\"", true, "a");
        check("\"\"\"\"\"\"", true, "");
        check("say \"\"\"", true, "say \"\"\"");
    }
}
