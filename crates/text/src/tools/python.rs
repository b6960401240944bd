//! Python: literals as `repr` writes them, read as JSON values.
//!
//! Models that saw Python's spelling of lists and dicts in their prompt write it themselves. Words
//! and numbers of JSON are read as well, since both come mixed.

use serde_json::{Map, Number, Value};

const MAX_DEPTH: usize = 64;

/// The whole text as one literal.
pub(super) fn literal(text: &str) -> Option<Value> {
    let mut rest = text.trim_ascii();
    let value = value(&mut rest, 0)?;
    rest.is_empty().then_some(value)
}

fn value(rest: &mut &str, depth: usize) -> Option<Value> {
    let first = rest.chars().next().filter(|_| depth < MAX_DEPTH)?;
    match first {
        '[' => items(rest, "[", "]", depth).map(|(items, _)| Value::Array(items)),
        '(' => match items(rest, "(", ")", depth)? {
            (mut items, false) if items.len() == 1 => items.pop(),
            (items, _) => Some(Value::Array(items)),
        },
        '{' => pairs(rest, depth),
        '\'' | '"' => string(rest).map(Value::String),
        _ => {
            let end = rest.find(|c: char| ",:]})".contains(c) || c.is_ascii_whitespace());
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            *rest = after;
            match word {
                "None" | "null" => Some(Value::Null),
                "True" | "true" => Some(Value::Bool(true)),
                "False" | "false" => Some(Value::Bool(false)),
                _ => word.parse::<Number>().ok().map(Value::Number),
            }
        }
    }
}

/// A mark, and the blank around it.
fn mark(rest: &mut &str, mark: &str) -> bool {
    let after = rest.trim_ascii_start().strip_prefix(mark);
    *rest = after.map_or(*rest, str::trim_ascii_start);
    after.is_some()
}

/// The items of a list or tuple, and whether a comma ended them.
fn items(rest: &mut &str, open: &str, close: &str, depth: usize) -> Option<(Vec<Value>, bool)> {
    let (mut items, mut comma) = (Vec::new(), false);
    mark(rest, open);
    loop {
        if mark(rest, close) {
            return Some((items, comma));
        }
        if !items.is_empty() && !comma {
            return None;
        }
        items.push(value(rest, depth + 1)?);
        comma = mark(rest, ",");
    }
}

fn pairs(rest: &mut &str, depth: usize) -> Option<Value> {
    let (mut pairs, mut comma) = (Map::new(), true);
    mark(rest, "{");
    while !mark(rest, "}") {
        if !comma {
            return None;
        }
        let key = string(rest)?;
        if !mark(rest, ":") {
            return None;
        }
        pairs.insert(key, value(rest, depth + 1)?);
        comma = mark(rest, ",");
    }
    Some(Value::Object(pairs))
}

fn string(rest: &mut &str) -> Option<String> {
    let quote = rest.chars().next().filter(|c| "'\"".contains(*c))?;
    let mut text = String::new();
    let mut chars = rest[1..].chars();
    loop {
        match chars.next()? {
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'x' => text.push(code(&mut chars, 2)?),
                'u' => text.push(code(&mut chars, 4)?),
                'U' => text.push(code(&mut chars, 8)?),
                c if "\\'\"/".contains(c) => text.push(c),
                c => text.extend(['\\', c]),
            },
            c if c == quote => break,
            c => text.push(c),
        }
    }
    *rest = chars.as_str();
    Some(text)
}

fn code(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let (code, after) = chars.as_str().split_at_checked(digits)?;
    *chars = after.chars();
    char::from_u32(u32::from_str_radix(code, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_are_read() {
        let check = |text: &str, expected: Option<Value>| {
            assert_eq!(literal(text), expected, "{text}");
        };
        check(" {'a': [1, -2.5, None], \"b\": (True, false), } ", {
            Some(json!({"a": [1, -2.5, null], "b": [true, false]}))
        });
        check(r"['\x41é\u00e9\'\n\d', 'a\\b']", Some(json!(["Aéé'\n\\d", "a\\b"])));
        check("[]", Some(json!([])));
        check("{}", Some(json!({})));
        check("(1)", Some(json!(1)));
        check("(1,)", Some(json!([1])));
        for wrong in ["[1 2]", "[,]", "{'a'}", "{1: 2}", "['a", "[1]]", "f(x)", "", "['\\u12"] {
            check(wrong, None);
        }
        check(&"[".repeat(100_000), None);
    }
}
