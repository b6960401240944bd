//! Json: JSON, one character at a time: whether it is still valid, and how to end it.
//!
//! Control characters inside of strings are let through: models write them, and whoever prints
//! them can escape them.

const MAX_DEPTH: usize = 100;

/// A value that is being read.
#[derive(Debug)]
pub(super) struct Json {
    /// What closes each container that is open.
    open: String,
    want: Want,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Value,
    /// The first item of an array, or its end.
    Item,
    Key,
    /// The first key of an object, or its end.
    FirstKey,
    Colon,
    /// A comma or an end.
    More,
    Text {
        is_key: bool,
        escape: Escape,
    },
    Word(&'static str),
    Number(Digits),
}

/// Inside of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    No,
    Backslash,
    Hex(u8),
}

/// How far a number has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Json {
    pub(super) fn new() -> Self {
        Self { open: String::new(), want: Want::Value }
    }

    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    pub(super) fn want(&self) -> Want {
        self.want
    }

    /// What would end the value here, if it can be ended.
    pub(super) fn ending(&self) -> Option<String> {
        let ends = match self.want {
            Want::More | Want::Item | Want::FirstKey => true,
            Want::Number(digits) => digits.may_end(),
            _ => false,
        };
        ends.then(|| self.open.chars().rev().collect())
    }

    /// Takes the next character; false if it cannot stand there.
    pub(super) fn push(&mut self, c: char) -> bool {
        let blank = c.is_ascii_whitespace();
        match (self.want, c) {
            (Want::Text { is_key, escape }, _) => return self.text(is_key, escape, c),
            (Want::Number(digits), _) => {
                if let Some(next) = digits.next(c) {
                    self.want = Want::Number(next);
                    return true;
                }
                self.want = Want::More;
                return digits.may_end() && self.push(c);
            }
            (Want::Word(rest), _) => match rest.strip_prefix(c) {
                Some("") => self.want = Want::More,
                Some(rest) => self.want = Want::Word(rest),
                None => return false,
            },
            _ if blank => {}
            (Want::Value | Want::Item, '{') => return self.open('}', Want::FirstKey),
            (Want::Value | Want::Item, '[') => return self.open(']', Want::Item),
            (Want::Value | Want::Item, '"') => self.want = Want::string(false),
            (Want::Value | Want::Item, 't') => self.want = Want::Word("rue"),
            (Want::Value | Want::Item, 'f') => self.want = Want::Word("alse"),
            (Want::Value | Want::Item, 'n') => self.want = Want::Word("ull"),
            (Want::Value | Want::Item, '-') => self.want = Want::Number(Digits::Minus),
            (Want::Value | Want::Item, '0') => self.want = Want::Number(Digits::Zero),
            (Want::Value | Want::Item, '1'..='9') => self.want = Want::Number(Digits::Whole),
            (Want::Key | Want::FirstKey, '"') => self.want = Want::string(true),
            (Want::Colon, ':') => self.want = Want::Value,
            (Want::More, ',') if self.open.ends_with('}') => self.want = Want::Key,
            (Want::More, ',') if self.open.ends_with(']') => self.want = Want::Value,
            (Want::More | Want::Item | Want::FirstKey, _) if self.open.ends_with(c) => {
                self.open.pop();
                self.want = Want::More;
            }
            _ => return false,
        }
        true
    }

    fn open(&mut self, close: char, want: Want) -> bool {
        self.open.push(close);
        self.want = want;
        self.open.len() <= MAX_DEPTH
    }

    fn text(&mut self, is_key: bool, escape: Escape, c: char) -> bool {
        let escape = match (escape, c) {
            (Escape::No, '"') => {
                self.want = if is_key { Want::Colon } else { Want::More };
                return true;
            }
            (Escape::No, '\\') => Escape::Backslash,
            (Escape::Backslash, 'u') => Escape::Hex(4),
            (Escape::Backslash, c) if !"\"\\/bfnrt".contains(c) => return false,
            (Escape::Hex(_), c) if !c.is_ascii_hexdigit() => return false,
            (Escape::Hex(left), _) if left > 1 => Escape::Hex(left - 1),
            _ => Escape::No,
        };
        self.want = Want::Text { is_key, escape };
        true
    }
}

impl Want {
    fn string(is_key: bool) -> Self {
        Self::Text { is_key, escape: Escape::No }
    }
}

impl Digits {
    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }

    fn next(self, c: char) -> Option<Self> {
        Some(match (self, c) {
            (Self::Minus, '0') => Self::Zero,
            (Self::Minus | Self::Whole, '0'..='9') => Self::Whole,
            (Self::Zero | Self::Whole, '.') => Self::Point,
            (Self::Point | Self::Fraction, '0'..='9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, 'e' | 'E') => Self::Exponent,
            (Self::Exponent, '+' | '-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, '0'..='9') => Self::Power,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_valid(text: &str) -> bool {
        let mut json = Json::new();
        text.chars().all(|c| json.push(c)) && json.ending().as_deref() == Some("")
    }

    #[test]
    fn what_json_is() {
        let check = |text: &str, expected: bool| {
            assert_eq!(is_valid(text), expected, "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(text).is_ok(), expected, "{text}");
        };
        for valid in [
            r#" {"a": [1, -0.5e+7, {}], "b\n\u00e9": "\"", "": [[], null]} "#,
            "0",
            "true",
            "\"é\"",
            "-12.50E2",
        ] {
            check(valid, true);
        }
        for wrong in [
            "{a: 1}",
            "[1,]",
            "{\"a\": 1,}",
            "01",
            "1.",
            "-",
            "1e",
            "tru",
            "truex",
            "[1 2]",
            "{]",
            "\"\\x\"",
            "\"\\u12g4\"",
            "",
            "]",
            "{\"a\"}",
            "[",
            "1 2",
        ] {
            check(wrong, false);
        }
    }

    #[test]
    fn an_end_for_what_is_open() {
        let check = |text: &str, expected: Option<&str>| {
            let mut json = Json::new();
            assert!(text.chars().all(|c| json.push(c)), "{text}");
            assert_eq!(json.ending().as_deref(), expected, "{text}");
        };
        check(r#"{"a": [{"b": 1"#, Some("}]}"));
        check(r#"{"a": [{"#, Some("}]}"));
        check(r#"{"a": [1,"#, None);
        check(r#"{"a": "b"#, None);
        check(r#"{"a": -"#, None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_parser(text in r#"[\[\]{}",:0-9.e\-+tru\\ n]{0,12}"#) {
            let parsed = serde_json::from_str::<serde_json::Value>(&text);
            let huge = |error: serde_json::Error| error.to_string().contains("out of range");
            prop_assert_eq!(is_valid(&text), parsed.map_or_else(huge, |_| true));
        }
    }
}
