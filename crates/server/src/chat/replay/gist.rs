//! Gist: what a turn says, whatever its spelling: two turns with one gist are the same message.
//!
//! ```text
//! thoughts, text    without the blank around them
//! calls             name and arguments; keys in any order, 72 and 72.0 alike; without what their
//!                   schema has as default, which some clients write down and models leave out
//! ```

use std::sync::Arc;

use qwire_text::tools::{Dialect, Ending, Part, Reader, Rules, Thinking, Tool};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Floats up to here are integers without loss.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// How turns are understood.
#[derive(Clone)]
pub struct Gist {
    dialect: &'static Dialect,
    tools: Arc<[Tool]>,
    thinks: bool,
}

impl Gist {
    /// For a model that writes calls of these tools in this way, and perhaps thinks before.
    pub fn new(dialect: &'static Dialect, tools: Arc<[Tool]>, thinks: bool) -> Self {
        Self { dialect, tools, thinks }
    }

    /// The gist of what follows an opener; none if it holds a call that is not whole.
    pub fn of(&self, opener: &str, turn: &str) -> Option<[u8; 32]> {
        let rules = Rules { thinking: thinking(opener, self.thinks), parallel: true };
        let mut reader = Reader::new(self.dialect, self.tools.clone(), rules);
        let mut parts = reader.push(turn);
        parts.extend(reader.finish(Ending::Natural));
        let (mut thoughts, mut text) = (String::new(), String::new());
        let mut calls: Vec<(String, String)> = Vec::new();
        let mut open = 0;
        for part in parts {
            match part {
                Part::Reasoning(more) => thoughts += &more,
                Part::Text(more) => text += &more,
                Part::CallStart { name, .. } => {
                    calls.push((name, String::new()));
                    open += 1;
                }
                Part::CallArguments { index, fragment } => calls[index].1 += &fragment,
                Part::CallEnd { .. } => open -= 1,
            }
        }
        if open > 0 {
            return None;
        }
        let mut hash = Sha256::new();
        add(&mut hash, thoughts.trim().as_bytes());
        add(&mut hash, text.trim().as_bytes());
        for (name, arguments) in calls {
            add(&mut hash, name.as_bytes());
            let arguments = serde_json::from_str(&arguments).ok()?;
            canonical(&self.without_defaults(&name, arguments), &mut hash);
        }
        Some(hash.finalize().into())
    }

    fn without_defaults(&self, name: &str, mut arguments: Value) -> Value {
        let tool = self.tools.iter().find(|tool| tool.name == name);
        if let (Some(tool), Value::Object(pairs)) = (tool, &mut arguments) {
            let properties = &tool.parameters["properties"];
            pairs.retain(|key, value| properties[key].get("default") != Some(value));
        }
        arguments
    }
}

/// Whether the answer behind an opener starts with thoughts.
pub fn thinking(opener: &str, thinks: bool) -> Thinking {
    if opener.trim_end().ends_with("<think>") {
        Thinking::Inside
    } else if thinks {
        Thinking::Maybe
    } else {
        Thinking::Never
    }
}

/// Adds bytes so that no two lists of them add up to the same.
fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(pairs) => {
            let mut pairs: Vec<_> = pairs.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| *key);
            add(hash, format!("object {}", pairs.len()).as_bytes());
            for (key, value) in pairs {
                add(hash, key.as_bytes());
                canonical(value, hash);
            }
        }
        Value::Array(items) => {
            add(hash, format!("array {}", items.len()).as_bytes());
            items.iter().for_each(|item| canonical(item, hash));
        }
        Value::String(text) => {
            add(hash, b"text");
            add(hash, text.as_bytes());
        }
        Value::Number(number) => {
            let whole = number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() <= MAX_EXACT);
            let whole = whole.filter(|_| number.is_f64()).map(|x| (x as i64).to_string());
            add(hash, whole.unwrap_or_else(|| number.to_string()).as_bytes());
        }
        other => add(hash, other.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OPENER: &str = "<|im_start|>assistant\n";

    fn gist(dialect: &str) -> Gist {
        let tool = |name: &str| Tool {
            name: name.into(),
            parameters: json!({ "type": "object", "properties": {
                "path": { "type": "string" }, "limit": { "type": "integer", "default": 9 },
                "words": { "type": "array" },
            } }),
        };
        let tools = Arc::new([tool("read"), tool("write")]);
        Gist::new(Dialect::named(dialect).unwrap(), tools, true)
    }

    #[track_caller]
    fn check(dialect: &str, one: &str, other: &str, same: bool) {
        let gist = gist(dialect);
        let (one, other) = (gist.of(OPENER, one).unwrap(), gist.of(OPENER, other).unwrap());
        assert_eq!(one == other, same);
    }

    #[test]
    fn spelling_does_not_matter_and_everything_else_does() {
        let hermes = |arguments: &str| {
            format!("<tool_call>\n{{\"name\": \"read\", \"arguments\": {arguments}}}\n</tool_call>")
        };
        let one = hermes("{\"path\": \"a\", \"limit\": 72.0}");
        check("hermes", &one, &hermes("{\"limit\":72,\"path\":\"a\"}"), true);
        check("hermes", &one, &hermes("{\"limit\":73,\"path\":\"a\"}"), false);
        check("hermes", &one, &hermes("{\"limit\":\"72\",\"path\":\"a\"}"), false);
        check("hermes", &one, &one.replace("read", "write"), false);
        let (bare, full) = (hermes("{\"path\": \"a\"}"), hermes("{\"path\": \"a\", \"limit\": 9}"));
        check("hermes", &bare, &full, true);
        check("hermes", &bare, &full.replace('9', "8"), false);
        check("hermes", &format!("So.\n\n{one}\n"), &format!("So.\n{one}"), true);
        check("hermes", &format!("So.\n{one}"), &one, false);
        check("hermes", "<think>\na\n</think>\n\nb", "<think>a</think>b\n", true);
        check("hermes", "<think>\na\n</think>\n\nb", "b", false);
        check("hermes", "a b", "a  b", false);
        let coder = "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n\
                     <parameter=words>\n[\"a\", 1]\n</parameter>\n</function>\n</tool_call>";
        let other = "<function=read><parameter=words>['a', 1.0]</parameter>\n<parameter=path>\na\n\
                     </parameter>\n</function>";
        check("qwen-coder", coder, other, true);
        check("qwen-coder", coder, &other.replace("['a', 1.0]", "['a']"), false);
    }

    #[test]
    fn half_a_call_has_no_gist() {
        let broken = "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\" \"b";
        assert_eq!(gist("hermes").of(OPENER, broken), None);
    }

    #[test]
    fn thoughts_that_the_prompt_has_opened_are_thoughts() {
        let gist = gist("hermes");
        let opened = gist.of("<|im_start|>assistant\n<think>\n", "a\n</think>\n\nb");
        assert_eq!(opened, gist.of(OPENER, "<think>\na\n</think>\n\nb"));
    }
}
