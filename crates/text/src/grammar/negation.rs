//! Negation: the schema of all that a schema refuses, where that can be said without `not`.
//!
//! Several keywords are refused when one of them is (De Morgan), and each keyword speaks of one
//! type: what it refuses is of that type.

use serde_json::{Map, Value, json};

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];
const MAX_NESTING: usize = 16;

/// Keywords whose meaning depends on their neighbours, or whose negation cannot be said.
const OPAQUE: [&str; 24] = [
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "additionalItems",
    "additionalProperties",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "extends",
    "format",
    "if",
    "items",
    "maxContains",
    "minContains",
    "multipleOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// The negation of `schema`; none where it cannot be said.
pub(super) fn negated(schema: &Value, depth: usize) -> Option<Value> {
    if depth > MAX_NESTING {
        return None;
    }
    let words = match schema {
        Value::Bool(any) => return Some(Value::Bool(!any)),
        Value::Object(words) => words,
        _ => return None,
    };
    let mut any = Vec::new();
    for (word, value) in words {
        match keyword(word, value, depth)? {
            Value::Bool(false) => {}
            negated => any.push(negated),
        }
    }
    Some(match any.len() {
        0 => Value::Bool(false),
        1 => any.swap_remove(0),
        _ => json!({ "anyOf": any }),
    })
}

fn keyword(word: &str, value: &Value, depth: usize) -> Option<Value> {
    let of = |kind: &str, word: &str, value: Value| {
        let mut words = Map::from_iter([("type".to_string(), kind.into())]);
        words.insert(word.into(), value);
        Some(Value::Object(words))
    };
    let more = || Some(json!(value.as_u64()? + 1));
    let less = |kind: &str, word: &str| match value.as_u64()? {
        0 => Some(Value::Bool(false)),
        least => of(kind, word, json!(least - 1)),
    };
    let each = |negation: &dyn Fn(&Value) -> Option<Value>| {
        value.as_array()?.iter().map(negation).collect::<Option<Vec<_>>>()
    };
    match word {
        _ if OPAQUE.contains(&word) => None,
        "uniqueItems" => (value == &Value::Bool(false)).then_some(Value::Bool(false)),
        "not" => Some(value.clone()),
        "type" => other_types(value),
        "const" => other_values(std::slice::from_ref(value)),
        "enum" => other_values(value.as_array()?),
        "anyOf" => Some(json!({ "allOf": each(&|part| negated(part, depth + 1))? })),
        "allOf" => Some(json!({ "anyOf": each(&|part| negated(part, depth + 1))? })),
        "oneOf" => match value.as_array()?.as_slice() {
            [only] => negated(only, depth + 1),
            _ => None,
        },
        "required" => {
            let absent = |name: &Value| {
                let name = name.as_str()?;
                Some(json!({ "type": "object", "properties": { name: false } }))
            };
            Some(json!({ "anyOf": each(&absent)? }))
        }
        "properties" => {
            let mut any = Vec::new();
            for (name, part) in value.as_object()? {
                let refused = negated(part, depth + 1)?;
                any.push(json!({
                    "type": "object", "properties": { name: refused }, "required": [name]
                }));
            }
            Some(json!({ "anyOf": any }))
        }
        "minimum" => of("number", "exclusiveMaximum", value.clone()),
        "maximum" => of("number", "exclusiveMinimum", value.clone()),
        "exclusiveMinimum" if value.is_number() => of("number", "maximum", value.clone()),
        "exclusiveMaximum" if value.is_number() => of("number", "minimum", value.clone()),
        "exclusiveMinimum" | "exclusiveMaximum" => None,
        "minLength" => less("string", "maxLength"),
        "maxLength" => of("string", "minLength", more()?),
        "minItems" => less("array", "maxItems"),
        "maxItems" => of("array", "minItems", more()?),
        "minProperties" => less("object", "maxProperties"),
        "maxProperties" => of("object", "minProperties", more()?),
        _ => Some(Value::Bool(false)),
    }
}

/// All types but these. That a number is not an integer cannot be said.
fn other_types(value: &Value) -> Option<Value> {
    let one = [value.clone()];
    let types = value.as_array().map_or(&one[..], Vec::as_slice);
    let has = |name: &str| types.iter().any(|kind| kind == name);
    if has("integer") && !has("number") {
        return None;
    }
    let others: Vec<_> = TYPES.into_iter().filter(|name| !has(name)).collect();
    Some(if others.is_empty() { Value::Bool(false) } else { json!({ "type": others }) })
}

/// All but these values, of which only literals and numbers can be left out.
fn other_values(values: &[Value]) -> Option<Value> {
    let mut all = Vec::new();
    for value in values {
        all.push(match value {
            Value::Null => json!({ "type": ["boolean", "number", "string", "array", "object"] }),
            Value::Bool(found) => json!({ "anyOf": [
                { "type": ["null", "number", "string", "array", "object"] }, { "const": !found },
            ] }),
            Value::Number(_) => json!({ "anyOf": [
                { "type": ["null", "boolean", "string", "array", "object"] },
                { "type": "number", "exclusiveMaximum": value },
                { "type": "number", "exclusiveMinimum": value },
            ] }),
            _ => return None,
        });
    }
    Some(json!({ "allOf": all }))
}
