//! Cline: told once, and it writes that into the folder which it is given.

use super::{Agent, Wire};

pub const AGENT: Agent = Agent {
    name: "cline",
    title: "Cline",
    program: "cline",
    install: "npm install -g cline",
    wire: Wire::Chat,
    reads: Some("read_files"),
    shape: include_str!("shapes/cline.json"),
    variables: &[],
    arguments: &["--data-dir", "{folder}"],
    before: &[
        "auth",
        "--data-dir",
        "{folder}",
        "-p",
        "openai",
        "-b",
        "{url}/v1",
        "-k",
        "{key}",
        "-m",
        "{model}",
    ],
};
