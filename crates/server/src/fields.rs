//! Fields: a JSON object read name by name, so that a fault names its field and what nobody asked
//! for is known. `null` is absence, as clients send it.

use std::ops::RangeInclusive;

use qwire_engine::TokenId;
use serde_json::{Map, Value};

use crate::answer::Ignored;
use crate::app::Settings;
use crate::fault::Fault;

/// An object being read.
#[derive(Debug)]
pub struct Fields {
    /// Where the object stands: empty, or `messages[2].`
    path: String,
    object: Map<String, Value>,
    asked: Vec<&'static str>,
    /// Names in objects inside that nobody asked for.
    inside: Vec<String>,
}

impl Fields {
    /// The body of a request.
    pub fn of_body(bytes: &[u8]) -> Result<Self, Fault> {
        let value = serde_json::from_slice(bytes).map_err(|error| {
            Fault::request(format!("the body is not JSON: {error}")).code("invalid_json")
        })?;
        match value {
            Value::Object(object) => Ok(Self::new(String::new(), object)),
            other => {
                Err(Fault::request(format!("the body is {}: accepted is an object", kind(&other))))
            }
        }
    }

    /// An object inside of another.
    pub fn of(value: Value, path: &str) -> Result<Self, Fault> {
        match value {
            Value::Object(object) => Ok(Self::new(format!("{path}."), object)),
            other => Err(wrong(path, &other, "an object")),
        }
    }

    fn new(path: String, object: Map<String, Value>) -> Self {
        Self { path, object, asked: Vec::new(), inside: Vec::new() }
    }

    /// The full name of a field.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Whether there is anything.
    pub fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whatever is there.
    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        // The rest keeps its order, in which it will be named.
        self.object.shift_remove(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub fn required(&mut self, name: &'static str) -> Result<Value, Fault> {
        self.take(name).ok_or_else(|| Fault::field(self.path(name), "is required"))
    }

    /// A string.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, Fault> {
        let path = self.path(name);
        self.take(name).map(|value| text(value, &path)).transpose()
    }

    /// A string among these.
    pub fn word(&mut self, name: &'static str, words: &[&str]) -> Result<Option<String>, Fault> {
        let found = self.text(name)?;
        match &found {
            Some(word) if !words.contains(&word.as_str()) => {
                let accepted = words.join("`, `");
                let shown = excerpt(word);
                Err(self.fault(name, format!("is `{shown}`: accepted is `{accepted}`")))
            }
            _ => Ok(found),
        }
    }

    /// A boolean.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(&self.path(name), &other, "true or false")),
        }
    }

    /// A number in a range.
    pub fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong(&self.path(name), &value, "a number"))?;
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let (start, end) = (range.start(), range.end());
        Err(self.fault(name, format!("is {value}: accepted is {start} to {end}")))
    }

    /// A whole number in a range; `4.0` is one.
    pub fn count(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let float = |value: &Value| {
            value.as_f64().filter(|v| v.fract() == 0.0 && (0.0..1e15).contains(v)).map(|v| v as u64)
        };
        let number = value.as_u64().or_else(|| float(&value));
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Ok(Some(number));
        }
        if !value.is_number() {
            return Err(wrong(&self.path(name), &value, "a whole number"));
        }
        let accepted = match (range.start(), range.end()) {
            (start, &u64::MAX) => format!("a whole number from {start}"),
            (start, end) => format!("a whole number from {start} to {end}"),
        };
        Err(self.fault(name, format!("is {value}: accepted is {accepted}")))
    }

    /// A list.
    pub fn list(&mut self, name: &'static str) -> Result<Option<Vec<Value>>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(wrong(&self.path(name), &other, "a list")),
        }
    }

    /// An object.
    pub fn object(&mut self, name: &'static str) -> Result<Option<Self>, Fault> {
        let path = self.path(name);
        self.take(name).map(|value| Self::of(value, &path)).transpose()
    }

    /// Fields that are accepted and change nothing.
    pub fn without_effect(&mut self, names: &[&'static str]) {
        names.iter().for_each(|name| drop(self.take(name)));
    }

    /// A field whose every value but these is refused.
    pub fn only(&mut self, name: &'static str, neutral: &[Value]) -> Result<(), Fault> {
        match self.take(name) {
            Some(value) if !neutral.contains(&value) => {
                Err(self.fault(name, "is not supported by this server"))
            }
            _ => Ok(()),
        }
    }

    /// A fault of a field.
    pub fn fault(&self, name: &str, message: impl std::fmt::Display) -> Fault {
        Fault::field(self.path(name), message)
    }

    /// The names that were asked for.
    pub fn asked(&self) -> &[&'static str] {
        &self.asked
    }

    /// An object inside has been read: what nobody asked for in it counts here.
    pub fn close(&mut self, inner: &Self) {
        self.inside.extend(inner.rest());
    }

    /// The names that nobody asked for.
    pub fn rest(&self) -> impl Iterator<Item = String> {
        self.object.keys().map(|name| self.path(name)).chain(self.inside.iter().cloned())
    }

    /// Everything has been read: the answer names what nobody asked for, unless that is refused.
    pub fn finish(self, settings: &Settings) -> Result<Ignored, Fault> {
        match self.rest().next() {
            Some(name) if settings.strict_fields => {
                Err(Fault::field(excerpt(&name), "is not known here").code("unknown_parameter"))
            }
            _ => Ok(Ignored(self.rest().collect())),
        }
    }
}

/// Token ids, or the fault of the first item that is none.
pub fn ids(items: &[Value], path: &str, vocab: usize) -> Result<Vec<TokenId>, Fault> {
    let id = |(at, item): (usize, &Value)| {
        let known = item.as_u64().filter(|id| *id < vocab as u64);
        known.map(|id| TokenId(id as u32)).ok_or_else(|| {
            let found = if item.is_number() { item.to_string() } else { kind(item).into() };
            let accepted = format!("accepted are ids of tokens below {vocab}");
            Fault::field(format!("{path}[{at}]"), format!("is {found}: {accepted}"))
        })
    };
    items.iter().enumerate().map(id).collect()
}

/// A string, or the fault of its field.
pub fn text(value: Value, path: &str) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(path, &other, "a string")),
    }
}

/// A value of the wrong type.
pub fn wrong(path: &str, found: &Value, accepted: &str) -> Fault {
    Fault::field(path, format!("is {}: accepted is {accepted}", kind(found)))
}

/// As much of a client's text as a message repeats.
pub fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::of_body(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_fault_names_its_field() {
        let fault = |fault: Fault| (fault.param.unwrap_or_default(), fault.message);
        let mut body = fields(r#"{"t":3,"n":1.5,"m":4.0,"s":1,"o":{"w":"x"},"null":null,"z":1}"#);
        assert_eq!(
            fault(body.number("t", 0.0..=2.0).unwrap_err()),
            ("t".into(), "`t` is 3: accepted is 0 to 2".into())
        );
        assert!(body.count("n", 1..=9).unwrap_err().message.contains("is 1.5"));
        assert_eq!(body.count("m", 1..=9).unwrap(), Some(4));
        assert!(body.text("s").unwrap_err().message.contains("is a number: accepted is a string"));
        let mut inner = body.object("o").unwrap().unwrap();
        assert_eq!(fault(inner.word("w", &["a", "b"]).unwrap_err()).0, "o.w");
        assert_eq!(body.flag("null").unwrap(), None);
        assert_eq!(body.rest().collect::<Vec<_>>(), ["z"]);
    }

    #[test]
    fn what_nobody_asked_for_is_named_or_refused() {
        let read = |strict_fields| {
            let mut body = fields(r#"{"a":1,"b":{"c":1,"d":2},"e":null}"#);
            let mut inner = body.object("b").unwrap().unwrap();
            inner.without_effect(&["c"]);
            body.close(&inner);
            body.finish(&Settings { strict_fields, ..Settings::default() })
        };
        assert_eq!(read(false).unwrap().0, ["a", "e", "b.d"]);
        let fault = read(true).unwrap_err();
        assert_eq!((fault.param.as_deref(), fault.status.as_u16()), (Some("a"), 400));
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        let deep = format!("{}1{}", "[".repeat(3000), "]".repeat(3000));
        for text in ["", "{", "[]", "NaN", r#"{"a":1e400}"#, r#"{"a":NaN}"#, &deep, "\"\u{1}\""] {
            assert_eq!(Fields::of_body(text.as_bytes()).unwrap_err().status, 400, "{text:.20}");
        }
        assert!(Fields::of_body(b"{\"a\":\"\xff\"}").is_err());
    }
}
