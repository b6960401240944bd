//! Hermes: calls as JSON, the way of Qwen2.5 and Qwen3.
//!
//! ```text
//! <tool_call>
//! {"name": NAME, "arguments": {…}}          several may stand in one block
//! </tool_call>
//! ```
//!
//! Once it is certain that the object calls a tool that was offered, its arguments are passed on
//! as they come. Until then it is kept, to come out as text if it is something else.

use std::sync::Arc;

use super::answer::Answer;
use super::grammar;
use super::json::{Json, Want};
use super::look::{Look, blank};
use super::{CLOSER, Calls, Dialect, OPENER, Place, Repair, Step, Tool};

pub(super) static DIALECT: Dialect = Dialect {
    name: "hermes",
    fingerprint: OPENER,
    bare_opener: None,
    opens,
    calls: |tools, opener| Box::new(Objects { tools, object: Object::after(opener) }),
    grammar: grammar::objects,
};

fn opens(place: &Place<'_>, rest: &str) -> Look {
    let look = match Look::at(rest, OPENER) {
        Look::Yes(len) => {
            let start = len + blank(&rest[len..]);
            match Look::at(&rest[start..], "{") {
                Look::Yes(_) => Look::Yes(start),
                other => other,
            }
        }
        other => other,
    };
    look.settled(place.ended)
}

/// The calls of one block.
struct Objects {
    tools: Arc<[Tool]>,
    object: Object,
}

/// One object.
struct Object {
    json: Json,
    /// What was read, as long as it may not be a call.
    raw: String,
    key: String,
    field: Field,
    /// The value of the field as it was written.
    value: String,
    name: Option<usize>,
    arguments: Arguments,
}

/// The value that is being read, at the first level of the object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    None,
    Name,
    Arguments,
    Other,
}

#[derive(PartialEq, Eq)]
enum Arguments {
    Unseen,
    /// Complete, and the name is not known.
    Kept(String),
    /// The call has begun.
    Streaming,
    Done,
}

/// The object is not a call.
struct NotACall;

impl Object {
    fn after(raw: &str) -> Self {
        Self {
            json: Json::new(),
            raw: raw.into(),
            key: String::new(),
            field: Field::None,
            value: String::new(),
            name: None,
            arguments: Arguments::Unseen,
        }
    }

    fn has_begun(&self) -> bool {
        matches!(self.arguments, Arguments::Streaming | Arguments::Done)
    }

    fn is_complete(&self) -> bool {
        self.json.depth() == 0 && self.json.want() == Want::More
    }
}

impl Calls for Objects {
    fn read(&mut self, rest: &str, ended: bool, answer: &mut Answer) -> Step {
        for (at, c) in rest.char_indices() {
            if self.object.is_complete() {
                match c {
                    '}' => answer.repair(Repair::ExtraBrace),
                    '{' => {
                        let blank = std::mem::take(&mut self.object.raw);
                        self.object = Object::after(&blank);
                    }
                    c if c.is_ascii_whitespace() => self.object.raw.push(c),
                    _ => return self.leave(at, answer),
                }
                if c != '{' {
                    continue;
                }
            }
            if c == '<' && !matches!(self.object.json.want(), Want::Text { .. }) {
                self.flush(answer);
                return match Look::at(&rest[at..], CLOSER).settled(ended) {
                    Look::Wait if at > 0 => Step::Read(at),
                    Look::Wait => Step::Wait,
                    Look::Yes(_) => self.close(at, answer),
                    Look::No => self.leave(at, answer),
                };
            }
            if self.take(c, answer).is_err() {
                let kept = if self.object.has_begun() { 0 } else { c.len_utf8() };
                return self.leave(at + kept, answer);
            }
        }
        self.flush(answer);
        match (rest.len(), ended) {
            (0, true) if self.object.is_complete() => self.leave(0, answer),
            (0, true) => self.close(0, answer),
            (0, false) => Step::Wait,
            (len, _) => Step::Read(len),
        }
    }

    fn cut(&mut self, rest: &str, answer: &mut Answer) {
        match self.object.name {
            _ if self.object.has_begun() => {}
            Some(tool) => answer.start(&self.tools[tool].name),
            None => [&self.object.raw, rest].into_iter().for_each(|text| answer.text(text)),
        }
    }
}

impl Objects {
    /// The block ends; braces that are missing are put in where they make it whole.
    fn close(&mut self, at: usize, answer: &mut Answer) -> Step {
        let Some(missing) = self.object.json.ending() else { return self.leave(at, answer) };
        let written = self.object.raw.len();
        if missing.chars().all(|c| self.take(c, answer).is_ok()) {
            answer.repair(Repair::UnclosedCall);
        } else {
            self.object.raw.truncate(written);
        }
        self.leave(at, answer)
    }

    /// What was kept is text, and so is what follows; a call that has begun stays as it is.
    fn leave(&mut self, at: usize, answer: &mut Answer) -> Step {
        self.flush(answer);
        if self.object.arguments == Arguments::Streaming {
            answer.give_up();
        } else {
            if self.object.arguments != Arguments::Done {
                answer.repair(Repair::NotACall);
            }
            answer.text(&std::mem::take(&mut self.object.raw));
        }
        Step::Leave(at)
    }

    /// Passes on the arguments that were read.
    fn flush(&mut self, answer: &mut Answer) {
        let object = &mut self.object;
        if object.field == Field::Arguments && object.arguments == Arguments::Streaming {
            answer.arguments(&std::mem::take(&mut object.value));
        }
    }

    /// Takes one character of the object.
    fn take(&mut self, c: char, answer: &mut Answer) -> Result<(), NotACall> {
        let object = &mut self.object;
        let (depth, want) = (object.json.depth(), object.json.want());
        if !object.has_begun() {
            object.raw.push(c);
        }
        if !object.json.push(c) {
            return Err(NotACall);
        }
        match want {
            Want::Key | Want::FirstKey if depth == 1 => object.key.clear(),
            Want::Text { is_key: true, .. } if depth == 1 => object.key.push(c),
            Want::Value if depth == 1 && !c.is_ascii_whitespace() => self.begin(c, answer),
            _ => {}
        }
        let object = &mut self.object;
        if object.field != Field::None && object.field != Field::Other {
            if c < ' ' && matches!(want, Want::Text { .. }) {
                answer.repair(Repair::RawControl);
                let json = serde_json::Value::from(c.to_string()).to_string();
                object.value.push_str(&json[1..json.len() - 1]);
            } else {
                object.value.push(c);
            }
        }
        match (object.json.depth(), object.json.want()) {
            (1, Want::More) | (0, _) => self.finish_field(answer)?,
            _ => return Ok(()),
        }
        if self.object.is_complete() { self.finish_object(answer) } else { Ok(()) }
    }

    /// The value of a key begins with `c`.
    fn begin(&mut self, c: char, answer: &mut Answer) {
        let object = &mut self.object;
        object.value.clear();
        object.field = match object.key.strip_suffix('"').unwrap_or(&object.key) {
            "name" if object.name.is_none() => Field::Name,
            "arguments" if object.arguments == Arguments::Unseen => Field::Arguments,
            _ => Field::Other,
        };
        if let (Field::Arguments, Some(tool), '{') = (object.field, object.name, c) {
            answer.start(&self.tools[tool].name);
            object.arguments = Arguments::Streaming;
            object.raw.clear();
        }
    }

    /// A value at the first level is complete.
    fn finish_field(&mut self, answer: &mut Answer) -> Result<(), NotACall> {
        self.flush(answer);
        let object = &mut self.object;
        let value = std::mem::take(&mut object.value);
        match std::mem::replace(&mut object.field, Field::None) {
            Field::None | Field::Other => return Ok(()),
            Field::Name => {
                let name: String = serde_json::from_str(&value).map_err(|_| NotACall)?;
                let offered = self.tools.iter().position(|tool| tool.name == name);
                object.name = Some(offered.ok_or(NotACall)?);
            }
            Field::Arguments if object.arguments == Arguments::Streaming => {
                object.arguments = Arguments::Done;
                answer.end();
                return Ok(());
            }
            Field::Arguments => {
                object.arguments = Arguments::Kept(object_of(&value).ok_or(NotACall)?);
            }
        }
        if let (Some(tool), Arguments::Kept(json)) = (object.name, &object.arguments) {
            answer.start(&self.tools[tool].name);
            answer.arguments(json);
            answer.end();
            object.arguments = Arguments::Done;
            object.raw.clear();
        }
        Ok(())
    }

    fn finish_object(&mut self, answer: &mut Answer) -> Result<(), NotACall> {
        let object = &mut self.object;
        if object.arguments == Arguments::Done {
            return Ok(());
        }
        answer.start(&self.tools[object.name.ok_or(NotACall)?].name);
        answer.arguments("{}");
        answer.end();
        object.arguments = Arguments::Done;
        object.raw.clear();
        Ok(())
    }
}

/// Arguments that did not come as an object after the name: an object, a text that is one, or null.
fn object_of(value: &str) -> Option<String> {
    let value = value.trim_ascii_end();
    let is_object = |text: &str| text.trim_ascii_start().starts_with('{');
    if is_object(value) {
        return Some(value.into());
    }
    match serde_json::from_str(value).ok()? {
        serde_json::Value::Null => Some("{}".into()),
        serde_json::Value::String(text) => {
            let json = serde_json::from_str::<serde_json::Value>(&text);
            (is_object(&text) && json.is_ok()).then_some(text)
        }
        _ => None,
    }
}
