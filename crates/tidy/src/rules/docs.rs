//! Documents: the ones that must exist, and what they point at.

use crate::{File, Finding, Source, has_extension};

const REQUIRED: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "STYLE.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];
const MAP: &str = "ARCHITECTURE.md";

/// The documents a reader looks for are there.
pub fn documents_exist(source: &Source) -> Vec<Finding> {
    let absent = REQUIRED.iter().filter(|path| !source.paths.contains(**path));
    let message = "is absent: a reader looks for it, write it";
    absent.map(|path| Finding { path: (*path).into(), line: 1, message: message.into() }).collect()
}

/// Relative links lead somewhere.
pub fn links_resolve(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in source.files.iter().filter(|file| has_extension(&file.path, "md")) {
        for (line, target) in outside_fences(file)
            .flat_map(|(line, text)| links(text).map(move |target| (line, target)))
        {
            let is_remote = target.contains("://") || target.starts_with("mailto:");
            let path = target.split('#').next().unwrap_or(target);
            if !is_remote && !path.is_empty() && !source.paths.contains(&beside(file, path)) {
                findings.push(file.finding(line, format!("`{target}` leads nowhere: mend it")));
            }
        }
    }
    findings
}

/// The files the map names in backticks are where it says.
pub fn the_map_is_true(source: &Source) -> Vec<Finding> {
    let Some(map) = source.file(MAP) else { return Vec::new() };
    let mut findings = Vec::new();
    for (line, text) in outside_fences(map) {
        for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| is_file(quoted)) {
            if !source.paths.contains(quoted) {
                let message = format!("`{quoted}` is not there: write its path from the root");
                findings.push(map.finding(line, message));
            }
        }
    }
    findings
}

/// The lines of a document, counted from 1, without those of code blocks.
fn outside_fences(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    file.text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((at + 1, line))
    })
}

/// The targets of `[text](target)`, titles cut off.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// A path as a document names it, from the root.
fn beside(file: &File, path: &str) -> String {
    let mut parts: Vec<&str> = match path.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => file.path.split('/').collect(),
    };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn is_file(quoted: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let known = ["rs", "toml", "md"].iter().any(|extension| has_extension(quoted, extension));
    quoted.contains('/') && known && quoted.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::lines;

    #[test]
    fn an_absent_document() {
        let files: Vec<(&str, &str)> = REQUIRED.iter().map(|path| (*path, "")).collect();
        assert_eq!(documents_exist(&Source::of(&files)), []);
        let absent = documents_exist(&Source::of(&files[1..]));
        assert_eq!(absent.iter().map(|found| &found.path).collect::<Vec<_>>(), ["README.md"]);
    }

    #[test]
    fn a_link_to_nowhere() {
        let text = "[a](b.md) [c](https://d.e) [f](#g)\n[h](b.md#i) ![j](../x.png \"k\")\n\
                    ```\n[l](m)\n```\n[n](absent.md)\n[o](../a)\n";
        let files = [("a/README.md", text), ("a/b.md", ""), ("x.png", "")];
        assert_eq!(lines(links_resolve, &files), [6]);
    }

    #[test]
    fn a_path_that_is_not_there() {
        let text = "`crates/a/src/lib.rs` and `crates/b.rs`\n`lib.rs`, `a/<name>.rs`\n`x/y.md`\n";
        let files = [(MAP, text), ("crates/a/src/lib.rs", "")];
        assert_eq!(lines(the_map_is_true, &files), [1, 3]);
    }
}
