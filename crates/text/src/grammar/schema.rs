//! Schema: what of JSON Schema can be enforced, and the rest refused by name.
//!
//! Before a schema is compiled it is rewritten: annotations and unknown words go, which demand
//! nothing; what a reference points to moves to one table, so that pointers need no decoding; and
//! `not`, `if`, `dependencies` and their kin become what the compiler knows, where they can.

use llguidance::derivre::RegexBuilder;
use llguidance::regex_to_lark;
use serde_json::{Map, Value, json};

use super::Refused;
use super::negation::negated;
use crate::error::excerpt;

const MAX_NESTING: usize = 64;
const MAX_NODES: usize = 20_000;

/// Keywords that are handed on as they are.
const PLAIN: [&str; 16] = [
    "additionalItems",
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "required",
    "type",
];

/// Formats that the compiler enforces.
const FORMATS: [&str; 10] =
    ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];

/// Formats of the standard that it does not. Any other is an annotation, by the standard.
const OTHER_FORMATS: [&str; 9] = [
    "idn-email",
    "idn-hostname",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "uri-reference",
    "uri-template",
];

/// Keywords of the standard that are never enforced.
const REFUSED: [&str; 7] = [
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "extends",
    "propertyNames",
    "unevaluatedItems",
    "uniqueItems",
];

/// A schema being rewritten.
struct Rewriter<'a> {
    root: &'a Value,
    /// Before 2019-09 nothing beside a `$ref` counted.
    lone_refs: bool,
    exclusive: bool,
    required_first: bool,
    pointers: Vec<String>, // what is referred to, in the table's order
    nodes: usize,
    moved: usize, // objects whose properties are not in the schema's order
}

/// The schema as the compiler takes it, in one or two forms, the stronger first. Properties come in
/// the schema's order; the first form also allows those that are required before all others, where
/// that differs, since models write both. With `exclusive`, branches of a `oneOf` exclude each
/// other in so many words, where the compiler did not see that they do.
pub(super) fn prepared(schema: &Value, exclusive: bool) -> Result<Vec<Value>, Refused> {
    let mut table = Map::new();
    let (plain, _) = rewritten(schema, exclusive, false, &mut table)?;
    let only = json!({ "allOf": [plain], "$defs": table });
    let (moved, differs) = rewritten(schema, exclusive, true, &mut table)?;
    let both = json!({ "anyOf": [plain, moved], "$defs": table });
    Ok(if differs { vec![both, only] } else { vec![only] })
}

/// The schema with one order of properties, and whether that is not the schema's own.
fn rewritten(
    schema: &Value,
    exclusive: bool,
    required_first: bool,
    table: &mut Map<String, Value>,
) -> Result<(Value, bool), Refused> {
    let draft = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
    let old = ["draft-03", "draft-04", "draft-06", "draft-07"];
    let mut rewriter = Rewriter {
        root: schema,
        lone_refs: old.iter().any(|name| draft.contains(name)),
        exclusive,
        required_first,
        pointers: Vec::new(),
        nodes: 0,
        moved: 0,
    };
    let root = rewriter.rewrite(schema, "#", 0)?;
    if root == json!(false) {
        return Err(Refused::because("schema: # is false; accepted: one that has instances"));
    }
    let mut done = 0;
    while let Some(pointer) = rewriter.pointers.get(done).cloned() {
        let target = rewriter.target(&pointer)?;
        let target = rewriter.rewrite(target, &pointer, 0)?;
        table.insert(rewriter.name(done), target);
        done += 1;
    }
    Ok((root, rewriter.moved > 0))
}

/// Names the keyword in what the compiler says of a schema.
pub(super) fn refusal(refused: &Refused) -> Refused {
    let message = &refused.message;
    let known = ["oneOf", "patternProperty", "min/maxProperties", "$ref", "pattern", "allOf"];
    let others = PLAIN.iter().chain(&known).copied();
    let keyword = match others.filter(|word| message.contains(word)).max_by_key(|word| word.len()) {
        Some("patternProperty") => Some("patternProperties"),
        Some("min/maxProperties") => Some("minProperties"),
        None if message.contains("circular reference") => Some("$ref"),
        None if message.contains("egex") => Some("pattern"),
        None if message.contains("multiple of") => Some("multipleOf"),
        keyword => keyword,
    };
    Refused {
        message: format!(
            "schema: {}{message}",
            keyword.map(|k| format!("`{k}`: ")).unwrap_or_default()
        ),
        keyword: keyword.map(Into::into),
    }
}

fn refuse<T>(keyword: &str, path: &str, why: &str) -> Result<T, Refused> {
    let path = excerpt(path, 200);
    Err(Refused::keyword(keyword, format!("schema: `{keyword}` at {path}: {why}")))
}

impl<'a> Rewriter<'a> {
    fn rewrite(&mut self, schema: &Value, path: &str, depth: usize) -> Result<Value, Refused> {
        self.nodes += 1;
        if depth > MAX_NESTING || self.nodes > MAX_NODES {
            let why = format!(
                "schema: more than {MAX_NODES} parts, or nested deeper than {MAX_NESTING}, at {}",
                excerpt(path, 200)
            );
            return Err(Refused::because(why));
        }
        let words = match schema {
            Value::Object(words) => words,
            Value::Bool(_) => return Ok(schema.clone()),
            found => {
                let found = excerpt(&found.to_string(), 40);
                let why = format!("schema: {path} is {found}; accepted: an object or a boolean");
                return Err(Refused::because(why));
            }
        };
        if let Some(pointer) = words.get("$ref").filter(|_| self.lone_refs) {
            return Ok(json!({ "$ref": self.entry(pointer, path)? }));
        }
        let mut all = Vec::new(); // what must hold besides
        let mut rewritten = Map::new();
        for (word, value) in words {
            let here = format!("{path}/{word}");
            if let Some(value) = self.keyword(word, value, words, &here, depth, &mut all)? {
                rewritten.insert(word.clone(), value);
            }
        }
        if !all.is_empty() {
            let rest = all.iter().map(|schema| self.rewrite(schema, path, depth + 1));
            let rest = rest.collect::<Result<Vec<_>, _>>()?;
            let both = rewritten.entry("allOf").or_insert_with(|| json!([]));
            both.as_array_mut().expect("rewritten as one").extend(rest);
        }
        Ok(rewritten.into())
    }

    /// What a keyword becomes: itself rewritten, nothing, or what it demands in `all`.
    fn keyword(
        &mut self,
        word: &str,
        value: &Value,
        words: &Map<String, Value>,
        path: &str,
        depth: usize,
        all: &mut Vec<Value>,
    ) -> Result<Option<Value>, Refused> {
        if let Some(demands) = self.otherwise(word, value, words, path)? {
            all.extend(demands);
            return Ok(None);
        }
        Ok(match word {
            _ if PLAIN.contains(&word) => Some(value.clone()),
            "$ref" => Some(self.entry(value, path)?.into()),
            "format" => match value.as_str() {
                Some(format) if FORMATS.contains(&format) => Some(value.clone()),
                Some(format) if OTHER_FORMATS.contains(&format) => {
                    return refuse(word, path, &format!("\"{format}\" cannot be enforced"));
                }
                Some(_) => None,
                None => return refuse(word, path, "accepted: a text"),
            },
            "pattern" => {
                check_pattern(value.as_str(), word, path)?;
                Some(value.clone())
            }
            "properties" | "patternProperties" => {
                let mut parts = self.map(word, value, path, depth)?;
                if let Some(required) = words.get("required").filter(|_| self.required_first) {
                    let ordered = required_first(&parts, required);
                    self.moved += usize::from(!ordered.keys().eq(parts.keys()));
                    parts = ordered;
                }
                Some(parts.into())
            }
            "additionalProperties" => Some(self.rewrite(value, path, depth + 1)?),
            "items" | "prefixItems" | "allOf" | "anyOf" | "oneOf" => match value {
                Value::Array(parts) => {
                    let parts = parts.iter().map(|part| self.rewrite(part, path, depth + 1));
                    Some(Value::Array(parts.collect::<Result<_, _>>()?))
                }
                _ if word == "items" => Some(self.rewrite(value, path, depth + 1)?),
                _ => return refuse(word, path, "accepted: an array"),
            },
            _ => None,
        })
    }

    /// What a keyword demands in other words, where only those are enforced.
    fn otherwise(
        &self,
        word: &str,
        value: &Value,
        words: &Map<String, Value>,
        path: &str,
    ) -> Result<Option<Vec<Value>>, Refused> {
        let is_any = value == &json!(true) || value == &json!({});
        Ok(Some(match word {
            "propertyNames" | "unevaluatedItems" | "unevaluatedProperties" if is_any => Vec::new(),
            "unevaluatedProperties" => {
                let beside = ["allOf", "anyOf", "oneOf", "if", "$ref", "additionalProperties"];
                if value != &json!(false) || beside.iter().any(|word| words.contains_key(*word)) {
                    return refuse(word, path, "cannot be enforced beside what it depends on");
                }
                let part = |word| words.get(word).cloned().unwrap_or_else(|| json!({}));
                vec![json!({
                    "additionalProperties": false,
                    "properties": part("properties"),
                    "patternProperties": part("patternProperties"),
                })]
            }
            "uniqueItems" if value == &json!(false) => Vec::new(),
            _ if REFUSED.contains(&word) => return refuse(word, path, "cannot be enforced"),
            "not" => match negated(&self.followed(value)?, 0) {
                Some(schema) => vec![schema],
                None => return refuse(word, path, "this negation cannot be enforced"),
            },
            "if" if words.contains_key("then") || words.contains_key("else") => {
                let Some(otherwise) = negated(&self.followed(value)?, 0) else {
                    return refuse(word, path, "the negation of its condition cannot be enforced");
                };
                let part = |word| words.get(word).cloned().unwrap_or(Value::Bool(true));
                vec![json!({ "anyOf": [
                    { "allOf": [value, part("then")] },
                    { "allOf": [otherwise, part("else")] },
                ] })]
            }
            "dependencies" | "dependentRequired" | "dependentSchemas" => {
                dependencies(word, value, path)?
            }
            "oneOf" if self.exclusive => match value.as_array() {
                Some(parts) if parts.len() > 1 => vec![self.exclusive(parts, path)?],
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }

    fn map(
        &mut self,
        word: &str,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Map<String, Value>, Refused> {
        let Some(parts) = value.as_object() else {
            return refuse(word, path, "accepted: an object");
        };
        let mut rewritten = Map::new();
        for (name, part) in parts {
            if word == "patternProperties" {
                check_pattern(Some(name), word, path)?;
            }
            let part = self.rewrite(part, &format!("{path}/{name}"), depth + 1)?;
            rewritten.insert(name.clone(), part);
        }
        Ok(rewritten)
    }

    /// One branch and none of the others, for each branch.
    fn exclusive(&self, parts: &[Value], path: &str) -> Result<Value, Refused> {
        let one = |at: usize| {
            let mut all = vec![parts[at].clone()];
            for (_, other) in parts.iter().enumerate().filter(|(other, _)| *other != at) {
                match negated(&self.followed(other)?, 0) {
                    Some(none) => all.push(none),
                    None => return refuse("oneOf", path, "its branches may overlap"),
                }
            }
            Ok(json!({ "allOf": all }))
        };
        Ok(json!({ "anyOf": (0..parts.len()).map(one).collect::<Result<Vec<_>, _>>()? }))
    }

    /// The reference to what `pointer` points to, in the table.
    fn entry(&mut self, pointer: &Value, path: &str) -> Result<String, Refused> {
        let Some(pointer) = pointer.as_str() else {
            return refuse("$ref", path, "accepted: a text");
        };
        self.target(pointer)?;
        let known = self.pointers.iter().position(|known| known == pointer);
        let at = known.unwrap_or_else(|| {
            self.pointers.push(pointer.into());
            self.pointers.len() - 1
        });
        Ok(format!("#/$defs/{}", self.name(at)))
    }

    fn name(&self, at: usize) -> String {
        format!("{}{at}", if self.required_first { 'r' } else { 's' })
    }

    fn target(&self, pointer: &str) -> Result<&'a Value, Refused> {
        let why = "accepted: a place in this document, as in #/$defs/name";
        let Some(inner) = pointer.strip_prefix('#') else {
            return refuse("$ref", &excerpt(pointer, 100), why);
        };
        let decoded = decoded(inner);
        let root = self.root;
        match root
            .pointer(&decoded)
            .or_else(|| root.pointer(inner))
            .or((inner == "/").then_some(root))
        {
            Some(target) => Ok(target),
            None => refuse("$ref", &excerpt(pointer, 100), why),
        }
    }

    /// A schema, or what it is a mere reference to.
    fn followed(&self, schema: &Value) -> Result<Value, Refused> {
        let mut schema = schema;
        for _ in 0..8 {
            match schema.get("$ref").and_then(Value::as_str) {
                Some(pointer) => schema = self.target(pointer)?,
                None => break,
            }
        }
        Ok(schema.clone())
    }
}

fn check_pattern(text: Option<&str>, word: &str, path: &str) -> Result<(), Refused> {
    let Some(text) = text else { return refuse(word, path, "accepted: a text") };
    match RegexBuilder::new().mk_regex_for_serach(&regex_to_lark(text, "dw")) {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default();
            refuse(word, path, &excerpt(&format!("/{text}/: {why}"), 200))
        }
    }
}

/// For each property that others depend on: it is absent, or they are present.
fn dependencies(word: &str, value: &Value, path: &str) -> Result<Vec<Value>, Refused> {
    let Some(parts) = value.as_object() else {
        return refuse(word, path, "accepted: an object");
    };
    if parts.len() > 4 {
        return refuse(word, path, "more than four cannot be enforced");
    }
    let part = |(name, needs): (&String, &Value)| {
        let needs = if needs.is_array() { json!({ "required": needs }) } else { needs.clone() };
        json!({ "anyOf": [
            { "properties": { name: false } },
            { "allOf": [{ "required": [name] }, needs] },
        ] })
    };
    Ok(parts.iter().map(part).collect())
}

/// Properties with those before all others that are required, in that order.
fn required_first(parts: &Map<String, Value>, required: &Value) -> Map<String, Value> {
    let names = required.as_array().into_iter().flatten().filter_map(Value::as_str);
    let first = names.filter_map(|name| parts.get_key_value(name));
    let mut ordered = Map::new();
    for (name, part) in first.chain(parts) {
        ordered.entry(name.clone()).or_insert_with(|| part.clone());
    }
    ordered
}

/// A fragment of an address without its %-escapes.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = &tail[if code.is_some() { 2 } else { 0 }..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &Value, expected: &Value) {
        let found = prepared(schema, false).map(|forms| forms.last().unwrap()["allOf"][0].clone());
        assert_eq!(&found.unwrap_or_else(|why| json!(why.message)), expected);
    }

    #[test]
    fn what_demands_nothing_goes_and_the_rest_is_said_otherwise() {
        check(&json!({ "title": "t", "x-y": [], "format": "topic" }), &json!({}));
        check(
            &json!({ "not": { "not": { "minimum": 1 } } }),
            &json!({ "allOf": [{ "minimum": 1 }] }),
        );
        check(
            &json!({ "not": { "required": ["a"] } }),
            &json!({ "allOf": [
                { "anyOf": [{ "type": "object", "properties": { "a": false } }] },
            ] }),
        );
        check(
            &json!({ "not": { "type": ["number", "null"], "title": "t" } }),
            &json!({ "allOf": [{ "type": ["boolean", "string", "array", "object"] }] }),
        );
        check(
            &json!({ "dependencies": { "a": ["b"] } }),
            &json!({ "allOf": [{ "anyOf": [
                { "properties": { "a": false } },
                { "allOf": [{ "required": ["a"] }, { "required": ["b"] }] },
            ] }] }),
        );
        check(
            &json!({ "items": { "$ref": "#/a%20b" }, "a b": { "not": {} } }),
            &json!({ "items": { "$ref": "#/$defs/s0" } }),
        );
    }

    #[test]
    fn a_refusal_names_keyword_and_place() {
        let check = |schema, expected: &str| {
            let why = prepared(&schema, false).unwrap_err();
            assert!(why.message.starts_with(expected), "{why}");
            assert!(why.message.contains(&why.keyword.unwrap()));
        };
        check(json!({ "items": { "contains": {} } }), "schema: `contains` at #/items/contains: ");
        check(json!({ "uniqueItems": true }), "schema: `uniqueItems` at #/uniqueItems: ");
        check(json!({ "not": { "pattern": "a" } }), "schema: `not` at #/not: ");
        check(json!({ "$ref": "#/nowhere" }), "schema: `$ref` at #/nowhere: accepted: ");
        check(json!({ "format": "regex" }), "schema: `format` at #/format: \"regex\" ");
        check(json!({ "patternProperties": { "(": {} } }), "schema: `patternProperties` at ");
        check(
            json!({ "properties": 3 }),
            "schema: `properties` at #/properties: accepted: an object",
        );
    }

    #[test]
    fn required_properties_may_come_first() {
        let schema = json!({ "properties": { "a": {}, "b": {} }, "required": ["b"] });
        let forms = prepared(&schema, false).unwrap();
        assert_eq!(forms.len(), 2);
        let moved = forms[0]["anyOf"][1]["properties"].as_object().unwrap();
        assert!(moved.keys().eq(["b", "a"]));
        assert_eq!(prepared(&json!({ "properties": { "a": {} } }), false).unwrap().len(), 1);
    }
}
