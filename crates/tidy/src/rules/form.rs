//! The form of files: how they open, how long they, their lines and their functions are, and how
//! many share a folder.

use crate::{Finding, Source, has_extension};

const MAX_COLUMNS: usize = 100;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_FILE_LINES: usize = 600;
const MAX_FOLDER_ENTRIES: usize = 12;

/// Functions that may be longer: file, function, up to how many lines, why.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// Files that may be longer: file, up to how many lines, why. A second noun is the better answer.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// Each Rust file opens with `//!`: the noun, its job, what it does not do.
pub fn files_say_what_they_are(source: &Source) -> Vec<Finding> {
    let silent = source.rust().filter(|(file, _)| !file.text.starts_with("//! "));
    silent.map(|(file, _)| file.finding(1, "open the file with `//!`: its noun and job")).collect()
}

/// No line of Rust is wider than a hundred columns.
pub fn lines_are_narrow(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, _) in source.rust() {
        for (at, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > MAX_COLUMNS {
                let message = format!("{columns} columns: break it within {MAX_COLUMNS}");
                findings.push(file.finding(at + 1, message));
            }
        }
    }
    findings
}

/// No function is longer than a page.
pub fn functions_fit_a_page(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in source.rust() {
        for function in rust.functions() {
            let lines = function.lines.clone().count();
            let known =
                |row: &&(&str, &str, usize, &str)| row.0 == file.path && row.1 == function.name;
            let limit = LONG_FUNCTIONS.iter().find(known).map_or(MAX_FUNCTION_LINES, |row| row.2);
            if lines > limit {
                let name = function.name;
                let message = format!(
                    "`{name}` has {lines} lines: name its parts and keep it within {limit}, or \
                     give the reason in LONG_FUNCTIONS of tidy"
                );
                findings.push(file.finding(*function.lines.start(), message));
            }
        }
    }
    findings
}

/// A file is one noun; a long one holds two, or has its reason here.
pub fn files_are_one_noun(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, _) in source.rust() {
        let lines = file.text.lines().count();
        let known = LONG_FILES.iter().find(|row| row.0 == file.path);
        let limit = known.map_or(MAX_FILE_LINES, |row| row.1);
        if lines > limit {
            let message = format!(
                "{lines} lines: find the second noun and keep it within {limit}, or give the \
                 reason in LONG_FILES of tidy"
            );
            findings.push(file.finding(limit + 1, message));
        }
    }
    findings
}

/// A folder of source can be read at one glance.
pub fn folders_are_small(source: &Source) -> Vec<Finding> {
    let in_source = |folder: &&String| {
        let mut parts = folder.split('/');
        parts.next() == Some("crates") && parts.nth(1) == Some("src")
    };
    let folders = source.paths.iter().filter(in_source).filter(|path| !has_extension(path, "rs"));
    let mut findings = Vec::new();
    for folder in folders {
        let inside = |path: &&String| {
            let name = path.strip_prefix(folder.as_str()).and_then(|p| p.strip_prefix('/'));
            name.is_some_and(|name| !name.contains('/'))
        };
        let entries = source.paths.iter().filter(inside).count();
        if entries > MAX_FOLDER_ENTRIES {
            let message = format!("{entries} entries: group them within {MAX_FOLDER_ENTRIES}");
            findings.push(Finding { path: folder.clone(), line: 1, message });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::lines;

    #[test]
    fn a_file_without_its_noun() {
        let files = [("a.rs", "//! A noun.\n"), ("b.rs", "// no\n"), ("c.md", "no\n")];
        assert_eq!(files_say_what_they_are(&Source::of(&files)).len(), 1);
    }

    #[test]
    fn a_wide_line() {
        let wide = |columns: usize| format!("//! a\n{}\n", "é".repeat(columns));
        assert_eq!(lines(lines_are_narrow, &[("a.rs", &wide(100))]), []);
        assert_eq!(lines(lines_are_narrow, &[("a.rs", &wide(101))]), [2]);
    }

    #[test]
    fn a_long_function() {
        let long = |inner: usize| format!("//! a\nfn a() {{\n{}}}\n", "  f('}');\n".repeat(inner));
        assert_eq!(lines(functions_fit_a_page, &[("a.rs", &long(68))]), []);
        assert_eq!(lines(functions_fit_a_page, &[("a.rs", &long(69))]), [2]);
    }

    #[test]
    fn a_long_file() {
        assert_eq!(lines(files_are_one_noun, &[("a.rs", &"//! a\n".repeat(600))]), []);
        assert_eq!(lines(files_are_one_noun, &[("a.rs", &"//! a\n".repeat(601))]), [601]);
    }

    #[test]
    fn a_crowded_folder() {
        let paths: Vec<String> = (0..13).map(|n| format!("crates/a/src/b/{n}.rs")).collect();
        let files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), "")).collect();
        assert_eq!(folders_are_small(&Source::of(&files[..12])), []);
        assert_eq!(folders_are_small(&Source::of(&files))[0].path, "crates/a/src/b");
    }
}
