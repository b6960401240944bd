//! The line budget: how much there is to read, tests aside. A number to be proud of when it
//! shrinks, and nothing fails because of it.

use crate::Source;
use std::collections::BTreeMap;

/// Lines of source per crate, without tests and blank lines.
pub fn lines_per_crate(source: &Source) -> BTreeMap<&str, usize> {
    let mut lines = BTreeMap::new();
    for (file, rust) in source.rust().filter(|(file, _)| !file.is_test()) {
        let Some(name) = file.crate_name() else { continue };
        let counts = |row: &(usize, &str)| !row.1.trim().is_empty() && !rust.in_test(row.0 + 1);
        *lines.entry(name).or_default() += file.text.lines().enumerate().filter(counts).count();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_blank_lines_are_free() {
        let text = "//! a\n\nfn b() {}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
        let source = Source::of(&[
            ("crates/a/src/lib.rs", text),
            ("crates/a/tests/d.rs", text),
            ("crates/b/build.rs", text),
        ]);
        assert_eq!(lines_per_crate(&source), BTreeMap::from([("a", 2), ("b", 2)]));
    }
}
