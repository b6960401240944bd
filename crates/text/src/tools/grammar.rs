//! Grammar: what a model must write to make a call, in the Lark that llguidance reads.
//!
//! The text is the one that the dialect's template renders for a call in the past, to the byte, so
//! that an answer that is sent back renders as it was sampled. Parameters come in the order of
//! their schema, those that it requires always, none of them twice. A parameter whose schema has a
//! [`GRAMMAR`] is a text of that grammar, where the dialect writes texts as they are.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::schema::{Types, properties};
use super::{CLOSER, Dialect, OPENER, Tool};

/// What a parameter's text must be: `{"syntax": "lark" or "regex", "definition": ".."}`. It is no
/// keyword of JSON Schema, and templates show it to the model beside the others.
pub const GRAMMAR: &str = "grammar";

/// Which calls there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// The model has begun a call, at its own choice.
    Begun,
    /// One at least.
    Required,
    /// One of this tool.
    Named(&'a str),
}

impl Dialect {
    /// The grammar of what is written from the first byte of a call to the end of the answer:
    /// where the choice is the model's, from a [`super::Trigger`] on, else from the end of the
    /// thoughts, if any. `None` if no tool may be called. Where the choice is the model's, keywords
    /// of schemas that cannot be held are passed over; else they are an error of llguidance.
    pub fn grammar(&self, tools: &[Tool], choice: Choice<'_>, parallel: bool) -> Option<String> {
        let called = |tool: &&Tool| !matches!(choice, Choice::Named(name) if name != tool.name);
        let tools: Vec<&Tool> = tools.iter().filter(called).collect();
        let bodies: Vec<String> = (0..tools.len()).map(|index| format!("call_{index}")).collect();
        if bodies.is_empty() {
            return None;
        }
        let first = match choice {
            Choice::Begun if self.bare_opener.is_some() => "(block | body closer?)",
            Choice::Begun => "block",
            Choice::Required | Choice::Named(_) => "/\\n{0,2}/ block",
        };
        let more = if parallel { " (\"\\n\" block)*" } else { "" };
        let mut text = format!(
            "start: {first}{more}\nblock: {} body closer\ncloser: {}\nbody: {}\n",
            quoted(&format!("{OPENER}\n")),
            quoted(&format!("\n{CLOSER}")),
            bodies.join(" | "),
        );
        let exact = choice != Choice::Begun;
        for (index, tool) in tools.into_iter().enumerate() {
            text.push_str(&(self.grammar)(index, tool, exact));
        }
        Some(text)
    }
}

/// The calls of [`super::hermes`].
pub(super) fn objects(index: usize, tool: &Tool, exact: bool) -> String {
    let mut schema = tool.parameters.as_object().cloned().unwrap_or_default();
    schema.entry("type").or_insert_with(|| "object".into());
    let known = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in known.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        // Inside of a JSON string it would be another grammar.
        property.shift_remove(GRAMMAR);
    }
    let opener = format!("{{\"name\": {}, \"arguments\": ", Value::from(tool.name.as_str()));
    format!("call_{index}: {} %json {} \"}}\"\n", quoted(&opener), printed(schema, exact))
}

/// The calls of [`super::qwen_coder`].
pub(super) fn functions(index: usize, tool: &Tool, exact: bool) -> String {
    const TEXT: &str = "[suffix=\"\\n</parameter>\"]: ";
    const ANY: &str = "/(?s:.*)/";
    let opener = quoted(&format!("<function={}>\n", tool.name));
    let mut call = format!("call_{index}: {opener}");
    let mut rules = String::new();
    let required = |key: &str| {
        let keys = tool.parameters.get("required").and_then(Value::as_array);
        keys.is_some_and(|keys| keys.iter().any(|known| known == key))
    };
    for (at, (key, schema)) in properties(tool).into_iter().flatten().enumerate() {
        let name = format!("call_{index}_{at}");
        let _ = write!(call, " {name}{}", if required(key) { "" } else { "?" });
        let opener = quoted(&format!("<parameter={key}>\n"));
        let closer = quoted("\n</parameter>\n");
        let types = Types::of_parameter(tool, key);
        let _ = match (words(schema), written(schema), types.has(Types::STRING)) {
            (Some(words), ..) => writeln!(rules, "{name}: {opener} ({words}) {closer}"),
            (None, Some(Written::Lark(text)), _) => {
                writeln!(rules, "{name}: {opener} %lark {{\n{text}\n}} {closer}")
            }
            (None, Some(Written::Regex(text)), _) => {
                let rule = format!("{name}_text{TEXT}{text}");
                writeln!(rules, "{name}: {opener} {name}_text \"\\n\"\n{rule}")
            }
            (None, None, true) => {
                writeln!(rules, "{name}: {opener} {name}_text \"\\n\"\n{name}_text{TEXT}{ANY}")
            }
            (None, None, false) => {
                let schema = printed(with_definitions(schema, &tool.parameters), exact);
                writeln!(rules, "{name}: {opener} %json {schema} {closer}")
            }
        }; // a String takes everything
    }
    if properties(tool).is_none_or(Map::is_empty) && !super::schema::is_closed(tool) {
        let _ = write!(call, " call_{index}_any*");
        let key = "/<parameter=[A-Za-z0-9_.-]{1,64}>\\n/";
        let any = format!("call_{index}_any");
        let _ = writeln!(rules, "{any}: {key} {any}_text \"\\n\"\n{any}_text{TEXT}{ANY}");
    }
    format!("{call} \"</function>\"\n{rules}")
}

/// The grammar of a text.
enum Written {
    Lark(String),
    /// As a literal.
    Regex(String),
}

fn written(schema: &Value) -> Option<Written> {
    let grammar = schema.get(GRAMMAR)?;
    let text = grammar["definition"].as_str()?;
    match grammar["syntax"].as_str()? {
        "lark" => Some(Written::Lark(text.into())),
        "regex" => Some(Written::Regex(literal(text))),
        _ => None,
    }
}

/// A regular expression between slashes.
fn literal(regex: &str) -> String {
    let (mut text, mut escaped) = (String::from("/(?:"), false);
    for letter in regex.chars() {
        match letter {
            '/' if !escaped => text.push_str("\\/"),
            '\n' => text.push_str(if escaped { "n" } else { "\\n" }),
            letter => text.push(letter),
        }
        escaped = letter == '\\' && !escaped;
    }
    text + ")/"
}

/// The words of an enumeration that has nothing else, as alternatives.
fn words(schema: &Value) -> Option<String> {
    let one = schema.get("const").map(std::slice::from_ref);
    let values = one.or_else(|| schema.get("enum")?.as_array().map(Vec::as_slice))?;
    let words: Option<Vec<String>> =
        values.iter().map(|word| Some(quoted(word.as_str()?))).collect();
    words.filter(|words| !words.is_empty()).map(|words| words.join(" | "))
}

/// A part of a schema, with what its references mean.
fn with_definitions(schema: &Value, root: &Value) -> Map<String, Value> {
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    for key in ["$defs", "definitions"] {
        if let Some(definitions) = root.get(key) {
            schema.entry(key).or_insert_with(|| definitions.clone());
        }
    }
    schema
}

/// A schema of JSON that is spaced as templates print it. Unless it must be exact, keywords that
/// llguidance does not know are passed over.
fn printed(mut schema: Map<String, Value>, exact: bool) -> Value {
    let mut options =
        json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    if !exact {
        options["lenient"] = true.into();
    }
    schema.insert("x-guidance".into(), options);
    Value::Object(schema)
}

/// A literal of Lark.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<Tool> {
        let tool = |name: &str, parameters| Tool { name: name.into(), parameters };
        vec![
            tool(
                "edit",
                json!({
                    "type": "object",
                    "properties": {
                        "path": {"type": "string"},
                        "mode": {"enum": ["a", "\"b\""]},
                        "line": {"$ref": "#/$defs/line"},
                    },
                    "required": ["path"],
                    "$defs": {"line": {"type": "integer"}},
                }),
            ),
            tool("any", json!({})),
            tool("none", json!({"properties": {}, "additionalProperties": false})),
        ]
    }

    #[track_caller]
    fn check(dialect: &str, choice: Choice<'_>, parallel: bool, expected: Option<&str>) {
        let grammar = Dialect::named(dialect).unwrap().grammar(&tools(), choice, parallel);
        assert_eq!(grammar.as_deref(), expected);
    }

    #[test]
    fn qwen_coder() {
        let edit = concat!(
            r#"call_0: "<function=edit>\n" call_0_0 call_0_1? call_0_2? "</function>""#,
            "\n",
            r#"call_0_0: "<parameter=path>\n" call_0_0_text "\n""#,
            "\n",
            r#"call_0_0_text[suffix="\n</parameter>"]: /(?s:.*)/"#,
            "\n",
            r#"call_0_1: "<parameter=mode>\n" ("a" | "\"b\"") "\n</parameter>\n""#,
            "\n",
            r##"call_0_2: "<parameter=line>\n" %json {"$ref":"#/$defs/line","##,
            r#""$defs":{"line":{"type":"integer"}},"x-guidance":{"whitespace_flexible":false,"#,
            r#""item_separator":", ","key_separator":": "}} "\n</parameter>\n""#,
            "\n",
        );
        let any = concat!(
            r#"call_1: "<function=any>\n" call_1_any* "</function>""#,
            "\n",
            r#"call_1_any: /<parameter=[A-Za-z0-9_.-]{1,64}>\n/ call_1_any_text "\n""#,
            "\n",
            r#"call_1_any_text[suffix="\n</parameter>"]: /(?s:.*)/"#,
            "\n",
        );
        let frame = "block: \"<tool_call>\\n\" body closer\ncloser: \"\\n</tool_call>\"\n";
        let lenient = edit.replace("\": \"}}", "\": \",\"lenient\":true}}");
        let none = "call_2: \"<function=none>\\n\" \"</function>\"\n";
        let begun = format!(
            "start: (block | body closer?) (\"\\n\" block)*\n\
             {frame}body: call_0 | call_1 | call_2\n{lenient}{any}{none}"
        );
        check("qwen-coder", Choice::Begun, true, Some(&begun));
        let named = format!("start: /\\n{{0,2}}/ block\n{frame}body: call_0\n{edit}");
        check("qwen-coder", Choice::Named("edit"), false, Some(&named));
        check("qwen-coder", Choice::Named("absent"), false, None);
    }

    #[test]
    fn hermes() {
        let any = concat!(
            "start: /\\n{0,2}/ block (\"\\n\" block)*\n",
            "block: \"<tool_call>\\n\" body closer\ncloser: \"\\n</tool_call>\"\n",
            "body: call_0\n",
            r#"call_0: "{\"name\": \"any\", \"arguments\": " %json {"type":"object","#,
            r#""x-guidance":{"whitespace_flexible":false,"#,
            r#""item_separator":", ","key_separator":": "}} "}""#,
            "\n",
        );
        check("hermes", Choice::Named("any"), true, Some(any));
    }
}
