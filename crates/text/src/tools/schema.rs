//! Schema: what a JSON schema says about the type of a value, and a text as a value of that type.
//!
//! Only the types matter here: whether a value is valid beyond that is for who executes the call.

use serde_json::Value;

use super::Tool;
use super::python;

/// References within references.
const MAX_DEPTH: usize = 16;
/// Floats up to here are integers without loss.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A set of JSON types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOL: Self = Self(2);
    pub(super) const INTEGER: Self = Self(4);
    pub(super) const NUMBER: Self = Self(8);
    pub(super) const ARRAY: Self = Self(16);
    pub(super) const OBJECT: Self = Self(32);
    pub(super) const STRING: Self = Self(64);

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn all(types: impl Iterator<Item = Self>) -> Self {
        types.fold(Self::NONE, Self::and)
    }

    /// The types of a parameter: text where the schema knows nothing of it.
    pub(super) fn of_parameter(tool: &Tool, name: &str) -> Self {
        match properties(tool).and_then(|known| known.get(name)) {
            None => Self::STRING,
            Some(schema) => match Self::of(schema, &tool.parameters, 0) {
                Self::NONE => Self::STRING.and(Self::NULL),
                types => types,
            },
        }
    }

    fn of(schema: &Value, root: &Value, depth: usize) -> Self {
        let inner = |schema: &Value| Self::of(schema, root, depth + 1);
        let each = |key: &str| schema.get(key)?.as_array().map(|all| all.iter());
        if depth > MAX_DEPTH {
            return Self::NONE;
        }
        let types = if let Some(name) = schema.get("type") {
            match name.as_array() {
                Some(names) => Self::all(names.iter().map(Self::named)),
                None => Self::named(name),
            }
        } else if let Some(values) = each("enum") {
            Self::all(values.map(Self::of_value))
        } else if let Some(value) = schema.get("const") {
            Self::of_value(value)
        } else if let Some(either) = each("anyOf").or_else(|| each("oneOf")) {
            Self::all(either.map(inner))
        } else if let Some(mut all) = each("allOf") {
            all.find_map(|one| Some(inner(one)).filter(|types| *types != Self::NONE))
                .unwrap_or(Self::NONE)
        } else if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let target = path.strip_prefix('#').and_then(|path| root.pointer(path));
            target.map_or(Self::NONE, inner)
        } else if schema.get("properties").is_some() {
            Self::OBJECT
        } else if schema.get("items").is_some() {
            Self::ARRAY
        } else {
            Self::NONE
        };
        let nullable = schema.get("nullable") == Some(&Value::Bool(true));
        if nullable { types.and(Self::NULL) } else { types }
    }

    /// The type of this name; those of other languages are met in the wild.
    fn named(name: &Value) -> Self {
        match name.as_str().unwrap_or_default() {
            "null" => Self::NULL,
            "boolean" | "bool" => Self::BOOL,
            "integer" | "int" => Self::INTEGER,
            "number" | "num" | "float" | "double" => Self::NUMBER,
            "array" | "arr" | "list" => Self::ARRAY,
            "object" | "dict" => Self::OBJECT,
            "" => Self::NONE,
            _ => Self::STRING,
        }
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOL,
            Value::Number(number) if number.is_f64() => Self::NUMBER,
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// Whether a value is text, or null at most.
    pub(super) fn are_text(self) -> bool {
        self.has(Self::STRING) && self.and(Self::NULL) == Self::STRING.and(Self::NULL)
    }
}

/// The parameters that a tool declares.
pub(super) fn properties(tool: &Tool) -> Option<&serde_json::Map<String, Value>> {
    tool.parameters.get("properties")?.as_object()
}

/// Whether a tool declares all of its parameters: it says so, or it declares some and says nothing.
pub(super) fn is_closed(tool: &Tool) -> bool {
    match tool.parameters.get("additionalProperties") {
        Some(more) => *more == Value::Bool(false),
        None => properties(tool).is_some_and(|known| !known.is_empty()),
    }
}

/// How a text became JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Plain,
    Respelled,
    Mistyped,
}

impl Reading {
    fn of(same: bool) -> Self {
        if same { Self::Plain } else { Self::Respelled }
    }
}

/// A text as JSON of the first of these types that it fits, in the order null, boolean, integer,
/// number, array, object, text; as text where it fits none.
pub(super) fn convert(text: &str, types: Types) -> (String, Reading) {
    let plain = |json: &str| (json.to_owned(), Reading::Plain);
    let word = text.trim_ascii();
    let is_null = word.eq_ignore_ascii_case("null") || word == "None";
    if is_null && (types.has(Types::NULL) || !types.has(Types::STRING)) {
        return ("null".into(), if word == "null" { Reading::Plain } else { Reading::Respelled });
    }
    if types.has(Types::BOOL)
        && let Some(bool) = ["true", "false"].into_iter().find(|b| word.eq_ignore_ascii_case(b))
    {
        return (bool.into(), Reading::of(word == bool));
    }
    if types.has(Types::INTEGER.and(Types::NUMBER))
        && let Some(number) = number(word, types.has(Types::NUMBER))
    {
        let reading = Reading::of(number == word);
        return (number, reading);
    }
    if types.has(Types::ARRAY.and(Types::OBJECT)) {
        let fits = |value: &Value| types.has(Types::of_value(value));
        match serde_json::from_str::<Value>(word) {
            Ok(value) if fits(&value) || !types.has(Types::STRING) => return plain(word),
            _ => {}
        }
        if let Some(value) = python::literal(word).filter(fits) {
            return (value.to_string(), Reading::Respelled);
        }
    }
    let reading = if types.has(Types::STRING) { Reading::Plain } else { Reading::Mistyped };
    (Value::from(text).to_string(), reading)
}

/// A number as JSON writes it; an integer without its point.
fn number(word: &str, fraction: bool) -> Option<String> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let is_json = serde_json::from_str::<serde_json::Number>(word).is_ok();
    if is_json && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(word.into());
    }
    let value: f64 = word.parse().ok()?;
    if value.fract() == 0.0 && value.abs() <= MAX_EXACT {
        Some((value as i64).to_string())
    } else if !fraction || !value.is_finite() {
        None
    } else if is_json {
        Some(word.into())
    } else {
        serde_json::Number::from_f64(value).map(|number| number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(schema: &Value, rows: &[(&str, &str, Reading)]) {
        let parameters =
            json!({"properties": {"p": schema}, "$defs": {"mode": {"enum": ["a", 1]}}});
        let tool = Tool { name: "t".into(), parameters };
        let types = Types::of_parameter(&tool, "p");
        for (text, json, reading) in rows {
            assert_eq!(convert(text, types), ((*json).into(), *reading), "{schema}: {text:?}");
            serde_json::from_str::<Value>(json).unwrap();
        }
    }

    #[test]
    fn text_becomes_what_its_schema_says() {
        use Reading::{Mistyped, Plain, Respelled};
        check(
            &json!({"type": "string"}),
            &[
                ("a \"b\"\n", r#""a \"b\"\n""#, Plain),
                ("null", "\"null\"", Plain),
                ("5", "\"5\"", Plain),
                ("None", "\"None\"", Plain),
                ("", "\"\"", Plain),
            ],
        );
        check(
            &json!({"type": "integer"}),
            &[
                ("72", "72", Plain),
                (" -7 ", "-7", Plain),
                ("72.0000", "72", Respelled),
                ("+5", "5", Respelled),
                ("007", "7", Respelled),
                ("1e3", "1000", Respelled),
                ("99999999999999999999", "99999999999999999999", Plain),
                ("7.5", "\"7.5\"", Mistyped),
                ("a few", "\"a few\"", Mistyped),
                ("NULL", "null", Respelled),
                ("inf", "\"inf\"", Mistyped),
                ("", "\"\"", Mistyped),
            ],
        );
        check(
            &json!({"type": "number"}),
            &[
                ("1.5", "1.5", Plain),
                ("5.0", "5", Respelled),
                (".5", "0.5", Respelled),
                ("-1.25e-3", "-1.25e-3", Plain),
                ("nan", "\"nan\"", Mistyped),
                ("1e999", "\"1e999\"", Mistyped),
            ],
        );
        check(
            &json!({"type": "boolean"}),
            &[("true", "true", Plain), ("False", "false", Respelled), ("yes", "\"yes\"", Mistyped)],
        );
        check(
            &json!({"type": "array"}),
            &[
                ("[1, \"a\"]", "[1, \"a\"]", Plain),
                ("[1.50]", "[1.50]", Plain),
                ("['a', True, None,]", r#"["a",true,null]"#, Respelled),
                ("('a',)", r#"["a"]"#, Respelled),
                ("a, b", "\"a, b\"", Mistyped),
                ("None", "null", Respelled),
            ],
        );
        check(
            &json!({"type": "object"}),
            &[
                ("{\"b\": 1, \"a\": {}}", "{\"b\": 1, \"a\": {}}", Plain),
                ("{'it\\'s': \"a'b\"}", r#"{"it's":"a'b"}"#, Respelled),
                ("{", "\"{\"", Mistyped),
            ],
        );
    }

    #[test]
    fn unions_take_the_first_type_that_fits() {
        use Reading::{Mistyped, Plain, Respelled};
        let rows = [("null", "null", Plain), ("None", "null", Respelled), ("x", "\"x\"", Plain)];
        check(&json!({"type": ["string", "null"]}), &rows);
        check(&json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), &rows);
        check(&json!({"type": "string", "nullable": true}), &rows);
        check(&json!({"description": "anything"}), &rows);
        let rows = [("5", "5", Plain), ("5x", "\"5x\"", Plain), ("[5]", "\"[5]\"", Plain)];
        check(&json!({"oneOf": [{"type": "integer"}, {"type": "string"}]}), &rows);
        check(&json!({"$ref": "#/$defs/mode"}), &rows);
        check(&json!({"allOf": [{"title": "x"}, {"$ref": "#/$defs/mode"}]}), &rows);
        check(&json!({"enum": [1, "a"]}), &rows);
        let rows = [("[1]", "[1]", Plain), ("{\"a\": 1}", "\"{\\\"a\\\": 1}\"", Plain)];
        check(&json!({"anyOf": [{"items": {}}, {"type": "string"}]}), &rows);
        check(&json!({"const": 1.5}), &[("1.5", "1.5", Plain), ("a", "\"a\"", Mistyped)]);
    }

    #[test]
    fn references_that_lead_in_circles_are_text() {
        let loops = json!({"$ref": "#/properties/p"});
        check(&loops, &[("1", "\"1\"", Reading::Plain)]);
        check(&json!({"$ref": "#/absent"}), &[("1", "\"1\"", Reading::Plain)]);
    }
}
