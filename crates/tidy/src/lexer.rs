//! A lexer that tells Rust code from comments and literals, and finds the items the rules ask for.
//!
//! Two masks are laid over a file, each of its length with the same line breaks: one keeps code,
//! one keeps comments, and blanks stand for the rest. Strings and chars are in neither. A rule
//! that looks for a word in code then never trips over prose, and offsets are those of the file.

use crate::words;
use std::ops::RangeInclusive;

/// A Rust file under its two masks.
#[derive(Debug)]
pub struct Lexed {
    /// The file with comments and the contents of literals blanked.
    pub code: String,
    /// The file with everything but comments blanked.
    pub comments: String,
    /// The line ranges of items marked `#[cfg(test)]`, counted from 1.
    pub tests: Vec<RangeInclusive<usize>>,
}

/// A function and where it stands, lines counted from 1.
#[derive(Debug, PartialEq)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// From the line of `fn` to that of the closing brace.
    pub lines: RangeInclusive<usize>,
}

/// What a stretch of a file is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Lexed {
    /// Lays the masks.
    pub fn new(text: &str) -> Self {
        let mut code = String::with_capacity(text.len());
        let mut comments = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = ' ';
        while !rest.is_empty() {
            let (kind, len) = next(rest, before);
            let (part, after) = rest.split_at(len);
            keep(part, kind == Kind::Code, &mut code);
            keep(part, kind == Kind::Comment, &mut comments);
            before = part.chars().next_back().expect("a part is not empty");
            rest = after;
        }
        let tests = marked(&code, "#[cfg(test)]");
        Self { code, comments, tests }
    }

    /// Whether a line, counted from 1, belongs to an item marked as a test.
    pub fn in_test(&self, line: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&line))
    }

    /// The functions that have a body.
    pub fn functions(&self) -> Vec<Function<'_>> {
        let mut found = Vec::new();
        for at in words(&self.code, "fn") {
            let name = identifier(&self.code[at + 2..]);
            let Some(end) = item_end(&self.code, at) else { continue };
            if !name.is_empty() && self.code[..end].ends_with('}') {
                let lines = line_of(&self.code, at)..=line_of(&self.code, end - 1);
                found.push(Function { name, lines });
            }
        }
        found
    }

    /// The names that follow a keyword such as `struct`, with their lines.
    pub fn named(&self, keyword: &'static str) -> impl Iterator<Item = (usize, &str)> {
        let name = move |at| identifier(&self.code[at + keyword.len()..]);
        words(&self.code, keyword)
            .map(move |at| (line_of(&self.code, at), name(at)))
            .filter(|found| !found.1.is_empty())
    }
}

/// The line of a byte offset, counted from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].bytes().filter(|&byte| byte == b'\n').count()
}

fn identifier(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn keep(part: &str, wanted: bool, mask: &mut String) {
    if wanted {
        mask.push_str(part);
    } else {
        mask.extend(part.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
    }
}

/// The kind and length in bytes of what `text` begins with, never empty.
fn next(text: &str, before: char) -> (Kind, usize) {
    if text.starts_with("//") {
        (Kind::Comment, text.find('\n').unwrap_or(text.len()))
    } else if text.starts_with("/*") {
        (Kind::Comment, block_comment(text))
    } else if text.starts_with('"') {
        (Kind::Literal, quoted(text, '"'))
    } else if let Some(len) =
        raw_string(text).filter(|_| !before.is_alphanumeric() && before != '_')
    {
        (Kind::Literal, len)
    } else if is_char(text) {
        (Kind::Literal, quoted(text, '\''))
    } else {
        (Kind::Code, text.chars().next().map_or(0, char::len_utf8))
    }
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a literal between two quotes, escapes skipped.
fn quoted(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// The length of `r"…"`, `r#"…"#` and the like, if `text` begins with one.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or(text.strip_prefix("cr")).or(text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).map_or(body.len(), |at| at + close.len());
    Some(text.len() - body.len() + end)
}

/// A char literal, as against a lifetime: `'x'` or `'\…'`.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('\'') && (chars.next() == Some('\\') || chars.next() == Some('\''))
}

/// Where the item that begins at `at` ends: after its `;`, or after its matching brace.
fn item_end(code: &str, at: usize) -> Option<usize> {
    let (mut braces, mut others) = (0, 0);
    for (offset, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others -= 1,
            b'{' => braces += 1,
            b'}' => braces -= 1,
            _ => {}
        }
        if others < 0 || braces < 0 {
            return None;
        }
        if others == 0 && braces == 0 && matches!(byte, b';' | b'}') {
            return Some(offset + 1);
        }
    }
    None
}

fn marked(code: &str, mark: &str) -> Vec<RangeInclusive<usize>> {
    let range = |at| {
        let end = item_end(code, at + mark.len()).unwrap_or(code.len());
        line_of(code, at)..=line_of(code, end.saturating_sub(1))
    };
    code.match_indices(mark).map(|found| range(found.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_by_hand() {
        let check = |text: &str, code: &str, comments: &str| {
            let lexed = Lexed::new(text);
            assert_eq!(lexed.code.trim_end(), code, "code of {text}");
            assert_eq!(lexed.comments.trim(), comments, "comments of {text}");
            assert_eq!((lexed.code.len(), lexed.comments.len()), (text.len(), text.len()));
        };
        check("a // b", "a", "// b");
        check("a \"// b\" c", "a        c", "");
        check(r#"a "\"{" b"#, "a       b", "");
        check("a r#\"\"{\"# b", "a         b", "");
        check("a /* { /* { */ { */ b", "a                   b", "/* { /* { */ { */");
        check("x('{', '\\'', 'é') b", "x(   ,     ,     ) b", "");
        check("&'a str, '\\\\'", "&'a str,", "");
        check("for\"r\" br\"{\"", "for", "");
    }

    #[test]
    fn a_function_ends_with_its_brace() {
        let text = "trait T {\n    fn a(x: [u8; 4]);\n    fn b() {\n        '}';\n    }\n}\n\
                    type F = fn(u8);\nfn c() { let f = |x: fn()| x; }\n";
        let lexed = Lexed::new(text);
        let expected = [Function { name: "b", lines: 3..=5 }, Function { name: "c", lines: 8..=8 }];
        assert_eq!(lexed.functions(), expected);
    }

    #[test]
    fn tests_are_known_by_line() {
        let text = "fn a() {}\n#[cfg(test)]\nuse b::c;\nfn d() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(Lexed::new(text).tests, [2..=3, 5..=7]);
    }

    #[test]
    fn names_follow_their_keywords() {
        let lexed = Lexed::new("struct A;\n// struct B\npub struct C<T>(T);\n");
        assert_eq!(lexed.named("struct").collect::<Vec<_>>(), [(1, "A"), (3, "C")]);
    }
}
