//! GBNF: llama.cpp's grammar notation, translated to Lark.
//!
//! ```text
//! root  ::= "yes" | item{2,3} # a comment
//! item  ::= [^a-z\n] ( "x" root )? .
//! ```
//!
//! Every rule becomes a rule of a name that Lark accepts; a class and `.` become regular
//! expressions of one character.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Refused;
use crate::error::excerpt;

/// Names of the rules: whether each is defined, where it was first used.
#[derive(Default)]
struct Reader<'a> {
    rest: &'a str,
    line: usize,
    names: BTreeMap<&'a str, (bool, usize)>,
    lark: String,
}

/// The same language in Lark, which begins with the rule `root`.
pub(super) fn to_lark(text: &str) -> Result<String, Refused> {
    let mut reader = Reader { rest: text, line: 1, ..Reader::default() };
    reader.skip(true);
    while !reader.rest.is_empty() {
        reader.rule()?;
        reader.skip(true);
    }
    let missing = reader.names.iter().find(|(_, (defined, _))| !defined);
    if let Some((name, (_, line))) = missing {
        let why = format!("GBNF, line {line}: no rule is named \"{}\"", excerpt(name, 40));
        return Err(Refused::because(why));
    }
    if !reader.names.contains_key("root") {
        return Err(Refused::because("GBNF: no rule is named \"root\", with which a text begins"));
    }
    Ok(format!("start: {}\n{}", spelled("root"), reader.lark))
}

/// A rule's name as Lark accepts it, different for different names.
fn spelled(name: &str) -> String {
    let mut spelled = String::from("r_");
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => spelled.push(c),
            _ => write!(spelled, "_{:x}_", u32::from(c)).expect("a string grows"),
        }
    }
    spelled
}

impl<'a> Reader<'a> {
    fn refuse<T>(&self, accepted: &str) -> Result<T, Refused> {
        let found = match self.rest.chars().next() {
            Some(_) => format!("\"{}\"", excerpt(self.rest.lines().next().unwrap_or("\n"), 20)),
            None => "the end".into(),
        };
        Err(Refused::because(format!("GBNF, line {}: {found}; accepted: {accepted}", self.line)))
    }

    /// Skips blanks and comments, line ends where a rule may go on after them.
    fn skip(&mut self, lines: bool) {
        while let Some(c) = self.rest.chars().next() {
            match c {
                ' ' | '\t' => self.rest = &self.rest[1..],
                '\r' | '\n' if lines => {
                    self.line += usize::from(c == '\n');
                    self.rest = &self.rest[1..];
                }
                '#' => {
                    let end = self.rest.find(['\r', '\n']).unwrap_or(self.rest.len());
                    self.rest = &self.rest[end..];
                }
                _ => break,
            }
        }
    }

    fn takes(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn name(&mut self) -> Option<&'a str> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let (name, rest) =
            self.rest.split_at(self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        (!name.is_empty()).then_some(name)
    }

    fn rule(&mut self) -> Result<(), Refused> {
        let Some(name) = self.name() else { return self.refuse("a rule, as in: name ::= ...") };
        let known = self.names.entry(name).or_insert((false, self.line));
        if std::mem::replace(&mut known.0, true) {
            return self.refuse(&format!("one rule \"{}\"", excerpt(name, 40)));
        }
        self.skip(true);
        if !self.takes("::=") {
            return self.refuse("\"::=\" after the name of a rule");
        }
        self.skip(true);
        write!(self.lark, "{}: ", spelled(name)).expect("a string grows");
        self.choices(false)?;
        self.lark.push('\n');
        if !self.rest.is_empty() && !self.rest.starts_with(['\r', '\n']) {
            return self.refuse("the line's end after a rule");
        }
        Ok(())
    }

    fn choices(&mut self, nested: bool) -> Result<(), Refused> {
        loop {
            self.sequence(nested)?;
            if !self.takes("|") {
                return Ok(());
            }
            self.skip(true);
            self.lark.push_str(" | ");
        }
    }

    fn sequence(&mut self, nested: bool) -> Result<(), Refused> {
        let start = self.lark.len();
        loop {
            match self.rest.chars().next() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.rest = &self.rest[1..];
                    self.lark.push_str(r"/(?s:.)/");
                }
                Some('(') => {
                    self.rest = &self.rest[1..];
                    self.skip(true);
                    self.lark.push('(');
                    self.choices(true)?;
                    if !self.takes(")") {
                        return self.refuse("\")\"");
                    }
                    self.lark.push(')');
                }
                _ => match self.name() {
                    Some(name) => {
                        self.names.entry(name).or_insert((false, self.line));
                        self.lark.push_str(&spelled(name));
                    }
                    None => break,
                },
            }
            self.repetition()?;
            self.lark.push(' ');
            self.skip(nested);
        }
        if self.lark.len() == start {
            self.lark.push_str("\"\" ");
        }
        Ok(())
    }

    fn repetition(&mut self) -> Result<(), Refused> {
        while let Some(sign @ ('*' | '+' | '?' | '{')) = self.rest.chars().next() {
            self.rest = &self.rest[1..];
            if sign != '{' {
                self.lark.push(sign);
                continue;
            }
            let Some((counts, rest)) = self.rest.split_once('}') else {
                return self.refuse("\"}\"");
            };
            let count = |text: &str| text.trim().parse::<u32>().ok();
            let (least, most) = match counts.split_once(',') {
                None => (count(counts), count(counts)),
                Some((least, most)) if most.trim().is_empty() => (count(least), Some(u32::MAX)),
                Some((least, most)) => (count(least), count(most)),
            };
            let (Some(least), Some(most)) = (least, most) else {
                return self.refuse("counts, as in: {2} {2,} {2,5}");
            };
            self.rest = rest;
            match most {
                u32::MAX => write!(self.lark, "{{{least},}}"),
                _ => write!(self.lark, "{{{least},{most}}}"),
            }
            .expect("a string grows");
        }
        Ok(())
    }

    fn literal(&mut self) -> Result<(), Refused> {
        self.rest = &self.rest[1..];
        let mut text = String::new();
        while !self.takes("\"") {
            text.push(self.character()?);
        }
        let json = serde_json::Value::from(text).to_string();
        self.lark.push_str(&json);
        Ok(())
    }

    /// A class, as a regular expression that names its characters by number.
    fn class(&mut self) -> Result<(), Refused> {
        self.rest = &self.rest[1..];
        let inverted = self.takes("^");
        let mut members = String::new();
        while !self.takes("]") {
            let first = self.character()?;
            let ranged = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let last = if ranged { self.takes("-").then(|| self.character()) } else { None };
            let last = last.transpose()?.unwrap_or(first);
            if first > last {
                return self.refuse("a range of characters in ascending order");
            }
            write!(members, "\\u{{{:x}}}-\\u{{{:x}}}", u32::from(first), u32::from(last))
                .expect("a string grows");
        }
        match (members.is_empty(), inverted) {
            (true, false) => return self.refuse("a class of at least one character"),
            (true, true) => self.lark.push_str(r"/(?s:.)/"),
            (false, _) => {
                let sign = if inverted { "^" } else { "" };
                write!(self.lark, "/[{sign}{members}]/").expect("a string grows");
            }
        }
        Ok(())
    }

    /// A character of a literal or a class, escaped or not.
    fn character(&mut self) -> Result<char, Refused> {
        let mut chars = self.rest.chars();
        let c = match chars.next() {
            None | Some('\r' | '\n') => return self.refuse("the end of the literal or class"),
            Some('\\') => {
                let digits = match self.rest.as_bytes().get(1) {
                    Some(b'x') => 2,
                    Some(b'u') => 4,
                    Some(b'U') => 8,
                    _ => 0,
                };
                if digits > 0 {
                    let hex = self.rest.get(2..2 + digits);
                    let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
                    let Some(c) = code.and_then(char::from_u32) else {
                        return self.refuse("hexadecimal digits of a character");
                    };
                    self.rest = &self.rest[2 + digits..];
                    return Ok(c);
                }
                match chars.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(c @ ('"' | '\\' | '[' | ']' | '-' | '^')) => c,
                    _ => {
                        return self
                            .refuse(r#"one of \n \r \t \" \\ \[ \] \xHH \uHHHH \UHHHHHHHH"#);
                    }
                }
            }
            Some(c) => c,
        };
        self.rest = chars.as_str();
        Ok(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = to_lark(text).unwrap_or_else(|why| why.message);
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn rules_become_lark() {
        check("root ::= \"a\\n\\x41\" # c\n", "start: r_root\nr_root: \"a\\nA\" \n");
        check("root ::= my-Rule*\nmy-Rule ::= \"\"", "r_root: r_my_2d__52_ule* \n");
        check("root ::= (\"a\" |\n \"b\"){2,}", "r_root: (\"a\"  | \"b\" ){2,} \n");
        check("root ::= \"a\"{3} |", "r_root: \"a\"{3,3}  | \"\" \n");
        check(
            "root ::= [^a-z\\]-] .",
            "/[^\\u{61}-\\u{7a}\\u{5d}-\\u{5d}\\u{2d}-\\u{2d}]/ /(?s:.)/",
        );
    }

    #[test]
    fn an_error_names_its_line() {
        check("root ::= a", "line 1: no rule is named \"a\"");
        check("a ::= \"x\"", "no rule is named \"root\"");
        check("root ::= \"a\"\nroot ::= \"b\"", "line 2: \" ::= \"b\"\"; accepted: one rule");
        check("root ::= \"a\"\n\n\"", "line 3: \"\"\"; accepted: a rule");
        check("root = \"a\"", "accepted: \"::=\"");
        check("root ::= [z-a]", "ascending order");
        check("root ::= []", "a class of at least one");
        check("root ::= \"a", "line 1: the end; accepted: the end of the literal");
        check("root ::= \"\\q\"", "accepted: one of \\n");
        check("root ::= \"\\u00zz\"", "hexadecimal");
        check("root ::= (\"a\"", "accepted: \")\"");
        check("root ::= \"a\"{x}", "accepted: counts");
        check("root ::= \"a\" )", "accepted: the line's end");
    }
}
