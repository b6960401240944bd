//! The workspace: one set of lints, few dependencies, each of them known by name and reason.

use crate::{Finding, Source, manifest, words};

const MAP: &str = "ARCHITECTURE.md";

/// What the crates may depend on, and for what. Dependencies of tests are not counted.
const DEPENDENCIES: &[(&str, &str)] = &[
    ("axum", "routes of the server"),
    ("bytemuck", "pages of keys and values, as bytes and as what they are"),
    ("bytes", "pieces of bodies, shared without copying"),
    ("clap", "the command line and its help"),
    ("cudarc", "the CUDA driver, loaded when a card is asked for"),
    ("futures-util", "streams of chunks"),
    ("getrandom", "seeds and ids that nobody can guess"),
    ("http-body-util", "bodies, bounded while they are read"),
    ("hyper", "HTTP/1.1"),
    ("hyper-util", "hyper on tokio's sockets"),
    ("indexmap", "Jinja's dicts keep the order of their keys"),
    ("libloading", "the compiler of kernels, a library of C, for those who change them"),
    ("libm", "exp, log, pow, sin and cos with the same bits everywhere"),
    ("llguidance", "grammars and schemas as masks over the vocabulary"),
    ("memmap2", "maps the model's file and its sidecar, and memory in large pages"),
    ("minijinja", "chat templates are Jinja"),
    ("minijinja-contrib", "and call Python's methods"),
    ("rustix", "space of a disk, dropping a file's cache, a write that a signal handler may make"),
    ("rustyline", "the line that is typed in a chat: editing, history, several lines"),
    ("serde", "wire formats"),
    ("serde_json", "JSON, key order preserved"),
    ("sha2", "checksums of models and sidecars, and what tells one model from another"),
    ("signal-hook", "an interrupt ends the work at its next step"),
    ("tokio", "sockets and timers of the server"),
    ("toml", "the file of the server's options"),
    ("toktrie", "the vocabulary as the trie that llguidance walks"),
    ("tower", "what a route and a connection have in common"),
    ("tracing", "what the server logs"),
    ("tracing-subscriber", "its log on stderr, to read or as JSON"),
    ("unicode-normalization", "NFC, as the official tokenizer"),
    ("unicode-properties", "letters, numbers and the rest, as the pre-tokenizer splits"),
    ("wgpu", "Vulkan, Metal and DirectX 12, where the feature of its name is on"),
];

/// Every crate takes the lints of the workspace.
pub fn lints_are_inherited(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, manifest) in manifest::crates(source) {
        if manifest.get("lints", "workspace") != Some("true") {
            let message = "lints of its own: write `[lints]` and `workspace = true`";
            findings.push(manifest.file.finding(1, message));
        }
    }
    findings
}

/// Every dependency from outside is on the list above.
pub fn dependencies_are_known(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, manifest) in manifest::crates(source) {
        for dependency in manifest.dependencies().filter(|d| !d.dev && is_foreign(d.name)) {
            if !DEPENDENCIES.iter().any(|row| row.0 == dependency.name) {
                let message = format!(
                    "`{}` is a new dependency: do without, or give its reason in DEPENDENCIES of \
                     tidy",
                    dependency.name
                );
                findings.push(manifest.file.finding(dependency.line, message));
            }
        }
    }
    findings
}

/// Every dependency from outside is named, with its reason, on the map.
pub fn dependencies_are_on_the_map(source: &Source) -> Vec<Finding> {
    let map = source.file(MAP).map_or("", |file| file.text.as_str());
    let mut findings = Vec::new();
    for (_, manifest) in manifest::crates(source) {
        for dependency in manifest.dependencies().filter(|d| !d.dev && is_foreign(d.name)) {
            if words(map, dependency.name).next().is_none() {
                let message = format!("`{}` is not in {MAP}: say there why", dependency.name);
                findings.push(manifest.file.finding(dependency.line, message));
            }
        }
    }
    findings
}

/// A panic ends one sequence, not the process.
pub fn panics_unwind(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in source.files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        for (at, line) in file.text.lines().enumerate() {
            let dense: String = line.chars().filter(|c| !c.is_whitespace()).collect();
            if dense.starts_with("panic=\"abort\"") {
                let message = "a panic would end the process: let it unwind";
                findings.push(file.finding(at + 1, message));
            }
        }
    }
    findings
}

fn is_foreign(name: &str) -> bool {
    name != "qwire" && !name.starts_with("qwire-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::lines;

    #[test]
    fn lints_of_its_own() {
        let check = |text, expected: &[usize]| {
            assert_eq!(lines(lints_are_inherited, &[("crates/a/Cargo.toml", text)]), expected);
        };
        check("[lints]\nworkspace = true\n", &[]);
        check("[package]\nname = \"a\"\n", &[1]);
        check("[dependencies]\nworkspace = true\n", &[1]);
    }

    #[test]
    fn a_stranger_and_a_friend_off_the_map() {
        let text = "[dependencies]\nqwire-gguf = \"1\"\nlibm = \"1\"\nstranger = \"1\"\n\
                    [dev-dependencies]\nproptest = \"1\"\n";
        let path = "crates/a/Cargo.toml";
        assert_eq!(lines(dependencies_are_known, &[(path, text)]), [4]);
        let map = "libm: for its bits; strangers: none";
        assert_eq!(lines(dependencies_are_on_the_map, &[(path, text), (MAP, map)]), [4]);
        assert_eq!(lines(dependencies_are_on_the_map, &[(path, text)]), [3, 4]);
    }

    #[test]
    fn a_panic_that_aborts() {
        let text = "[profile.release]\nlto = true\npanic = \"abort\"\n";
        assert_eq!(lines(panics_unwind, &[("Cargo.toml", text)]), [3]);
    }
}
