//! Aider: told by its environment and a switch; it writes edits as text and calls no tools.

use super::{Agent, Wire};

pub const AGENT: Agent = Agent {
    name: "aider",
    title: "Aider",
    program: "aider",
    install: "pip install aider-chat",
    wire: Wire::Chat,
    reads: None,
    shape: include_str!("shapes/aider.json"),
    variables: &[("OPENAI_API_BASE", "{url}/v1"), ("OPENAI_API_KEY", "{key}")],
    arguments: &["--model", "openai/{model}", "--no-show-model-warnings"],
    before: &[],
};
