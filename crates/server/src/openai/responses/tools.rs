//! Tools: every kind that a client of Responses offers, as functions that a model can call, and
//! back again.
//!
//! ```text
//! function              itself
//! namespace             NAMESPACE__NAME for each tool inside, called by its own name in its space
//! custom                a function of one text, `input`, held to its grammar where it has one
//! apply_patch           a function of a path, what becomes of it, and a diff
//! local_shell, shell    a function of a command, or of several
//! web_search, mcp ..    run by OpenAI's own servers: left out
//! ```

use qwire_text::tools::GRAMMAR;
use qwire_text::{Grammars, Refused};
use serde_json::{Map, Value, json};

use crate::fault::Fault;
use crate::fields::{Fields, wrong};

/// The parameter of a tool that takes a text.
const INPUT: &str = "input";

/// How the calls of a tool come back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// `function_call`, perhaps in a namespace.
    Function(Option<String>, String),
    /// `custom_tool_call`.
    Custom,
    /// `local_shell_call`.
    Shell,
    /// `shell_call`.
    Shells,
    /// `apply_patch_call`.
    Patch,
}

/// The tools of a request.
#[derive(Clone, Default, Debug)]
pub struct Tools {
    /// As they came.
    pub listed: Vec<Value>,
    /// In the shape of chat completions.
    pub functions: Vec<Value>,
    origins: Vec<(String, Origin)>,
}

impl Tools {
    /// Reads `tools`, and proves that their grammars can be held.
    pub fn read(fields: &mut Fields, grammars: &Grammars) -> Result<Self, Fault> {
        let path = fields.path("tools");
        let listed = fields.list("tools")?.unwrap_or_default();
        let mut tools = Self::default();
        for (at, tool) in listed.iter().enumerate() {
            tools.add(tool, &format!("{path}[{at}]"), (None, grammars))?;
        }
        Ok(Self { listed, ..tools })
    }

    fn add(
        &mut self,
        tool: &Value,
        path: &str,
        (space, grammars): (Option<&str>, &Grammars),
    ) -> Result<(), Fault> {
        if !tool.is_object() {
            return Err(wrong(path, tool, "an object"));
        }
        let text = |key: &str| tool[key].as_str().map(str::to_owned);
        let name = text("name");
        let needed = || name.clone().ok_or_else(|| Fault::field(path, "has no `name`"));
        match tool["type"].as_str() {
            Some("function") => {
                let own = needed()?;
                let full = space.map_or_else(|| own.clone(), |space| format!("{space}__{own}"));
                let origin = Origin::Function(space.map(str::to_owned), own);
                self.push(full, text("description"), tool["parameters"].clone(), origin);
            }
            Some("namespace") => {
                let space = needed()?;
                for (at, tool) in tool["tools"].as_array().into_iter().flatten().enumerate() {
                    let within = (Some(&*space), grammars);
                    self.add(tool, &format!("{path}.tools[{at}]"), within)?;
                }
            }
            Some("custom") => {
                let input = input(&tool["format"], &format!("{path}.format"), grammars)?;
                self.push(needed()?, text("description"), input, Origin::Custom);
            }
            Some(kind) => {
                if let Some((about, schema, origin)) = built_in(kind) {
                    self.push(kind.into(), Some(about.into()), schema, origin);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn push(&mut self, name: String, about: Option<String>, parameters: Value, origin: Origin) {
        let mut function = Map::from_iter([("name".to_owned(), json!(name))]);
        if let Some(about) = about {
            function.insert("description".into(), json!(about));
        }
        let any = || json!({ "type": "object" });
        let parameters = if parameters.is_null() { any() } else { parameters };
        function.insert("parameters".into(), parameters);
        self.functions.push(json!({ "type": "function", "function": function }));
        self.origins.push((name, origin));
    }

    /// How a call of this function comes back.
    pub fn origin(&self, name: &str) -> Origin {
        let found = self.origins.iter().find(|(known, _)| known == name);
        found.map_or_else(|| Origin::Function(None, name.into()), |(_, origin)| origin.clone())
    }

    /// The function that a choice means.
    pub fn function(&self, space: Option<&str>, name: &str) -> String {
        space.map_or_else(|| name.to_owned(), |space| format!("{space}__{name}"))
    }
}

/// The parameters of a custom tool: one text, of a grammar if its format is one.
fn input(format: &Value, path: &str, grammars: &Grammars) -> Result<Value, Fault> {
    let mut input = json!({ "type": "string" });
    if format["type"] == "grammar" {
        let needed = |name: &str| {
            let text = format[name].as_str();
            text.ok_or_else(|| wrong(&format!("{path}.{name}"), &format[name], "a text"))
        };
        let (syntax, definition) = (needed("syntax")?, needed("definition")?);
        let compiled = match syntax {
            "lark" => grammars.lark(definition),
            "regex" => grammars.regex(definition),
            _ => {
                let fault = "is unknown: accepted is `lark` or `regex`";
                return Err(Fault::field(format!("{path}.syntax"), fault));
            }
        };
        let refused = |why: Refused| {
            Fault::field(format!("{path}.definition"), format!("cannot be held to: {why}"))
                .code("unsupported_constraint")
        };
        compiled.map_err(refused)?;
        input[GRAMMAR] = json!({ "syntax": syntax, "definition": definition });
    }
    Ok(json!({ "type": "object", "properties": { INPUT: input }, "required": [INPUT] }))
}

/// A tool that a client runs itself and does not describe.
fn built_in(kind: &str) -> Option<(&'static str, Value, Origin)> {
    let list = json!({ "type": "array", "items": { "type": "string" } });
    let (about, properties, required, origin) = match kind {
        "apply_patch" => (
            "Creates, updates or deletes a file. The diff is in V4A form: lines that begin with a \
             space, + or -, under @@ lines that say where.",
            json!({
                "type": { "type": "string", "enum": ["create_file", "update_file", "delete_file"] },
                "path": { "type": "string" },
                "diff": { "type": "string" },
            }),
            json!(["type", "path"]),
            Origin::Patch,
        ),
        "local_shell" => (
            "Runs a command: a program and its arguments",
            json!({
                "command": list,
                "working_directory": { "type": "string" },
                "timeout_ms": { "type": "integer" },
            }),
            json!(["command"]),
            Origin::Shell,
        ),
        "shell" => (
            "Runs commands in a shell",
            json!({ "commands": list, "timeout_ms": { "type": "integer" } }),
            json!(["commands"]),
            Origin::Shells,
        ),
        _ => return None,
    };
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    Some((about, schema, origin))
}

impl Origin {
    /// The item of a call whose arguments are complete.
    pub fn item(
        &self,
        id: &str,
        call_id: &str,
        name: &str,
        arguments: &str,
        status: &str,
    ) -> Value {
        let parsed = || serde_json::from_str(arguments).unwrap_or(Value::Null);
        match self {
            Self::Function(space, own) => {
                let mut item = json!({
                    "type": "function_call", "id": id, "call_id": call_id, "name": own,
                    "arguments": arguments, "status": status,
                });
                if let Some(space) = space {
                    item["namespace"] = json!(space);
                }
                item
            }
            Self::Custom => json!({
                "type": "custom_tool_call", "id": id, "call_id": call_id, "name": name,
                "input": parsed()[INPUT].as_str().unwrap_or_default(), "status": status,
            }),
            Self::Shell | Self::Shells => {
                let alone = *self == Self::Shell;
                let mut action = parsed();
                if !action.is_object() {
                    action = json!({ if alone { "command" } else { "commands" }: [] });
                }
                if alone {
                    action["type"] = json!("exec");
                    action["env"] = json!({});
                }
                let kind = if alone { "local_shell_call" } else { "shell_call" };
                json!({
                    "type": kind, "id": id, "call_id": call_id, "action": action, "status": status,
                })
            }
            Self::Patch => json!({
                "type": "apply_patch_call", "id": id, "call_id": call_id, "operation": parsed(),
                "status": status,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use qwire_gguf::File;
    use qwire_text::Vocabulary;

    use super::*;

    fn read(body: &Value) -> Result<Tools, Fault> {
        let bytes: &'static [u8] = include_bytes!("../../../../../assets/qwire-box.gguf");
        let file = File::from_bytes(bytes).unwrap();
        let vocabulary = Arc::new(Vocabulary::from_gguf(file.metadata()).unwrap());
        let grammars = Grammars::new(&vocabulary).unwrap();
        Tools::read(&mut Fields::of_body(body.to_string().as_bytes()).unwrap(), &grammars)
    }

    #[test]
    fn a_grammar_is_held_or_refused() {
        let check = |format: Value, expected: Result<Value, &str>| {
            let tool = json!({ "type": "custom", "name": "a", "format": format });
            let input = |tools: Tools| {
                tools.functions[0]["function"]["parameters"]["properties"][INPUT].clone()
            };
            let found = read(&json!({ "tools": [tool] })).map(input);
            assert_eq!(found.map_err(|fault| fault.param.unwrap()), expected.map_err(String::from));
        };
        let held = |syntax: &str, text: &str| json!({ "syntax": syntax, "definition": text });
        let grammar = |syntax: &str, text: &str| {
            let mut format = held(syntax, text);
            format["type"] = json!("grammar");
            format
        };
        let input =
            |syntax: &str, text: &str| Ok(json!({ "type": "string", GRAMMAR: held(syntax, text) }));
        check(json!({ "type": "text" }), Ok(json!({ "type": "string" })));
        check(grammar("regex", "[a-z]+"), input("regex", "[a-z]+"));
        check(grammar("lark", "start: \"a\""), input("lark", "start: \"a\""));
        check(grammar("lark", "start: ("), Err("tools[0].format.definition"));
        check(grammar("regex", "("), Err("tools[0].format.definition"));
        check(grammar("yacc", "a"), Err("tools[0].format.syntax"));
        check(json!({ "type": "grammar", "syntax": "lark" }), Err("tools[0].format.definition"));
    }

    #[test]
    fn every_kind_goes_there_and_back() {
        let body = json!({ "tools": [
            { "type": "function", "name": "a", "parameters": { "type": "object" } },
            { "type": "namespace", "name": "mcp", "tools": [{ "type": "function", "name": "a" }] },
            { "type": "custom", "name": "patch", "format": { "type": "text" } },
            { "type": "local_shell" },
            { "type": "shell" },
            { "type": "apply_patch" },
            { "type": "web_search" },
            { "type": "never seen" },
        ] });
        let tools = read(&body).unwrap();
        let names: Vec<_> = tools.functions.iter().map(|t| t["function"]["name"].clone()).collect();
        assert_eq!(names, ["a", "mcp__a", "patch", "local_shell", "shell", "apply_patch"]);
        let item = |name: &str, arguments: &str| {
            tools.origin(name).item("i", "c", name, arguments, "completed")
        };
        let spaced = item("mcp__a", "{}");
        assert_eq!((&spaced["name"], &spaced["namespace"]), (&json!("a"), &json!("mcp")));
        let custom = item("patch", r#"{"input":"x"}"#);
        assert_eq!((&custom["type"], &custom["input"]), (&json!("custom_tool_call"), &json!("x")));
        let shell = item("local_shell", r#"{"command":["ls"]}"#);
        assert_eq!(shell["action"]["command"], json!(["ls"]));
        let shells = item("shell", r#"{"commands":["ls"]}"#);
        assert_eq!(
            (&shells["type"], &shells["action"]),
            (&json!("shell_call"), &json!({ "commands": ["ls"] }))
        );
        let patch = item("apply_patch", r#"{"type":"delete_file","path":"a"}"#);
        assert_eq!(patch["operation"], json!({ "type": "delete_file", "path": "a" }));
    }
}
