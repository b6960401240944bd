//! Tests about the source itself: the rules of STYLE.md as functions from the repository to what
//! breaks them. `tests/source.rs` runs each; the tests beside a rule show it failing.
//!
//! The rules read text, not types: a lexer that tells code from comments and strings is enough
//! for them, and needs no dependency.

pub mod lexer;
pub mod manifest;
pub mod rules;

use lexer::Lexed;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];
/// What is in or under one of these is there to test.
const TEST_PARTS: [&str; 4] = ["tests", "tests.rs", "fuzz", "benches"];
/// Data beyond this size is not read; its path counts all the same.
const LARGEST_TEXT_BYTES: u64 = 4 << 20;

/// The repository: every path, and the text of every file that is text.
#[derive(Debug, Default)]
pub struct Source {
    /// Files and folders, relative to the root, with `/` between parts.
    pub paths: BTreeSet<String>,
    /// The text files in the order of their paths.
    pub files: Vec<File>,
}

/// One text file.
#[derive(Debug)]
pub struct File {
    /// Relative to the root, with `/` between parts.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Code and comments apart, if it is Rust.
    pub rust: Option<Lexed>,
}

/// One breach of a rule.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// The file, relative to the root.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// What was found and how to fix it.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl Source {
    /// Reads the repository at `root`.
    pub fn read(root: &Path) -> Self {
        let mut source = Self::default();
        source.walk(root, "");
        source.files.sort_by(|a, b| a.path.cmp(&b.path));
        source
    }

    /// A repository of these paths and texts, for the tests of the rules.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut source = Self::default();
        for (path, text) in files {
            for (at, _) in path.match_indices('/') {
                source.paths.insert(path[..at].to_owned());
            }
            source.add((*path).to_owned(), (*text).to_owned());
        }
        source
    }

    fn walk(&mut self, folder: &Path, prefix: &str) {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let entry = entry.expect("a folder lists its entries");
            let name = entry.file_name().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            // A link is not followed: what it names is read where it lies, or is not ours.
            let Ok(kind) = entry.metadata() else { continue };
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{path}/"));
                self.paths.insert(path);
            } else if kind.is_file() && kind.len() <= LARGEST_TEXT_BYTES {
                match fs::read_to_string(entry.path()) {
                    Ok(text) => self.add(path, text),
                    Err(_) => drop(self.paths.insert(path)),
                }
            } else {
                self.paths.insert(path);
            }
        }
    }

    fn add(&mut self, path: String, text: String) {
        let rust = has_extension(&path, "rs").then(|| Lexed::new(&text));
        self.paths.insert(path.clone());
        self.files.push(File { path, text, rust });
    }

    /// The text file at this path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust files with their code and comments.
    pub fn rust(&self) -> impl Iterator<Item = (&File, &Lexed)> {
        self.files.iter().filter_map(|file| Some((file, file.rust.as_ref()?)))
    }
}

impl File {
    /// A finding in this file; `line` counts from 1.
    pub fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether the whole file is a test.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| TEST_PARTS.contains(&part))
    }

    /// The folder under `crates/` to which the file belongs.
    pub fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split_once('/').map(|parts| parts.0)
    }
}

/// Whether the path ends in `.extension`.
pub fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// The byte offsets at which `word` stands alone in `text`.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|found| found.0).filter(move |&at| {
        !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_alone() {
        let check =
            |text, expected: &[usize]| assert_eq!(words(text, "fn").collect::<Vec<_>>(), expected);
        check("fn a() { b(fn) }", &[0, 11]);
        check("fns _fn fn_ afn", &[]);
    }

    #[test]
    fn folders_are_paths_too() {
        let source = Source::of(&[("a/b/c.rs", "//! c\n"), ("d.md", "")]);
        assert_eq!(source.paths.iter().collect::<Vec<_>>(), ["a", "a/b", "a/b/c.rs", "d.md"]);
        assert_eq!(source.rust().count(), 1);
    }
}
