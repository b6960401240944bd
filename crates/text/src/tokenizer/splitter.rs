//! Splitter: cuts text into the words inside which byte pairs may merge, for Qwen2 and later.
//!
//! The published definition is one regular expression, tried from the left at every word:
//!
//! ```text
//! (?i:'s|'t|'re|'ve|'m|'ll|'d)      a contraction
//! [^\r\n\p{L}\p{N}]?\p{L}+          letters, after at most one other character
//! \p{N}                             one digit
//!  ?[^\s\p{L}\p{N}]+[\r\n]*         punctuation, after at most one space
//! \s*[\r\n]+                        blanks up to the last line end of a run
//! \s+(?!\S)                         blanks but the last, which belongs to the next word
//! \s+                               blanks
//! ```
//!
//! Every character has one class, and the class of the first two characters decides the branch,
//! so that no engine and no backtracking are needed: each character is looked at twice at most.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    LineEnd,
    Blank,
    Other,
}

impl Class {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Number,
            '\n' | '\r' => Self::LineEnd,
            ' ' | '\t' | '\x0b' | '\x0c' => Self::Blank,
            '\0'..='\x7f' => Self::Other,
            _ if c.is_whitespace() => Self::Blank,
            _ => match c.general_category_group() {
                GeneralCategoryGroup::Letter => Self::Letter,
                GeneralCategoryGroup::Number => Self::Number,
                _ => Self::Other,
            },
        }
    }
}

/// The words of `text`, in order; together they are `text`.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (word, tail) = rest.split_at(word_len(rest, first));
        rest = tail;
        Some(word)
    })
}

/// Bytes of the first word of `text`, which starts with `first`.
fn word_len(text: &str, first: char) -> usize {
    if let Some(len) = contraction_len(text) {
        return len;
    }
    let second = first.len_utf8();
    let class = Class::of(first);
    match class {
        Class::Letter => return run_end(text, second, Class::Letter),
        Class::Number => return second,
        Class::Blank | Class::Other => {
            let end = run_end(text, second, Class::Letter);
            if end > second {
                return end;
            }
        }
        Class::LineEnd => {}
    }
    if class == Class::Other || first == ' ' {
        let end = run_end(text, second, Class::Other);
        if class == Class::Other || end > second {
            return run_end(text, end, Class::LineEnd);
        }
    }
    blanks_len(text)
}

/// Bytes of the word at the start of `text`, which starts with white space.
fn blanks_len(text: &str) -> usize {
    let (mut end, mut last, mut line_end) = (text.len(), 0, None);
    for (at, c) in text.char_indices() {
        match Class::of(c) {
            Class::LineEnd => line_end = Some(at + 1),
            Class::Blank => {}
            _ => {
                end = at;
                break;
            }
        }
        last = at;
    }
    match line_end {
        Some(len) => len,
        None if end == text.len() || last == 0 => end,
        None => last,
    }
}

/// Where the run of `class` that begins at `from` ends.
fn run_end(text: &str, from: usize, class: Class) -> usize {
    let rest = &text[from..];
    rest.find(|c| Class::of(c) != class).map_or(text.len(), |len| from + len)
}

/// Bytes of an English contraction at the start of `text`. U+017F (ſ) folds to s.
fn contraction_len(text: &str) -> Option<usize> {
    let tail = text.strip_prefix('\'')?;
    if tail.starts_with('ſ') {
        return Some(1 + 'ſ'.len_utf8());
    }
    let lower = |at: usize| tail.as_bytes().get(at).map(u8::to_ascii_lowercase);
    match (lower(0)?, lower(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(words(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn splits_as_the_expression_does() {
        check("", &[]);
        check("I'll can't WE'VE 'sure", &["I", "'ll", " can", "'t", " WE", "'VE", " '", "sure"]);
        check("'ſ'LL'x'r", &["'ſ", "'LL", "'x", "'r"]);
        check("x=10;\n\ny", &["x", "=", "1", "0", ";\n\n", "y"]);
        check("   leading  and   ", &["  ", " leading", " ", " and", "   "]);
        check("a \n \n  b\t\tc", &["a", " \n \n", " ", " b", "\t", "\tc"]);
        check("\t1 2  3", &["\t", "1", " ", "2", " ", " ", "3"]);
        check(" !?\r\n\r\n x", &[" !?\r\n\r\n", " x"]);
        check("，你好 ½³", &["，你好", " ", "½", "³"]);
        check("\u{a0}\u{a0}é\u{85}", &["\u{a0}", "\u{a0}é", "\u{85}"]);
        check("e\u{301}t", &["e", "\u{301}t"]);
        check("\n'd", &["\n", "'d"]);
    }

    proptest! {
        #[test]
        fn words_cover_the_text(text in "\\PC*|[ \t\r\n'sdL1.é\u{3000}]*") {
            prop_assert_eq!(words(&text).collect::<String>(), text);
        }
    }
}
