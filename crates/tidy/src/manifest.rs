//! A crate's manifest, as far as the rules read it: tables, keys and dependency names.

use crate::{File, Source};

/// The `Cargo.toml` of one crate or of the workspace.
#[derive(Debug)]
pub struct Manifest<'a> {
    /// The file itself.
    pub file: &'a File,
    /// Every `key = value` with the table in which it stands.
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    table: &'a str,
    key: &'a str,
    value: &'a str,
    line: usize,
}

/// A dependency and the line that names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dependency<'a> {
    /// The package, also where the key renames it.
    pub name: &'a str,
    /// Whether only tests need it.
    pub dev: bool,
    /// Counted from 1.
    pub line: usize,
}

impl<'a> Manifest<'a> {
    fn new(file: &'a File) -> Self {
        let mut entries = Vec::new();
        let mut table = "";
        for (at, line) in file.text.lines().enumerate() {
            let text = line.split(" #").next().unwrap_or(line).trim();
            if let Some(name) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
                table = name;
                entries.push(Entry { table, key: "", value: "", line: at + 1 });
            } else if let Some((key, value)) = text.split_once('=').filter(|p| is_key(p.0)) {
                entries.push(Entry { table, key: key.trim(), value: value.trim(), line: at + 1 });
            }
        }
        Self { file, entries }
    }

    /// The value of a key, as it is written.
    pub fn get(&self, table: &str, key: &str) -> Option<&'a str> {
        let mut entries = self.entries.iter();
        entries.find(|e| e.table == table && e.key == key).map(|e| e.value)
    }

    /// Everything in the dependency tables, those of single targets too.
    pub fn dependencies(&self) -> impl Iterator<Item = Dependency<'a>> + '_ {
        self.entries.iter().filter_map(dependency)
    }
}

fn is_key(text: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || "-_.\"".contains(c);
    !text.trim().is_empty() && text.trim().chars().all(part)
}

/// `[dependencies]` with `name = …`, or `[dependencies.name]`.
fn dependency<'a>(entry: &Entry<'a>) -> Option<Dependency<'a>> {
    let (head, named) = match entry.table.rsplit_once("dependencies.") {
        Some((head, name)) => (head, Some(name)),
        None => (entry.table.strip_suffix("dependencies")?, None),
    };
    if head.starts_with("workspace.") {
        return None;
    }
    let name = match named {
        Some(name) => (entry.key.is_empty()).then_some(name)?,
        None => entry.key.split('.').next().filter(|key| !key.is_empty())?,
    };
    let renamed = entry.value.split_once("package = \"").and_then(|p| p.1.split('"').next());
    Some(Dependency {
        name: renamed.unwrap_or(name),
        dev: head.ends_with("dev-"),
        line: entry.line,
    })
}

/// The manifests of the crates with their folder names, in the order of these.
pub fn crates(source: &Source) -> Vec<(&str, Manifest<'_>)> {
    let folder = |file: &'_ File| {
        let folder = file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
        (!folder.contains('/')).then_some(folder.len())
    };
    let crates = source.files.iter().filter_map(|file| Some((file, folder(file)?)));
    crates.map(|(file, len)| (&file.path[7..7 + len], Manifest::new(file))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_in_each_spelling() {
        let text = "[package]\nname = \"x\" # why\n[lints]\nworkspace = true\n[dependencies]\n\
                    a = \"1\"\nb.workspace = true\nc = { package = \"d\", version = \"1\" }\n\
                    [target.'cfg(unix)'.dependencies]\ne = \"1\"\n[dependencies.f]\n\
                    version = \"1\"\n[dev-dependencies]\ng = \"1\"\n";
        let source = Source::of(&[("crates/x/Cargo.toml", text), ("Cargo.toml", "")]);
        let crates = crates(&source);
        let (folder, manifest) = &crates[0];
        assert_eq!((crates.len(), *folder), (1, "x"));
        assert_eq!(manifest.get("package", "name"), Some("\"x\""));
        assert_eq!(manifest.get("lints", "workspace"), Some("true"));
        let found: Vec<(&str, bool)> =
            manifest.dependencies().map(|found| (found.name, found.dev)).collect();
        let normal = ["a", "b", "d", "e", "f"].map(|name| (name, false));
        assert_eq!(found, [&normal[..], &[("g", true)]].concat());
    }
}
