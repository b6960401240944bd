//! Description: what `/openapi.json` says of a request and its answer, held against both.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};

/// The description.
pub static DESCRIPTION: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(qwire_server::admin::openapi::TEXT).expect("JSON"));

/// The entry of a path, whose last part may be a parameter.
pub fn path_of(path: &str) -> Option<&'static Value> {
    let paths = DESCRIPTION["paths"].as_object().expect("an object");
    let fits = |pattern: &str| match pattern.split_once('{') {
        Some((root, _)) => path.strip_prefix(root).is_some_and(|rest| !rest.is_empty()),
        None => pattern == path,
    };
    paths.iter().find(|(pattern, _)| fits(pattern)).map(|(_, entry)| entry)
}

/// What is wrong with the body of a request that was accepted, or with the body of an answer.
pub fn check(request: &str, sent: &str, status: u16, answered: &str) -> Result<(), String> {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let path = path.split('?').next().expect("a path");
    let Some(operation) = path_of(path).map(|entry| &entry[method.to_ascii_lowercase()]) else {
        return Ok(());
    };
    if operation.is_null() {
        return Ok(());
    }
    if let (200, Ok(body)) = (status, serde_json::from_str(sent)) {
        let content = &operation["requestBody"]["content"]["application/json"];
        fits(&content["schema"], &body).map_err(|why| format!("{request} {sent}: {why}"))?;
    }
    let response = resolved(&operation["responses"][status.to_string()]);
    if response.is_null() {
        return Err(format!("{request} answers {status}, which is not described"));
    }
    let Ok(body) = serde_json::from_str(answered) else { return Ok(()) };
    let schema = &response["content"]["application/json"]["schema"];
    fits(schema, &body).map_err(|why| format!("{request} {status} {body}: {why}"))
}

/// What a reference points at.
pub fn resolved(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str().and_then(|at| at.strip_prefix('#')) {
        Some(at) => resolved(DESCRIPTION.pointer(at).unwrap_or_else(|| panic!("{at} is absent"))),
        None => schema,
    }
}

/// The names of a schema's properties, and those that must be there.
pub fn names(schema: &'static Value) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let schema = resolved(schema);
    let texts =
        |list: &'static Value| list.as_array().into_iter().flatten().filter_map(Value::as_str);
    let properties = schema["properties"].as_object().into_iter().flat_map(Map::keys);
    let mut found: (BTreeSet<_>, BTreeSet<_>) =
        (properties.map(String::as_str).collect(), texts(&schema["required"]).collect());
    for name in ["allOf", "oneOf"] {
        for part in schema[name].as_array().into_iter().flatten() {
            let (properties, required) = names(part);
            found.0.extend(properties);
            // What one of several forms needs is not needed by all.
            found.1.extend(required.into_iter().filter(|_| name == "allOf"));
        }
    }
    found
}

/// Whether a value is what a schema says, as far as this description uses JSON Schema.
pub fn fits(schema: &'static Value, value: &Value) -> Result<(), String> {
    let schema = resolved(schema);
    let wrong = |what: &str| Err(format!("{value:.200} is not {what} {schema:.200}"));
    let list = |name: &str| schema[name].as_array();
    let kind = |kind: &Value| match kind.as_str().expect("a type") {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    match &schema["type"] {
        Value::Null => {}
        Value::Array(kinds) if kinds.iter().any(kind) => {}
        one @ Value::String(_) if kind(one) => {}
        _ => return wrong("of the type of"),
    }
    if *schema == Value::Bool(false) || schema.get("const").is_some_and(|only| only != value) {
        return wrong("the value of");
    }
    if list("enum").is_some_and(|values| !values.contains(value)) {
        return wrong("a value of");
    }
    let bounds = [("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")];
    let size = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => Some(text.chars().count() as f64),
        Value::Array(items) => Some(items.len() as f64),
        _ => None,
    };
    for (least, most) in bounds {
        let low = schema[least].as_f64().zip(size).is_some_and(|(least, size)| size < least);
        let high = schema[most].as_f64().zip(size).is_some_and(|(most, size)| size > most);
        if low || high {
            return wrong("within");
        }
    }
    let several =
        |name| list(name).map(|all| all.iter().filter(|s| fits(s, value).is_ok()).count());
    if several("anyOf") == Some(0) || several("oneOf").is_some_and(|fitting| fitting != 1) {
        return wrong("one of");
    }
    list("allOf").into_iter().flatten().try_for_each(|part| fits(part, value))?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| match schema.get("items") {
            Some(schema) => fits(schema, item),
            None => Ok(()),
        }),
        Value::Object(object) => members(schema, object),
        _ => Ok(()),
    }
}

fn members(schema: &'static Value, object: &Map<String, Value>) -> Result<(), String> {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !object.contains_key(name) {
            return Err(format!("`{name}` is absent"));
        }
    }
    object.iter().try_for_each(|(name, value)| {
        let schema = schema["properties"].get(name).or(schema.get("additionalProperties"));
        schema.map_or(Ok(()), |schema| fits(schema, value).map_err(|why| format!("{name}: {why}")))
    })
}
