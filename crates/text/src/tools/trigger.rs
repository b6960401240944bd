//! Trigger: the byte at which free text turns into a call, for a constraint that begins there.
//!
//! Tokens straddle markers: one may end `<function=` and begin a name. So the search is over
//! bytes, and what it finds is given back from the first byte of the marker on, for the constraint
//! to read before the next token is chosen.

use super::{Dialect, OPENER, Thinking, Tool};

const THINK: &[u8] = b"<think>";
const THINK_END: &[u8] = b"</think>";

/// Looks for the beginning of the first call.
#[derive(Debug)]
pub struct Trigger {
    /// What begins a call, and whether only at the start of a line.
    openers: Vec<(Vec<u8>, bool)>,
    thinking: Thinking,
    /// From the last `<` on, as long as it may become a marker.
    tail: Vec<u8>,
    /// The tail is at the start of a line.
    fresh: bool,
    /// The byte before the next is the end of a line, or there is none.
    line_start: bool,
}

impl Trigger {
    /// A search in the answer to a request that offered these tools.
    pub fn new(dialect: &Dialect, tools: &[Tool], thinking: Thinking) -> Self {
        let mut openers = Vec::new();
        if !tools.is_empty() {
            openers.push((OPENER.into(), false));
        }
        if let Some(opener) = dialect.bare_opener {
            let with_name = |tool: &Tool| (format!("{opener}{}", tool.name).into_bytes(), true);
            openers.extend(tools.iter().map(with_name));
        }
        Self { openers, thinking, tail: Vec::new(), fresh: true, line_start: true }
    }

    /// Takes the bytes of the next token. Where a call begins: all bytes from its beginning on.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        for (at, &byte) in bytes.iter().enumerate() {
            if byte == b'<' {
                self.tail.clear();
                self.fresh = self.line_start;
            }
            self.line_start = byte == b'\n';
            if byte == b'<' || !self.tail.is_empty() {
                self.tail.push(byte);
                if self.is_call() {
                    return Some([&self.tail, &bytes[at + 1..]].concat());
                }
            } else if self.thinking == Thinking::Maybe && !byte.is_ascii_whitespace() {
                self.thinking = Thinking::Never;
            }
        }
        None
    }

    /// Whether the tail is the beginning of a call. One that cannot become a marker is forgotten.
    fn is_call(&mut self) -> bool {
        let tail = self.tail.as_slice();
        let fits =
            |(opener, line): &&(Vec<u8>, bool)| opener.starts_with(tail) && (!line || self.fresh);
        let thought = match self.thinking {
            Thinking::Never => None,
            Thinking::Maybe => Some((THINK, Thinking::Inside)),
            Thinking::Inside => Some((THINK_END, Thinking::Never)),
        };
        let opener = self.openers.iter().filter(|_| self.thinking != Thinking::Inside).find(fits);
        match thought {
            Some((marker, then)) if marker.starts_with(tail) => {
                if marker == tail {
                    self.thinking = then;
                    self.line_start = true;
                    self.tail.clear();
                }
                return false;
            }
            _ => {}
        }
        if opener.is_none() {
            self.tail.clear();
            if self.thinking == Thinking::Maybe {
                self.thinking = Thinking::Never;
            }
        }
        opener.is_some_and(|_| self.openers.iter().any(|(opener, _)| *opener == self.tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_begins_at_a_byte() {
        let check = |dialect: &str, thinking, text: &str, expected: Option<&str>| {
            let tool = |name: &str| Tool { name: name.into(), parameters: serde_json::json!({}) };
            let tools = [tool("list"), tool("list_files")];
            let dialect = Dialect::named(dialect).unwrap();
            for cut in 0..=text.len() {
                let mut trigger = Trigger::new(dialect, &tools, thinking);
                let (first, second) = text.as_bytes().split_at(cut);
                let found = trigger.push(first).map(|mut found| {
                    found.extend(second);
                    found
                });
                let found = found.or_else(|| trigger.push(second));
                assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{text}");
            }
        };
        let coder = "qwen-coder";
        check(coder, Thinking::Never, "é <tool_call>\n<fun", Some("<tool_call>\n<fun"));
        check(coder, Thinking::Never, "a\n<function=list_f", Some("<function=list_f"));
        check(coder, Thinking::Never, "<function=list>", Some("<function=list>"));
        check(coder, Thinking::Never, "a <function=list>", None);
        check(coder, Thinking::Never, "\n<function=lisp>", None);
        check(coder, Thinking::Never, "<<tool_call>", Some("<tool_call>"));
        check(coder, Thinking::Inside, "<tool_call></think>a<tool_call>", Some("<tool_call>"));
        check(coder, Thinking::Maybe, "\n<think><tool_call>", None);
        check(coder, Thinking::Maybe, "a<think><tool_call>b", Some("<tool_call>b"));
        check(coder, Thinking::Maybe, "<think></think><function=list", Some("<function=list"));
        check("hermes", Thinking::Never, "\n<function=list>", None);
        check("hermes", Thinking::Maybe, "<tool_call>{", Some("<tool_call>{"));
        assert!(
            Trigger::new(Dialect::named(coder).unwrap(), &[], Thinking::Never)
                .push(b"<tool_call>")
                .is_none()
        );
    }
}
