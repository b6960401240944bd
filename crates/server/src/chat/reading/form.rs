//! Form: what an answer must look like, as a client may demand it.

use qwire_text::{Grammar, Grammars, Refused};
use serde_json::{Map, Value, json};

use crate::fault::Fault;
use crate::fields::{Fields, wrong};

/// A demand.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Form {
    /// None.
    #[default]
    Free,
    /// Any JSON object.
    Object,
    /// JSON of this schema.
    Schema(Value),
    /// A text that this expression matches as a whole.
    Regex(String),
    /// A text of this grammar.
    Grammar(String),
}

impl Form {
    /// Reads `response_format`, and the names that other servers have for its kinds. Says which
    /// field it was.
    pub fn read(fields: &mut Fields) -> Result<(Self, String), Fault> {
        let mut found: Vec<(Self, &str)> = Vec::new();
        if let Some(mut format) = fields.object("response_format")? {
            let form = Self::of_format(&mut format)?;
            fields.close(&format);
            found.push((form, "response_format"));
        }
        if let Some(schema) = fields.take("json_schema") {
            found
                .push((Self::Schema(checked(schema, &fields.path("json_schema"))?), "json_schema"));
        }
        if let Some(regex) = fields.text("regex")? {
            found.push((Self::Regex(regex), "regex"));
        }
        if let Some(grammar) = fields.text("grammar")?.filter(|grammar| !grammar.is_empty()) {
            found.push((Self::Grammar(grammar), "grammar"));
        }
        found.retain(|(form, _)| *form != Self::Free);
        match found.len() {
            0 => Ok((Self::Free, String::new())),
            1 => Ok(found.remove(0)).map(|(form, name)| (form, fields.path(name))),
            _ => Err(fields.fault(found[1].1, format!("stands beside `{}`", found[0].1))),
        }
    }

    /// The grammar of it.
    pub fn compile(&self, grammars: &Grammars) -> Result<Grammar, Refused> {
        match self {
            Self::Free | Self::Object => grammars.json_object(),
            Self::Schema(schema) => grammars.json_schema(schema),
            Self::Regex(regex) => grammars.regex(regex),
            // Only llama.cpp's GBNF defines with this sign.
            Self::Grammar(text) if text.contains("::=") => grammars.gbnf(text),
            Self::Grammar(text) => grammars.lark(text),
        }
    }

    fn of_format(format: &mut Fields) -> Result<Self, Fault> {
        let kinds = ["text", "json_object", "json_schema", "regex", "grammar"];
        let kind =
            format.word("type", &kinds)?.ok_or_else(|| format.fault("type", "is required"))?;
        let text = |format: &mut Fields, name| {
            format.text(name)?.ok_or_else(|| format.fault(name, "is required"))
        };
        Ok(match kind.as_str() {
            "json_object" => match format.take("schema") {
                Some(schema) => Self::Schema(checked(schema, &format.path("schema"))?),
                None => Self::Object,
            },
            "json_schema" => {
                let inner = format.object("json_schema")?;
                let mut inner = inner.ok_or_else(|| format.fault("json_schema", "is required"))?;
                inner.text("name")?;
                inner.text("description")?;
                inner.flag("strict")?;
                let schema = inner.take("schema").unwrap_or_else(|| json!({}));
                let schema = checked(schema, &inner.path("schema"))?;
                format.close(&inner);
                Self::Schema(schema)
            }
            "regex" => Self::Regex(text(format, "regex")?),
            "grammar" => Self::Grammar(text(format, "grammar")?),
            _ => Self::Free,
        })
    }
}

/// A schema: an object, or a boolean.
pub fn checked(schema: Value, path: &str) -> Result<Value, Fault> {
    match schema {
        Value::Object(_) => Ok(schema),
        Value::Bool(true) => Ok(Map::new().into()),
        other => Err(wrong(path, &other, "a JSON schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<Form, &str>) {
        let mut fields = Fields::of_body(body.as_bytes()).unwrap();
        let found = Form::read(&mut fields).map(|(form, _)| form);
        assert_eq!(found.map_err(|fault| fault.param.unwrap()), expected.map_err(String::from));
    }

    #[test]
    fn every_name_is_read() {
        let schema = || Ok(Form::Schema(json!({ "type": "object" })));
        check("{}", Ok(Form::Free));
        check(r#"{"response_format":{"type":"text"}}"#, Ok(Form::Free));
        check(r#"{"response_format":{"type":"json_object"}}"#, Ok(Form::Object));
        check(
            r#"{"response_format":{"type":"json_schema",
                "json_schema":{"name":"a","strict":true,"schema":{"type":"object"}}}}"#,
            schema(),
        );
        check(r#"{"json_schema":{"type":"object"}}"#, schema());
        check(r#"{"regex":"a+","response_format":{"type":"text"}}"#, Ok(Form::Regex("a+".into())));
        check(r#"{"grammar":"root ::= \"a\""}"#, Ok(Form::Grammar("root ::= \"a\"".into())));
        check(r#"{"response_format":{"type":"xml"}}"#, Err("response_format.type"));
        check(r#"{"response_format":{"type":"json_schema"}}"#, Err("response_format.json_schema"));
        check(r#"{"regex":"a","grammar":"b"}"#, Err("grammar"));
        check(r#"{"json_schema":3}"#, Err("json_schema"));
    }
}
