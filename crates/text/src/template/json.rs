//! JSON: `tojson` as Transformers defines it, which is `json.dumps` of Python.
//!
//! No HTML escapes, separators with a space, the order of the request, `é` as it is.

use std::fmt::Write;

use minijinja::value::{DynObject, Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::guard::is_mark;
use super::python::{Bounded, too_long, write_number};

const MAX_DEPTH: usize = 128;

/// How to write; the defaults are those of Transformers.
struct Layout {
    indent: Option<String>,
    separators: [String; 2], // between items, after a key
    ascii: bool,
    sort_keys: bool,
}

/// `value | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, of at
/// most `max` bytes.
pub(super) fn dumps(
    value: &Value,
    positional: &[Value],
    named: &Kwargs,
    max: usize,
) -> Result<String, Error> {
    let argument = |at: usize, name: &str| {
        let named = named.get::<Option<Value>>(name)?;
        Ok::<_, Error>(named.or_else(|| positional.get(at).cloned()).filter(|v| !v.is_none()))
    };
    let ascii = argument(0, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = argument(1, "indent")?.map(indent).transpose()?;
    let separators = match argument(2, "separators")? {
        None => [if indent.is_some() { "," } else { ", " }.into(), ": ".into()],
        Some(pair) => {
            let texts: Vec<String> = pair.try_iter()?.map(|text| text.to_string()).collect();
            texts.try_into().map_err(|_| invalid("tojson: separators takes two texts".into()))?
        }
    };
    let sort_keys = argument(3, "sort_keys")?.is_some_and(|value| value.is_true());
    named.assert_all_used()?;
    let layout = Layout { indent, separators, ascii, sort_keys };
    let mut out = Bounded { text: String::new(), max };
    write_value(&mut out, value, &layout, 0)?;
    Ok(out.text)
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// `indent`: a number of spaces, or the text itself.
fn indent(value: Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    let width = i64::try_from(value)?.clamp(0, 64);
    Ok(" ".repeat(width as usize))
}

fn write_value(
    out: &mut Bounded,
    value: &Value,
    layout: &Layout,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid(format!("tojson: nested deeper than {MAX_DEPTH}")));
    }
    match value.kind() {
        ValueKind::None => push(out, "null"),
        ValueKind::Bool => push(out, if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            let mut number = String::new();
            let _ = write_number(&mut number, value); // a String takes everything
            push(
                out,
                match number.as_str() {
                    "nan" => "NaN",
                    "inf" => "Infinity",
                    "-inf" => "-Infinity",
                    _ => &number,
                },
            )
        }
        ValueKind::String => write_text(out, value.as_str().unwrap_or_default(), layout),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = value.try_iter()?.peekable();
            let empty = items.peek().is_none();
            push(out, "[")?;
            for (at, item) in items.enumerate() {
                begin(out, at, layout, depth + 1)?;
                write_value(out, &item, layout, depth + 1)?;
            }
            end(out, empty, "]", layout, depth)
        }
        ValueKind::Map => {
            let pairs = value.as_object().and_then(DynObject::try_iter_pairs);
            let mut pairs: Vec<_> = pairs.into_iter().flatten().collect();
            if layout.sort_keys {
                pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            push(out, "{")?;
            for (at, (key, value)) in pairs.iter().enumerate() {
                begin(out, at, layout, depth + 1)?;
                write_key(out, key, layout)?;
                push(out, &layout.separators[1])?;
                write_value(out, value, layout, depth + 1)?;
            }
            end(out, pairs.is_empty(), "}", layout, depth)
        }
        kind => Err(invalid(format!("tojson: {kind} is not JSON"))),
    }
}

/// Keys are texts; numbers, booleans and none become one.
fn write_key(out: &mut Bounded, key: &Value, layout: &Layout) -> Result<(), Error> {
    match key.kind() {
        ValueKind::String => write_text(out, key.as_str().unwrap_or_default(), layout),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            push(out, "\"")?;
            write_value(out, key, layout, 0)?;
            push(out, "\"")
        }
        kind => Err(invalid(format!("tojson: {kind} is not a key"))),
    }
}

fn begin(out: &mut Bounded, at: usize, layout: &Layout, depth: usize) -> Result<(), Error> {
    if at > 0 {
        push(out, &layout.separators[0])?;
    }
    line(out, layout, depth)
}

fn end(
    out: &mut Bounded,
    empty: bool,
    bracket: &str,
    layout: &Layout,
    depth: usize,
) -> Result<(), Error> {
    if !empty {
        line(out, layout, depth)?;
    }
    push(out, bracket)
}

fn line(out: &mut Bounded, layout: &Layout, depth: usize) -> Result<(), Error> {
    let Some(indent) = &layout.indent else { return Ok(()) };
    push(out, "\n")?;
    (0..depth).try_for_each(|_| push(out, indent))
}

fn write_text(out: &mut Bounded, text: &str, layout: &Layout) -> Result<(), Error> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            _ if c < ' ' || (layout.ascii && c > '~' && !is_mark(c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(quoted, "\\u{unit:04x}"); // a String takes everything
                }
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    push(out, &quoted)
}

fn push(out: &mut Bounded, text: &str) -> Result<(), Error> {
    out.write_str(text).map_err(|_| too_long(out.max))
}

#[cfg(test)]
mod tests {
    use super::super::python::value_of;
    use super::*;
    use serde_json::json;

    fn named(pairs: &[(&str, Value)]) -> Kwargs {
        pairs.iter().map(|(name, value)| (*name, value.clone())).collect()
    }

    #[track_caller]
    fn check(json: &serde_json::Value, options: &[(&str, Value)], expected: &str) {
        let found = dumps(&value_of(json), &[], &named(options), 1000);
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn dumps_is_pythons() {
        let value =
            json!({"b<&'>": [1, 2.0, 1e100, null], "a": {}, "é": [], "c": "\u{7f}\u{1}/\""});
        check(
            &value,
            &[],
            "{\"b<&'>\": [1, 2.0, 1e+100, null], \"a\": {}, \"é\": [], \
             \"c\": \"\u{7f}\\u0001/\\\"\"}",
        );
        check(
            &json!(["é😀\u{7f}"]),
            &[("ensure_ascii", true.into())],
            r#"["\u00e9\ud83d\ude00\u007f"]"#,
        );
        check(
            &json!({"b": [1, 2], "a": {}}),
            &[("indent", 2.into()), ("sort_keys", true.into())],
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    2\n  ]\n}",
        );
        check(&json!([1, {"a": 2}]), &[("separators", vec![",", ":"].into())], r#"[1,{"a":2}]"#);
        assert!(dumps(&Value::UNDEFINED, &[], &named(&[]), 9).is_err());
        assert!(dumps(&Value::from("0123456789"), &[], &named(&[]), 9).is_err());
    }
}
