//! OpenCode: told by a configuration in a variable, which goes beside a person's own.

use super::{Agent, Wire};

pub const AGENT: Agent = Agent {
    name: "opencode",
    title: "OpenCode",
    program: "opencode",
    install: "npm install -g opencode-ai",
    wire: Wire::Chat,
    reads: Some("read"),
    shape: include_str!("shapes/opencode.json"),
    variables: &[
        (
            "OPENCODE_CONFIG_CONTENT",
            "{\"model\":\"qwire/{model}\",\"small_model\":\"qwire/{model}\",\
             \"provider\":{\"qwire\":{\"npm\":\"@ai-sdk/openai-compatible\",\
             \"name\":\"qwire\",\"options\":{\"baseURL\":\"{url}/v1\",\"apiKey\":\"{key}\"},\
             \"models\":{\"{model}\":{\"name\":\"{model}\",\
             \"limit\":{\"context\":{context},\"output\":8192}}}}}}",
        ),
        ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
    ],
    arguments: &[],
    before: &[],
};
