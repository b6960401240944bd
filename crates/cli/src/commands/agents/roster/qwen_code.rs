//! Qwen Code: told by its environment, and which way to sign in by a switch.

use super::{Agent, Wire};

pub const AGENT: Agent = Agent {
    name: "qwen-code",
    title: "Qwen Code",
    program: "qwen",
    install: "npm install -g @qwen-code/qwen-code (needs Node 22)",
    wire: Wire::Chat,
    reads: Some("read_file"),
    shape: include_str!("shapes/qwen-code.json"),
    variables: &[
        ("OPENAI_BASE_URL", "{url}/v1"),
        ("OPENAI_API_KEY", "{key}"),
        ("OPENAI_MODEL", "{model}"),
    ],
    arguments: &["--auth-type", "openai"],
    before: &[],
};
