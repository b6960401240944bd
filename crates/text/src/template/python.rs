//! Python: values as Python writes them, since chat templates are written for Python.
//!
//! `str` of a list shows its items with `repr`, in single quotes; `True` and `None` are capital;
//! floats take an exponent from 1e16 on. Conversations enter templates as [`List`] and [`Dict`],
//! which write themselves that way wherever a template turns them into text.

use std::fmt::{self, Write};
use std::sync::Arc;

use indexmap::IndexMap;
use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::guard::is_mark;

/// Deeper values end in `...`, as those that contain themselves do in Python.
const MAX_DEPTH: usize = 64;

/// A template's view of a JSON value.
pub(super) fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(bool) => Value::from(*bool),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::from(int),
            (_, Some(int)) => Value::from(int),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => {
            Value::from_object(List(items.iter().map(value_of).collect()))
        }
        serde_json::Value::Object(pairs) => Value::from_object(Dict(
            pairs.iter().map(|(key, value)| (key.clone(), value_of(value))).collect(),
        )),
    }
}

/// A JSON array inside a template.
#[derive(Debug)]
struct List(Vec<Value>);

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_items(f, &mut self.0.iter().cloned(), ["[", "]"], 0)
    }
}

/// A JSON object inside a template, in the order of the request.
#[derive(Debug)]
struct Dict(IndexMap<String, Value>);

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(|key| Value::from(key.as_str())).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }

    /// A key never hides a method: `arguments.items()` works where a parameter is named `items`.
    fn call_method(self: &Arc<Self>, _: &mut State, _: &str, _: &[Value]) -> Result<Value, Error> {
        Err(Error::from(ErrorKind::UnknownMethod))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs =
            self.0.iter().map(|(key, value)| (Value::from(key.as_str()), value.clone()));
        write_pairs(f, &mut pairs, 0)
    }
}

/// `str(value)`, of at most `max` bytes.
pub(super) fn str(value: &Value, max: usize) -> Result<String, Error> {
    let mut out = Bounded { text: String::new(), max };
    let written = match value.as_str() {
        Some(text) => out.write_str(text),
        None if value.is_undefined() => Ok(()),
        None => write_repr(&mut out, value, 0),
    };
    written.map(|()| out.text).map_err(|_| too_long(max))
}

/// The error of a text that grows beyond its bound.
pub(super) fn too_long(max: usize) -> Error {
    let why = format!("a text of more than {max} bytes");
    Error::new(ErrorKind::InvalidOperation, why)
}

/// Text that refuses to grow beyond `max` bytes.
pub(super) struct Bounded {
    pub(super) text: String,
    pub(super) max: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > self.max {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

fn write_repr(out: &mut dyn Write, value: &Value, depth: usize) -> fmt::Result {
    match value.kind() {
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Undefined => out.write_str("Undefined"),
        ValueKind::Number => write_number(out, value),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map if depth > MAX_DEPTH => {
            out.write_str("...")
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let Ok(mut items) = value.try_iter() else { return write!(out, "{value}") };
            let tuple = value.downcast_object_ref::<Tuple>().is_some();
            let brackets = match (tuple, value.len()) {
                (false, _) => ["[", "]"],
                (true, Some(1)) => ["(", ",)"],
                (true, _) => ["(", ")"],
            };
            write_items(out, &mut items, brackets, depth)
        }
        ValueKind::Map => {
            let pairs = value.as_object().and_then(DynObject::try_iter_pairs);
            write_pairs(out, &mut pairs.into_iter().flatten(), depth)
        }
        _ => write!(out, "{value}"),
    }
}

fn write_items(
    out: &mut dyn Write,
    items: &mut dyn Iterator<Item = Value>,
    [open, close]: [&str; 2],
    depth: usize,
) -> fmt::Result {
    out.write_str(open)?;
    for (at, item) in items.enumerate() {
        out.write_str(if at == 0 { "" } else { ", " })?;
        write_repr(out, &item, depth + 1)?;
    }
    out.write_str(close)
}

fn write_pairs(
    out: &mut dyn Write,
    pairs: &mut dyn Iterator<Item = (Value, Value)>,
    depth: usize,
) -> fmt::Result {
    out.write_str("{")?;
    for (at, (key, value)) in pairs.enumerate() {
        out.write_str(if at == 0 { "" } else { ", " })?;
        write_repr(out, &key, depth + 1)?;
        out.write_str(": ")?;
        write_repr(out, &value, depth + 1)?;
    }
    out.write_str("}")
}

/// An integer, or a float as `repr` writes it: `1e+16`, `1.5e-07`, `100.0`.
pub(super) fn write_number(out: &mut dyn Write, value: &Value) -> fmt::Result {
    let float = match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float,
        _ => return write!(out, "{value}"),
    };
    if !float.is_finite() {
        return out.write_str(match float {
            f64::INFINITY => "inf",
            f64::NEG_INFINITY => "-inf",
            _ => "nan",
        });
    }
    let shortest = format!("{float:?}");
    match shortest.split_once('e') {
        None => out.write_str(&shortest),
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            write!(out, "{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// `repr` of a string: single quotes unless only double ones need no escape.
fn write_quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            _ if c == quote => write!(out, "\\{c}")?,
            _ if is_printable(c) || is_mark(c) => out.write_char(c)?,
            '\0'..='\u{ff}' => write!(out, "\\x{:02x}", u32::from(c))?,
            '\u{100}'..='\u{ffff}' => write!(out, "\\u{:04x}", u32::from(c))?,
            _ => write!(out, "\\U{:08x}", u32::from(c))?,
        }
    }
    out.write_char(quote)
}

fn is_printable(c: char) -> bool {
    let group = c.general_category_group();
    c == ' ' || !matches!(group, GeneralCategoryGroup::Other | GeneralCategoryGroup::Separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(json: &serde_json::Value, expected: &str) {
        let value = value_of(json);
        assert_eq!(str(&value, 1000).unwrap(), expected);
        if !value.is_number() {
            assert_eq!(value.to_string(), expected);
        }
    }

    #[test]
    fn str_is_pythons() {
        check(&json!("it's"), "it's");
        check(&json!(true), "True");
        check(&json!(null), "None");
        check(&json!([1, "a", [], null]), "[1, 'a', [], None]");
        check(&json!({"b": 1.0, "a": {"c": false}}), "{'b': 1.0, 'a': {'c': False}}");
        check(
            &json!(["it's", "\"", "'\"", "\n\t\\\u{1}\u{a0}\u{200b}é\u{e0001}"]),
            "[\"it's\", '\"', '\\'\"', '\\n\\t\\\\\\x01\\xa0\\u200bé\\U000e0001']",
        );
        check(
            &json!([1e16, 1e15, 1.5e-7, 0.0001, -0.0, 18446744073709551615_u64]),
            "[1e+16, 1000000000000000.0, 1.5e-07, 0.0001, -0.0, 18446744073709551615]",
        );
        assert_eq!(str(&Value::UNDEFINED, 9).unwrap(), "");
        assert!(str(&Value::from("0123456789"), 9).is_err());
    }
}
