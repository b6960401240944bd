//! Leftovers: what is unfinished, switched off, pasted in or commented out does not stay.

use crate::lexer::line_of;
use crate::{File, Finding, Source, words};

/// In code: what is found, and what to do instead. Each begins at a word.
const UNFINISHED: [(&str, &str); 5] = [
    ("todo!(", "finish it, or return an error that says what is missing"),
    ("unimplemented!(", "finish it, or return an error that says what is missing"),
    ("dbg!(", "remove it, or log it"),
    ("include!(", "make it a module: code is never pasted in"),
    ("#[ignore", "let the test run, or say aloud that it skips and why"),
];

/// In comments, in halves, so that a search for them finds none here.
const NOTES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Code is finished: no placeholder, no debris, no test switched off.
pub fn code_is_finished(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in source.rust() {
        for (pattern, remedy) in UNFINISHED {
            for (at, _) in rust.code.match_indices(pattern) {
                if !rust.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    let message = format!("`{pattern}`: {remedy}");
                    findings.push(file.finding(line_of(&rust.code, at), message));
                }
            }
        }
    }
    findings
}

/// Comments hold no notes to oneself.
pub fn comments_hold_no_notes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in source.rust() {
        for note in NOTES {
            for at in words(&rust.comments, note) {
                let message = format!("{note}: do it, or open an issue and leave the code silent");
                findings.push(file.finding(line_of(&rust.comments, at), message));
            }
        }
    }
    findings
}

/// Code that is not needed is deleted, not commented out. Examples in documentation are code.
pub fn no_code_is_commented_out(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in source.rust() {
        let lines = rust.comments.lines().enumerate();
        let plain = lines.filter_map(|(at, line)| Some((at, line.trim().strip_prefix("//")?)));
        for (at, text) in plain.filter(|row| !row.1.starts_with(['/', '!'])) {
            if text.trim_end().ends_with([';', '{', '}']) {
                findings.push(commented_out(file, at + 1));
            }
        }
    }
    findings
}

fn commented_out(file: &File, line: usize) -> Finding {
    let message = "this reads like code in a comment: delete it, or end the sentence with a word";
    file.finding(line, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::lines;

    #[test]
    fn unfinished_code() {
        let check = |line: &str, expected: usize| {
            let text = format!("//! {line}\n\"{line}\"\n{line}\n");
            let found = code_is_finished(&Source::of(&[("a.rs", &text)]));
            assert_eq!(found.len(), expected, "{line}");
        };
        for (pattern, _) in UNFINISHED {
            check(pattern, 1);
        }
        check("my_dbg!(x)", 0);
        check("include_str!(x)", 0);
    }

    #[test]
    fn a_note_to_oneself() {
        for note in NOTES {
            let text = format!("//! a\nlet x = \"{note}\"; // {note}: later\nlet {note}S = 1;\n");
            assert_eq!(lines(comments_hold_no_notes, &[("a.rs", &text)]), [2], "{note}");
        }
    }

    #[test]
    fn code_in_a_comment() {
        let text =
            "//! a;\n/// b();\n// c();\n// if d {\n// prose, e; f\ng(); // h();\n\"// i;\"\n";
        assert_eq!(lines(no_code_is_commented_out, &[("a.rs", text)]), [3, 4, 6]);
    }
}
