//! Boundaries: which crate may import which, and the few places that may ask the outside world.

use crate::lexer::line_of;
use crate::{Finding, Source, manifest, words};

const PREFIX: &str = "qwire-";
/// The package of the command line, which has no prefix.
const BINARY: (&str, &str) = ("qwire", "cli");

/// Who imports whom. An edge that is not here needs a reason before it needs a line.
const EDGES: &[(&str, &[&str])] = &[
    ("gguf", &[]),
    ("kernels", &[]),
    ("text", &["gguf"]),
    ("model", &["gguf", "kernels"]),
    ("backend-cpu", &["gguf", "kernels", "model"]),
    ("backend-gpu", &["model"]),
    ("backend-cuda", &["backend-gpu", "model"]),
    ("backend-wgpu", &["backend-gpu", "model"]),
    ("engine", &["model"]),
    ("disk", &["engine"]),
    ("server", &["engine", "text"]),
    (
        "cli",
        &[
            "backend-cpu",
            "backend-cuda",
            "backend-wgpu",
            "disk",
            "engine",
            "gguf",
            "kernels",
            "model",
            "server",
            "text",
        ],
    ),
    (
        "fuzz",
        &["backend-cpu", "cli", "disk", "engine", "gguf", "kernels", "model", "server", "text"],
    ),
    ("tidy", &[]),
    ("xtask", &[]),
];

/// Each feature is asked in one of them.
const FEATURE_FILES: [&str; 2] =
    ["crates/cli/src/commands/loading/boxed.rs", "crates/backend-wgpu/src/lib.rs"];
const ENVIRONMENT_FILE: &str = "crates/cli/src/config.rs";
/// The server's protocol, and the command line's `--json`.
const WIRE_CRATES: [&str; 2] = ["server", "cli"];

/// The crates import each other along the drawing of ARCHITECTURE.md only.
pub fn imports_follow_the_drawing(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in manifest::crates(source) {
        let Some((_, allowed)) = EDGES.iter().find(|row| row.0 == folder) else {
            let message = "a crate without a row in EDGES of tidy: say what it may import";
            findings.push(manifest.file.finding(1, message));
            continue;
        };
        for dependency in manifest.dependencies().filter(|dependency| !dependency.dev) {
            let own = (dependency.name == BINARY.0).then_some(BINARY.1);
            let imported = own.or_else(|| dependency.name.strip_prefix(PREFIX));
            let Some(imported) = imported else { continue };
            if !allowed.contains(&imported) {
                let message = format!(
                    "`{folder}` imports `{imported}`: it may import {allowed:?}; move the code to \
                     the side that may, or give the edge its reason in EDGES of tidy"
                );
                findings.push(manifest.file.finding(dependency.line, message));
            }
        }
    }
    findings
}

/// The imports between crates that only tests have, for reading.
pub fn test_imports(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, manifest) in manifest::crates(source) {
        let ours = |name: &str| name.starts_with(PREFIX);
        let tests = manifest.dependencies().filter(|d| d.dev && ours(d.name));
        found.extend(tests.map(|d| format!("{folder} -> {}", &d.name[PREFIX.len()..])));
    }
    found
}

/// `cfg(feature = …)` stands in one file; hardware is asked at run time everywhere else.
pub fn features_are_asked_in_one_file(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in
        source.rust().filter(|(file, _)| !FEATURE_FILES.contains(&file.path.as_str()))
    {
        for at in words(&rust.code, "feature") {
            if rust.code[at + "feature".len()..].trim_start().starts_with('=') {
                let message =
                    format!("a feature is asked here: move it to one of {FEATURE_FILES:?}");
                findings.push(file.finding(line_of(&rust.code, at), message));
            }
        }
    }
    findings
}

/// The environment is read in one file; everything else takes an argument. Tests are exempt.
pub fn the_environment_is_read_in_one_file(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let elsewhere = |path: &str| path != ENVIRONMENT_FILE;
    for (file, rust) in source.rust().filter(|(file, _)| elsewhere(&file.path) && !file.is_test()) {
        for (at, _) in rust.code.match_indices("env::var") {
            let line = line_of(&rust.code, at);
            if !rust.in_test(line) {
                let message = format!(
                    "the environment is read here: read it in {ENVIRONMENT_FILE} and pass it on"
                );
                findings.push(file.finding(line, message));
            }
        }
    }
    findings
}

/// Wire formats are derived where the wire is.
pub fn wire_formats_are_derived_at_the_wire(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let at_the_wire = |name: Option<&str>| name.is_some_and(|name| WIRE_CRATES.contains(&name));
    for (file, rust) in source.rust().filter(|(file, _)| !at_the_wire(file.crate_name())) {
        for (at, _) in rust.code.match_indices("derive(") {
            let end = rust.code[at..].find(')').map_or(rust.code.len(), |len| at + len);
            let derived = &rust.code[at..end];
            if ["Serialize", "Deserialize"].iter().any(|name| words(derived, name).count() > 0) {
                let message = format!(
                    "a wire format outside of {WIRE_CRATES:?}: convert at the edge instead"
                );
                findings.push(file.finding(line_of(&rust.code, at), message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::lines;

    #[test]
    fn an_import_against_the_drawing() {
        let text = "[dependencies]\nqwire-gguf.workspace = true\nqwire-engine.workspace = true\n\
                    libm = \"1\"\n[dev-dependencies]\nqwire-text.workspace = true\n";
        let rule = imports_follow_the_drawing;
        assert_eq!(lines(rule, &[("crates/model/Cargo.toml", text)]), [3]);
        assert_eq!(lines(rule, &[("crates/cli/Cargo.toml", text)]), []);
        assert_eq!(lines(rule, &[("crates/stranger/Cargo.toml", "")]), [1]);
        let source = Source::of(&[("crates/model/Cargo.toml", text)]);
        assert_eq!(test_imports(&source), ["model -> text"]);
    }

    #[test]
    fn a_feature_elsewhere() {
        let text = "//! cfg(feature = \"a\")\n#[cfg(all(unix, feature = \"b\"))]\n\
                    #[cfg(target_feature = \"c\")]\n#[cfg_attr(feature=\"d\", e)]\n";
        let rule = features_are_asked_in_one_file;
        assert_eq!(lines(rule, &[("crates/model/src/lib.rs", text)]), [2, 4]);
        for file in FEATURE_FILES {
            assert_eq!(lines(rule, &[(file, text)]), []);
        }
    }

    #[test]
    fn the_environment_elsewhere() {
        let text =
            "//! a\nlet a = std::env::var_os(b);\n#[cfg(test)]\nmod tests {\nenv::var(c);\n}";
        let rule = the_environment_is_read_in_one_file;
        assert_eq!(lines(rule, &[("crates/a/src/lib.rs", text)]), [2]);
        assert_eq!(lines(rule, &[("crates/a/tests/b.rs", text)]), []);
        assert_eq!(lines(rule, &[(ENVIRONMENT_FILE, text)]), []);
    }

    #[test]
    fn a_wire_format_elsewhere() {
        let text =
            "//! a\n#[derive(Clone, Copy)]\n#[derive(\n  Clone,\n  serde::Deserialize,\n)]\n";
        let rule = wire_formats_are_derived_at_the_wire;
        assert_eq!(lines(rule, &[("crates/model/src/lib.rs", text)]), [3]);
        assert_eq!(lines(rule, &[("crates/server/src/lib.rs", text)]), []);
    }
}
