//! Tags: one look over a template's source before the parser sees it.
//!
//! The parser and the compiler of expressions recurse, so what could exhaust a thread's stack is
//! bounded here: brackets in brackets, operators in one tag, `elif` after `elif`. Line ends become
//! `\n`, and the `{% generation %}` blocks of Transformers, which mark text for training, become
//! transparent.

use std::borrow::Cow;

const MAX_SOURCE_BYTES: usize = 1 << 20;
const MAX_NESTING: usize = 64;
const MAX_TOKENS: usize = 2_000; // in one tag; the templates of large models have below 100
const MAX_ELIFS: usize = 200;

/// The source as the parser may see it, or why it may not.
pub(super) fn prepare(source: &str) -> Result<Cow<'_, str>, String> {
    if source.len() > MAX_SOURCE_BYTES {
        let len = source.len();
        return Err(format!("it has {len} bytes; accepted: at most {MAX_SOURCE_BYTES}"));
    }
    if source.contains('\r') {
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        return prepare(&source).map(|prepared| Cow::Owned(prepared.into_owned()));
    }
    let mut prepared = Cow::Borrowed("");
    let (mut copied, mut from, mut elifs) = (0, 0, 0);
    while let Some(tag) = Tag::next(source, from)? {
        from = tag.end;
        let word = &source[tag.word.clone()];
        match word {
            "elif" => elifs += 1,
            "generation" | "endgeneration" => {
                let plain = if word == "generation" { "if true" } else { "endif" };
                prepared.to_mut().push_str(&source[copied..tag.word.start]);
                prepared.to_mut().push_str(plain);
                copied = tag.word.end;
            }
            _ => {}
        }
        if elifs > MAX_ELIFS {
            return Err(format!("more than {MAX_ELIFS} `elif`s; accepted: at most {MAX_ELIFS}"));
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(source));
    }
    prepared.to_mut().push_str(&source[copied..]);
    Ok(prepared)
}

/// `{{ … }}` or `{% word … %}`.
struct Tag {
    word: std::ops::Range<usize>, // empty unless it is a statement
    end: usize,
}

impl Tag {
    /// The first tag that starts at or after `from`; comments are skipped. An unfinished tag
    /// ends the source, as the parser has the better message for it.
    fn next(source: &str, mut from: usize) -> Result<Option<Self>, String> {
        loop {
            let Some(start) = source[from..].find('{').map(|at| from + at) else {
                return Ok(None);
            };
            from = start + 1;
            match source.as_bytes().get(from) {
                Some(b'#') => match source[from..].find("#}") {
                    Some(len) => from += len + 2,
                    None => return Ok(None),
                },
                Some(b'{') => return Self::expression(source, start, from + 1..from + 1, "}}"),
                Some(b'%') => {
                    let inside = source[from + 1..].trim_start_matches(['-', '+']).trim_start();
                    let first = source.len() - inside.len();
                    let len = inside.find(|c: char| !is_word(c)).unwrap_or(inside.len());
                    return Self::expression(source, start, first..first + len, "%}");
                }
                _ => {}
            }
        }
    }

    /// Walks through a tag up to its end.
    fn expression(
        source: &str,
        start: usize,
        word: std::ops::Range<usize>,
        close: &str,
    ) -> Result<Option<Self>, String> {
        let bytes = source.as_bytes();
        let line = || 1 + source[..start].matches('\n').count();
        let (mut at, mut nesting, mut tokens) = (word.end, 0_usize, 0);
        while at < bytes.len() {
            if bytes[at..].starts_with(close.as_bytes()) && (nesting == 0 || close == "%}") {
                let end = match &source[word.clone()] {
                    "raw" => source[at..].find("endraw").map_or(bytes.len(), |len| at + len),
                    _ => at + 2,
                };
                return Ok(Some(Self { word, end }));
            }
            tokens += usize::from(!bytes[at].is_ascii_whitespace());
            at = match bytes[at] {
                quote @ (b'\'' | b'"') => string_end(bytes, at + 1, quote),
                b'(' | b'[' | b'{' => {
                    nesting += 1;
                    at + 1
                }
                b')' | b']' | b'}' => {
                    nesting = nesting.saturating_sub(1);
                    at + 1
                }
                byte if is_word(byte.into()) => {
                    let rest = &bytes[at..];
                    at + rest.iter().take_while(|&&byte| is_word(byte.into())).count()
                }
                _ => at + 1,
            };
            if nesting > MAX_NESTING {
                let line = line();
                return Err(format!("line {line}: brackets nest deeper than {MAX_NESTING}"));
            }
            if tokens > MAX_TOKENS {
                let line = line();
                return Err(format!("line {line}: a tag of more than {MAX_TOKENS} tokens"));
            }
        }
        Ok(None)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where the string that began before `at` ends.
fn string_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(source: &str, expected: &str) {
        let why = prepare(source).expect_err("refused");
        assert!(why.contains(expected), "{why}");
    }

    #[test]
    fn generation_blocks_become_transparent() {
        let same = "a{{ '{% generation %}' }}{# {% generation %} #}{% raw %}{{ {% endraw %}{{";
        assert_eq!(prepare(same), Ok(same.into()));
        assert_eq!(
            prepare("x{%- generation -%}é{% endgeneration %}y").unwrap(),
            "x{%- if true -%}é{% endif %}y"
        );
        assert_eq!(prepare("{% generation").unwrap(), "{% generation");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let parens = |n| format!("\n{{{{ {}1{} }}}}", "(".repeat(n), ")".repeat(n));
        assert!(prepare(&parens(64)).is_ok());
        refused(&parens(50_000), "line 2: brackets nest deeper than 64");
        refused(&format!("{{{{ 1{} }}}}", "+1".repeat(5_000)), "line 1: a tag of more than 2000");
        refused(&format!("{{{{ {} 1", "not ".repeat(5_000)), "line 1: a tag of more than 2000");
        refused(&"{% elif 1 %}".repeat(300), "more than 200 `elif`s");
        refused(&"x".repeat(2 << 20), "it has 2097152 bytes; accepted: at most 1048576");
        assert!(prepare(&format!("{{{{ '{}' }}}}", "(".repeat(9_000))).is_ok());
    }
}
