//! Names: nouns that say what a thing is, and no place or host that means something on one
//! machine only.

use crate::{Finding, Source};

/// Not one of them says what the thing is.
const EMPTY_NAMES: [&str; 13] = [
    "manager", "context", "state", "handler", "executor", "session", "util", "helper", "common",
    "misc", "v2", "new", "fast",
];

/// Of these, the ones that no type may carry either.
const EMPTY_TYPES: [&str; 8] =
    ["Manager", "Context", "Handler", "Executor", "Session", "Util", "Helper", "Misc"];

/// In halves, so that this file does not hold what it forbids.
const FOREIGN: [&str; 9] = [
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("registry.npm", "js.org"),
    concat!("proxy.go", "lang.org"),
    concat!("docker", ".io"),
];

/// Files that a tool writes and that name its registry by design.
const GENERATED: [&str; 1] = ["Cargo.lock"];

/// A file, folder or module is called by its noun.
pub fn modules_are_nouns(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in source.paths.iter().filter(|path| path.starts_with("crates/")) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_folder = !name.contains('.');
        let stem = name.strip_suffix(".rs").or(is_folder.then_some(name));
        if let Some(empty) = stem.and_then(empty_word) {
            let message = format!("`{empty}` says nothing: call it by what it holds");
            findings.push(Finding { path: path.clone(), line: 1, message });
        }
    }
    for (file, rust) in source.rust() {
        for (line, name) in rust.named("mod") {
            if let Some(empty) = empty_word(name) {
                let message = format!("module `{name}`: `{empty}` says nothing, find the noun");
                findings.push(file.finding(line, message));
            }
        }
    }
    findings
}

fn empty_word(name: &str) -> Option<&str> {
    name.split(['_', '-']).find(|word| {
        EMPTY_NAMES.contains(word)
            || word.strip_suffix('s').is_some_and(|w| EMPTY_NAMES.contains(&w))
    })
}

/// A type is called by its noun.
pub fn types_are_nouns(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in source.rust() {
        for keyword in ["struct", "enum", "trait", "type", "union"] {
            for (line, name) in rust.named(keyword) {
                if let Some(empty) = capitalised(name).find(|word| EMPTY_TYPES.contains(word)) {
                    let message = format!("type `{name}`: `{empty}` says nothing, find the noun");
                    findings.push(file.finding(line, message));
                }
            }
        }
    }
    findings
}

/// The words of a name in camel case.
fn capitalised(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let end =
            rest.char_indices().skip(1).find(|c| c.1.is_uppercase()).map_or(rest.len(), |c| c.0);
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// Nothing names a folder of one machine or a registry's host.
pub fn nothing_is_tied_to_one_machine(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in source.files.iter().filter(|file| !GENERATED.contains(&file.name())) {
        for foreign in FOREIGN.iter().filter(|foreign| file.text.contains(**foreign)) {
            for (at, _) in file.text.lines().enumerate().filter(|row| row.1.contains(foreign)) {
                let message = format!("`{foreign}` is true on one machine only: remove it");
                findings.push(file.finding(at + 1, message));
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
    fn an_empty_module_name() {
        let check = |path, text, expected: usize| {
            assert_eq!(modules_are_nouns(&Source::of(&[(path, text)])).len(), expected, "{path}");
        };
        check("crates/a/src/cache.rs", "//! a\nmod newline;\nfn new() {}\n", 0);
        check("crates/a/src/cache_manager.rs", "", 1);
        check("crates/a/src/utils.rs", "", 1);
        check("crates/fast-a/src/lib.rs", "", 1);
        check("crates/a/src/lib.rs", "//! a\nmod attention_v2 {}\n", 1);
        check("docs/new.md", "", 0);
    }

    #[test]
    fn an_empty_type_name() {
        let text =
            "//! a\nstruct Page;\nstruct PageManager;\ntrait Contextual {}\nenum Session {}\n";
        assert_eq!(lines(types_are_nouns, &[("a.rs", text)]), [3, 5]);
    }

    #[test]
    fn a_folder_of_one_machine() {
        let text = format!("a\nsee {}x/y\n", FOREIGN[1]);
        assert_eq!(lines(nothing_is_tied_to_one_machine, &[("a.md", &text)]), [2]);
        assert_eq!(lines(nothing_is_tied_to_one_machine, &[("a/Cargo.lock", &text)]), []);
    }
}
