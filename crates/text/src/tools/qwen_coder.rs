//! QwenCoder: calls as Qwen3-Coder writes them, which look like XML and are not.
//!
//! ```text
//! <tool_call>                   may be absent: then `<function=` stands on a line of its own
//! <function=NAME>               of a tool that was offered
//! <parameter=KEY>
//! VALUE                         raw; one line break on either side is not part of it
//! </parameter>
//! </function>
//! </tool_call>
//! ```
//!
//! A value is foreign text and may hold all of these markers. It ends at the first `</parameter>`
//! that is followed by `</function>`, `</tool_call>`, the end, or a parameter which the tool
//! declares and which has not come yet. Where the model forgot `</parameter>`, it ends at the
//! start of a line where such a parameter begins, or where the call is closed for good.

use std::sync::Arc;

use serde_json::Value as Json;

use super::answer::Answer;
use super::grammar;
use super::look::{Look, blank};
use super::schema::{Reading, Types, convert, is_closed, properties};
use super::{CLOSER, Calls, Dialect, OPENER, Place, Repair, Step, Tool};

pub(super) static DIALECT: Dialect = Dialect {
    name: "qwen-coder",
    fingerprint: "<function=",
    bare_opener: Some(FUNCTION),
    opens,
    calls: |tools, _| Box::new(Function { tools, tool: 0, keys: Vec::new(), value: None }),
    grammar: grammar::functions,
};

const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";
const MAX_KEY_BYTES: usize = 128;
/// The longest spelling of null.
const NULL_BYTES: usize = 4;

fn opens(place: &Place<'_>, rest: &str) -> Look {
    let start = match Look::at(rest, OPENER).settled(place.ended) {
        Look::Yes(len) => len + blank(&rest[len..]),
        Look::Wait => return Look::Wait,
        Look::No if place.fresh => 0,
        Look::No => return Look::No,
    };
    let name = match Look::at(&rest[start..], FUNCTION).settled(place.ended) {
        Look::Yes(len) => &rest[start + len..],
        other => return other,
    };
    let Some((_, body)) = offered(place.tools, name) else {
        let begun = |tool: &Tool| {
            tool.name.starts_with(name) || name.strip_suffix('>') == Some(tool.name.as_str())
        };
        let look = if place.tools.iter().any(begun) { Look::Wait } else { Look::No };
        return look.settled(place.ended);
    };
    let body = body.trim_ascii_start();
    let ends = Look::at(body, FUNCTION_END).or(Look::at(body, CLOSER));
    match ends.or(parameter(body, |_, _| true)) {
        Look::Wait if !place.ended => Look::Wait,
        Look::No => Look::No,
        _ => Look::Yes(start),
    }
}

/// The tool whose name and `>` a text begins with, and what follows.
fn offered<'a>(tools: &[Tool], text: &'a str) -> Option<(usize, &'a str)> {
    let rest = |tool: &Tool| text.strip_prefix(tool.name.as_str())?.strip_prefix('>');
    tools.iter().enumerate().find_map(|(index, tool)| Some((index, rest(tool)?)))
}

/// Whether `<parameter=KEY>` stands here, with a key that is admitted; `admits` is also asked
/// about the beginning of one.
fn parameter(rest: &str, admits: impl Fn(&str, bool) -> bool) -> Look {
    let Look::Yes(start) = Look::at(rest, PARAMETER) else { return Look::at(rest, PARAMETER) };
    let text = &rest[start..];
    let end = text.find(['>', '<', '\n']);
    let key = &text[..end.unwrap_or(text.len())];
    let whole = end.is_some_and(|end| text[end..].starts_with('>'));
    if key.len() > MAX_KEY_BYTES || whole && key.is_empty() || !admits(key, whole) {
        return Look::No;
    }
    match (whole, end) {
        (true, _) => Look::Yes(start + key.len() + 1),
        (false, None) => Look::Wait,
        (false, Some(_)) => Look::No,
    }
}

/// One call.
struct Function {
    tools: Arc<[Tool]>,
    tool: usize,
    /// The keys of the parameters so far.
    keys: Vec<String>,
    value: Option<Value>,
}

/// The value that is being read.
struct Value {
    types: Types,
    /// What was read and not passed on.
    text: String,
    /// The opening quote was passed on.
    streams: bool,
    /// This parameter came before; nothing is passed on.
    duplicate: bool,
    spot: Spot,
}

/// Where a value has come.
#[derive(PartialEq, Eq)]
enum Spot {
    /// Before its first character, and the line break that may come before that.
    Before,
    /// After that line break.
    Start,
    InLine,
    /// After a line break that is part of the value only if more follows.
    LineEnd,
}

impl Calls for Function {
    fn read(&mut self, rest: &str, ended: bool, answer: &mut Answer) -> Step {
        if let Some(value) = self.value.take() {
            return self.read_value(value, rest, ended, answer);
        }
        if let Some((tool, body)) =
            rest.strip_prefix(FUNCTION).and_then(|text| offered(&self.tools, text))
        {
            self.tool = tool;
            answer.start(&self.tools[tool].name);
            return Step::Read(rest.len() - body.len());
        }
        let start = blank(rest);
        let text = &rest[start..];
        match parameter(text, |_, _| true).settled(ended) {
            Look::Yes(len) => {
                let key = &text[PARAMETER.len()..len - 1];
                self.value = Some(self.open(key, answer));
                return Step::Read(start + len);
            }
            Look::Wait => return Step::Wait,
            Look::No => {}
        }
        let end = Look::at(text, FUNCTION_END);
        match end.or(Look::at(text, CLOSER)).settled(ended) {
            Look::Wait => return Step::Wait,
            Look::Yes(_) if end != Look::No => {}
            _ => answer.repair(Repair::UnclosedCall),
        }
        answer.arguments(if self.keys.is_empty() { "{}" } else { "}" });
        answer.end();
        match end {
            Look::Yes(len) => Step::Leave(start + len),
            _ if text.starts_with(CLOSER) => Step::Leave(start),
            _ => Step::Leave(rest.len()),
        }
    }
}

impl Function {
    fn open(&mut self, key: &str, answer: &mut Answer) -> Value {
        let duplicate = self.keys.iter().any(|known| known == key);
        if duplicate {
            answer.repair(Repair::Duplicate);
        } else {
            let comma = if self.keys.is_empty() { "{" } else { ", " };
            answer.arguments(&format!("{comma}{}: ", Json::from(key)));
            self.keys.push(key.into());
        }
        Value {
            types: Types::of_parameter(&self.tools[self.tool], key),
            text: String::new(),
            streams: false,
            duplicate,
            spot: Spot::Before,
        }
    }

    fn read_value(
        &mut self,
        mut value: Value,
        rest: &str,
        ended: bool,
        answer: &mut Answer,
    ) -> Step {
        let at = rest.find('<').unwrap_or(rest.len());
        let look = if at == 0 { self.ends(&value, rest, ended) } else { Look::No };
        if let Look::Yes(len) = look {
            if !rest.starts_with(PARAMETER_END) {
                answer.repair(Repair::UnclosedValue);
            }
            value.finish(answer);
            return Step::Read(len);
        }
        let step = if look == Look::Wait {
            Step::Wait
        } else {
            let len = at.max(1);
            value.put(&rest[..len], answer);
            Step::Read(len)
        };
        self.value = Some(value);
        step
    }

    /// Whether a value ends at this `<`, or at the end of the text.
    fn ends(&self, value: &Value, rest: &str, ended: bool) -> Look {
        if rest.is_empty() {
            return if ended { Look::Yes(0) } else { Look::Wait };
        }
        let end = match Look::at(rest, PARAMETER_END) {
            Look::Yes(len) => self.goes_on(value, &rest[len..], ended).after(len),
            look => look.settled(ended),
        };
        if end != Look::No || value.spot == Spot::InLine {
            return end;
        }
        let next = parameter(rest, |key, whole| self.may_come(key, whole));
        let closed = [FUNCTION_END, CLOSER].into_iter().fold(Look::No, |look, closer| {
            look.or(match Look::at(rest, closer) {
                Look::Yes(len) => match rest[len..].trim_ascii_start() {
                    "" if ended => Look::Yes(0),
                    text => Look::at(text, CLOSER).or(Look::at(text, OPENER)),
                },
                look => look,
            })
        });
        match next.or(closed).settled(ended) {
            Look::Yes(_) => Look::Yes(0),
            look => look,
        }
    }

    /// Whether `rest` is what follows a value. At the end a part of it will do.
    fn goes_on(&self, value: &Value, rest: &str, ended: bool) -> Look {
        let text = rest.trim_ascii_start();
        let open = !is_closed(&self.tools[self.tool]);
        let next = parameter(text, |key, whole| {
            let unused = !(whole && self.keys.iter().any(|known| known == key));
            !value.types.has(Types::STRING) || open && unused || self.may_come(key, whole)
        });
        match next.or(Look::at(text, FUNCTION_END)).or(Look::at(text, CLOSER)) {
            Look::Wait if !ended => Look::Wait,
            Look::No => Look::No,
            _ => Look::Yes(0),
        }
    }

    /// Whether this is, or begins, the key of a declared parameter that has not come yet.
    fn may_come(&self, key: &str, whole: bool) -> bool {
        let fits = |known: &String| {
            (if whole { known == key } else { known.starts_with(key) })
                && !self.keys.contains(known)
        };
        properties(&self.tools[self.tool]).is_some_and(|known| known.keys().any(fits))
    }
}

impl Value {
    fn put(&mut self, text: &str, answer: &mut Answer) {
        let before = self.spot == Spot::Before;
        let body = if before { text.strip_prefix('\n').unwrap_or(text) } else { text };
        if body.is_empty() {
            self.spot = Spot::Start;
            return;
        }
        if self.spot == Spot::LineEnd {
            self.text.push('\n');
        }
        let solid = body.strip_suffix('\n');
        self.spot = if solid.is_some() { Spot::LineEnd } else { Spot::InLine };
        self.text.push_str(solid.unwrap_or(body));
        let is_null = self.types.has(Types::NULL) && self.text.len() <= NULL_BYTES;
        if self.streams || self.types.are_text() && !is_null {
            self.stream(answer);
        }
    }

    fn stream(&mut self, answer: &mut Answer) {
        let json = Json::from(std::mem::take(&mut self.text)).to_string();
        if !self.duplicate {
            answer.arguments(&json[usize::from(self.streams)..json.len() - 1]);
        }
        self.streams = true;
    }

    fn finish(self, answer: &mut Answer) {
        if self.duplicate {
            return;
        }
        if self.streams {
            return answer.arguments("\"");
        }
        let (json, reading) = convert(&self.text, self.types);
        match reading {
            Reading::Plain => {}
            Reading::Respelled => answer.repair(Repair::Respelled),
            Reading::Mistyped => answer.repair(Repair::Mistyped),
        }
        answer.arguments(&json);
    }
}
