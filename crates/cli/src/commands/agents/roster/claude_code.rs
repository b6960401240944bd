//! Claude Code: told by its environment. Any `claude-*` name means the model that is loaded; the
//! header that changes with every request is left off, as is what else goes to its maker; the
//! window is the server's, so that long conversations are shortened in time.

use super::{Agent, Wire};

pub const AGENT: Agent = Agent {
    name: "claude-code",
    title: "Claude Code",
    program: "claude",
    install: "npm install -g @anthropic-ai/claude-code",
    wire: Wire::Messages,
    reads: Some("Read"),
    shape: include_str!("shapes/claude-code.json"),
    variables: &[
        ("ANTHROPIC_BASE_URL", "{url}"),
        ("ANTHROPIC_AUTH_TOKEN", "{key}"),
        ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0"),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("CLAUDE_CODE_AUTO_COMPACT_WINDOW", "{context}"),
        ("API_TIMEOUT_MS", "3600000"),
    ],
    arguments: &[],
    before: &[],
};
