//! The reader of answers: what transcripts mean, and that it does not depend on how they are cut.

mod defects;
mod hermes;
mod properties;
mod prose;
mod qwen_coder;

use std::fmt::Write as _;
use std::sync::Arc;

use qwire_text::tools::{Dialect, Ending, Part, Reader, Repair, Rules, Thinking, Tool};
use serde_json::{Value, json};

/// The tools of all transcripts.
fn tools() -> Arc<[Tool]> {
    let tool = |name: &str, parameters: Value| Tool { name: name.into(), parameters };
    let text = json!({"type": "string"});
    Arc::new([
        tool(
            "read",
            json!({"type": "object", "required": ["path"], "properties": {
                "path": text, "limit": {"type": ["integer", "null"]},
                "mode": {"type": "string", "enum": ["text", "bytes"]},
            }}),
        ),
        tool(
            "write",
            json!({"type": "object", "properties": {"path": text, "content": text},
                "required": ["path", "content"]}),
        ),
        tool(
            "run",
            json!({"type": "object", "properties": {
                "command": text, "timeout": {"type": "number"}, "quiet": {"type": "boolean"},
                "env": {"type": "object"}, "words": {"type": "array"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            }}),
        ),
        tool("read_all", json!({"type": "object", "properties": {}})),
        tool("free", json!({})),
    ])
}

/// How a transcript is read.
#[derive(Debug, Clone, Copy)]
struct Case {
    dialect: &'static str,
    offered: bool,
    thinking: Thinking,
    parallel: bool,
    ending: Ending,
}

const CODER: Case = Case {
    dialect: "qwen-coder",
    offered: true,
    thinking: Thinking::Never,
    parallel: true,
    ending: Ending::Natural,
};

const HERMES: Case = Case { dialect: "hermes", ..CODER };

/// What a reader made of a text: its parts, joined, and how often it repaired what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    parts: Vec<Part>,
    repairs: Vec<(Repair, u32)>,
}

impl Case {
    fn reader(self) -> Reader {
        let tools = if self.offered { tools() } else { Arc::new([]) };
        let rules = Rules { thinking: self.thinking, parallel: self.parallel };
        Reader::new(Dialect::named(self.dialect).unwrap(), tools, rules)
    }

    fn read<'a>(self, pieces: impl IntoIterator<Item = &'a str>) -> Outcome {
        let mut reader = self.reader();
        let mut parts = Vec::new();
        pieces.into_iter().for_each(|piece| join(&mut parts, reader.push(piece)));
        join(&mut parts, reader.finish(self.ending));
        let repairs = reader.repairs().iter().map(|(kind, count)| (*kind, *count)).collect();
        Outcome { parts, repairs }
    }

    /// Reads a text whole, by character, and cut in two anywhere.
    #[track_caller]
    fn read_every_way(self, text: &str) -> Outcome {
        let whole = self.read([text]);
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let chars: Vec<&str> = text.split_inclusive(|_| true).collect();
        assert_eq!(self.read(chars), whole, "by character: {text}");
        for cut in cuts {
            let (first, second) = text.split_at(cut);
            assert_eq!(self.read([first, second]), whole, "cut at {cut}: {text}");
        }
        whole
    }

    /// What a text means, one line per part, and the repairs in a last line.
    #[track_caller]
    fn check(self, text: &str, expected: &str) {
        let outcome = self.read_every_way(text);
        assert_eq!(show(&outcome), expected, "of {text}");
    }

    #[track_caller]
    fn is_text(self, text: &str) {
        let outcome = self.read_every_way(text);
        assert_eq!(outcome.parts, [Part::Text(text.into())]);
    }
}

/// Appends parts to those before; the pieces of one text, and of one call's arguments, become one.
fn join(parts: &mut Vec<Part>, more: Vec<Part>) {
    for part in more {
        match (parts.last_mut(), part) {
            (Some(Part::Text(all)), Part::Text(text))
            | (Some(Part::Reasoning(all)), Part::Reasoning(text)) => all.push_str(&text),
            (
                Some(Part::CallArguments { index, fragment: all }),
                Part::CallArguments { index: same, fragment },
            ) => {
                assert_eq!(*index, same);
                all.push_str(&fragment);
            }
            (_, part) => parts.push(part),
        }
    }
    assert_sound(parts);
}

/// Calls are numbered, never interleave, and where they end their arguments are an object.
fn assert_sound(parts: &[Part]) {
    let (mut calls, mut arguments) = (0, None);
    for part in parts {
        match part {
            Part::CallStart { index, .. } => {
                assert_eq!(*index, calls);
                calls += 1;
                arguments = Some("");
            }
            Part::CallArguments { index, fragment } => {
                assert_eq!(*index + 1, calls);
                assert_eq!(arguments, Some(""));
                arguments = Some(fragment);
            }
            Part::CallEnd { index } => {
                assert_eq!(*index + 1, calls);
                let json = serde_json::from_str::<Value>(arguments.take().unwrap());
                assert!(json.unwrap().is_object());
            }
            Part::Text(text) | Part::Reasoning(text) => {
                assert!(!text.is_empty());
                arguments = None;
            }
        }
    }
}

fn show(outcome: &Outcome) -> String {
    let mut text = String::new();
    for part in &outcome.parts {
        let _ = match part {
            Part::Text(words) => writeln!(text, "{words:?}"),
            Part::Reasoning(words) => writeln!(text, "think {words:?}"),
            Part::CallStart { name, .. } => write!(text, "{name} "),
            Part::CallArguments { fragment, .. } => write!(text, "{fragment}"),
            Part::CallEnd { .. } => writeln!(text, "."),
        };
    }
    let names: Vec<String> =
        outcome.repairs.iter().map(|(kind, count)| format!("{}*{count}", kind.name())).collect();
    text + &names.join(" ")
}
