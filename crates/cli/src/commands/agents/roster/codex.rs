//! Codex: told on its command line, so that nothing of `~/.codex` is touched.

use super::{Agent, Wire};

pub const AGENT: Agent = Agent {
    name: "codex",
    title: "Codex",
    program: "codex",
    install: "npm install -g @openai/codex",
    wire: Wire::Responses,
    reads: Some("exec_command"),
    shape: include_str!("shapes/codex.json"),
    variables: &[("QWIRE_KEY", "{key}")],
    arguments: &[
        "-c",
        "model_provider=qwire",
        "-c",
        "model_providers.qwire={name=\"qwire\",base_url=\"{url}/v1\",wire_api=\"responses\",\
         env_key=\"QWIRE_KEY\"}",
        "-c",
        "model_context_window={context}",
        "-m",
        "{model}",
    ],
    before: &[],
};
