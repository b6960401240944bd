//! Failure: how a command ends when it cannot do its job: one line, perhaps a hint, an exit code.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use qwire_model::LoadError;

use crate::config::Environment;

/// The job could not be done.
const FAILED: u8 = 1;
/// The command line cannot be understood.
const USAGE: u8 = 2;
/// The program cannot be trusted any more (EX_SOFTWARE).
const BROKEN: u8 = 70;
/// What a shell reports of a process whose reader went away (128 + SIGPIPE).
const PIPE_CLOSED: u8 = 141;

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    message: Option<String>,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// The job could not be done.
    pub fn new(message: impl Display) -> Self {
        Self { message: Some(message.to_string()), hint: None, code: FAILED }
    }

    /// The command line asks for something that makes no sense.
    pub fn usage(message: impl Display) -> Self {
        Self { code: USAGE, ..Self::new(message) }
    }

    /// Something within broke.
    pub fn broken(message: impl Display) -> Self {
        Self { code: BROKEN, ..Self::new(message) }
    }

    /// An end that needs no words, such as an interrupt by the user.
    pub fn silent(code: u8) -> Self {
        Self { message: None, hint: None, code }
    }

    /// What the user may try next.
    pub fn hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    /// Names the file, unless the message begins with it.
    pub fn in_file(mut self, path: &Path) -> Self {
        let path = path.to_string_lossy();
        if let Some(message) = &mut self.message
            && !message.starts_with(&one_line(&path))
        {
            *message = format!("{path}: {message}");
        }
        self
    }

    /// The message, for those who show it elsewhere.
    pub fn message(&self) -> String {
        one_line(self.message.as_deref().unwrap_or_default())
    }

    /// Whether there is nothing to say.
    pub fn is_silent(&self) -> bool {
        self.message.is_none()
    }

    /// Prints the line and the hint to stderr and gives the exit code.
    pub fn report(&self, environment: &Environment) -> u8 {
        self.tell(environment.colour);
        self.code
    }

    /// Prints the line and the hint to stderr.
    pub fn tell(&self, colour: bool) {
        let mut stderr = io::stderr().lock();
        let paint = colour && stderr.is_terminal();
        let (red, cyan, plain) =
            if paint { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        // With stderr closed there is nobody to tell.
        if self.message.is_some() {
            let _ = writeln!(stderr, "{red}error:{plain} {}", self.message());
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(stderr, "{cyan}hint:{plain} {}", one_line(hint));
        }
    }
}

/// Whatever a file or a path put into a message, it stays one line and paints nothing.
pub fn one_line(text: &str) -> String {
    let hostile =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if hostile(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// A failed write to stdout; a reader that went away is no news.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(PIPE_CLOSED);
        }
        Self::new(format!("cannot write the output: {error}"))
    }
}

impl From<qwire_gguf::Error> for Failure {
    fn from(error: qwire_gguf::Error) -> Self {
        Self::new(error)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(error)
    }
}

impl From<qwire_text::Error> for Failure {
    fn from(error: qwire_text::Error) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_one_line() {
        let failure = Failure::new("a\nb\x1b[31m\u{202e}c");
        assert_eq!(failure.message(), r"a\nb\u{1b}[31m\u{202e}c");
    }

    #[test]
    fn the_file_is_named_once() {
        let path = Path::new("m.gguf");
        assert_eq!(Failure::new("bad").in_file(path).message(), "m.gguf: bad");
        assert_eq!(Failure::new("m.gguf: bad").in_file(path).message(), "m.gguf: bad");
    }

    #[test]
    fn a_closed_pipe_is_silent() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.message, failure.code), (None, PIPE_CLOSED));
    }
}
