//! Error: why a vocabulary or a template was refused, in one line.
//!
//! A message names the GGUF key, what was found and what is accepted. Text that comes from a
//! file is shortened and escaped before it enters a message, so that no file can forge log lines.

use std::fmt;

/// What can fail in this crate; encoding and decoding never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The metadata of the file cannot be read as what it must be.
    File(String),
    /// The vocabulary of the file cannot be used.
    Vocabulary(String),
    /// The chat template cannot be used, or failed on this conversation.
    Template(String),
    /// The template itself refused the conversation with `raise_exception`.
    Raised(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(why) | Self::Vocabulary(why) => f.write_str(why),
            Self::Template(why) => write!(f, "chat template: {why}"),
            Self::Raised(why) => write!(f, "the chat template refuses this conversation: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<qwire_gguf::Error> for Error {
    fn from(error: qwire_gguf::Error) -> Self {
        Self::File(error.to_string())
    }
}

/// Foreign text as it may appear in a message: at most `max` characters, on one line.
pub(crate) fn excerpt(text: &str, max: usize) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        match c {
            _ if at == max => return shown + "…",
            '"' | '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line() {
        assert_eq!(excerpt("a\nb\u{1b}[31m", 99), "a\\nb\\u{1b}[31m");
        assert_eq!(excerpt("it's \"é\"", 99), "it's \"é\"");
        assert_eq!(excerpt(&"é".repeat(1000), 3), "ééé…");
        assert!(!Error::Template(excerpt("x\r\ny", 9)).to_string().contains('\n'));
    }
}
