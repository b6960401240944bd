//! Roster: every agent that is known here. One file each: what it is told, and what it asks.

mod aider;
mod claude_code;
mod cline;
mod codex;
mod opencode;
mod qwen_code;

use std::path::Path;

/// The agents, by name.
pub const AGENTS: [&Agent; 6] = [
    &aider::AGENT,
    &claude_code::AGENT,
    &cline::AGENT,
    &codex::AGENT,
    &opencode::AGENT,
    &qwen_code::AGENT,
];

/// An agent. In its texts `{url}`, `{key}`, `{model}`, `{context}` and `{folder}`, which is empty
/// and its own, are replaced.
pub struct Agent {
    /// On our command line.
    pub name: &'static str,
    /// Among people.
    pub title: &'static str,
    /// What is run.
    pub program: &'static str,
    /// What brings it.
    pub install: &'static str,
    /// What it speaks.
    pub wire: Wire,
    /// A tool that reads, whose call is demanded if the model does not call any; none where the
    /// agent knows no tools.
    pub reads: Option<&'static str>,
    /// How it asks.
    pub shape: &'static str,
    /// Variables of its environment.
    pub variables: &'static [(&'static str, &'static str)],
    /// What stands on its command line before anything else.
    pub arguments: &'static [&'static str],
    /// What it is told once before, where it reads its settings from a folder.
    pub before: &'static [&'static str],
}

/// What an agent speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Messages,
}

/// What an agent is told of a server.
pub struct Told {
    /// `http://HOST:PORT`
    pub url: String,
    /// None if the server asks for none.
    pub key: Option<String>,
    /// What the model is called.
    pub model: String,
    /// How long conversations may be.
    pub context: Option<u64>,
}

impl Told {
    /// A text of an agent's with what it is told.
    pub fn fill(&self, text: &str, folder: &Path) -> String {
        let context = self.context.unwrap_or(32_768).to_string();
        text.replace("{url}", &self.url)
            .replace("{key}", self.key.as_deref().unwrap_or("none"))
            .replace("{model}", &self.model)
            .replace("{context}", &context)
            .replace("{folder}", &folder.to_string_lossy())
    }
}

impl Agent {
    /// Its variables.
    pub fn variables(&self, told: &Told, folder: &Path) -> Vec<(&'static str, String)> {
        self.variables.iter().map(|(name, value)| (*name, told.fill(value, folder))).collect()
    }

    /// What to type to run it so.
    pub fn lines(&self, told: &Told) -> Vec<String> {
        let folder = format!("~/.qwire-{}", self.name);
        let folder = Path::new(&folder);
        let variables = self.variables(told, folder);
        let exports =
            variables.iter().map(|(name, value)| format!("export {name}={}", quoted(value)));
        let command = |arguments: &[&str]| {
            let words = arguments.iter().map(|text| quoted(&told.fill(text, folder)));
            std::iter::once(self.program.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
        };
        let before = (!self.before.is_empty()).then(|| command(self.before));
        exports.chain(before).chain([command(self.arguments)]).collect()
    }
}

/// A word of a shell's line.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@,~%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::super::shape::{Shape, Turn};
    use super::*;

    #[test]
    fn every_agent_has_a_shape_with_the_tool_that_reads() {
        for agent in AGENTS {
            let shape = Shape::read(agent.shape);
            let main = shape.requests.iter().find(|asking| asking.turn == Turn::Main);
            let body = main.and_then(|asking| asking.body.clone()).expect("a conversation");
            let named = |name: &str| body["tools"].to_string().contains(&format!("\"{name}\""));
            assert!(agent.reads.is_none_or(named), "{}", agent.name);
            let results = shape.requests.iter().filter(|asking| asking.turn == Turn::Result);
            assert_eq!(results.count(), usize::from(agent.reads.is_some()), "{}", agent.name);
        }
    }

    #[test]
    fn lines_can_be_pasted() {
        let told =
            Told { url: "http://a:1".into(), key: None, model: "it's".into(), context: Some(4096) };
        for agent in AGENTS {
            let lines = agent.lines(&told).join("\n");
            assert!(lines.contains("http://a:1"), "{lines}");
            for mark in ["{url}", "{key}", "{model}", "{context}", "{folder}"] {
                assert!(!lines.contains(mark), "{lines}");
            }
        }
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
