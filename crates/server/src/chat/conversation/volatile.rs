//! Volatile: what clients change in the head of each request, and what becomes of it.
//!
//! A prefix is cached as far as its tokens are the same. A counter near the start of a prompt
//! costs all that follows it, in each turn. What means nothing to the model is taken out, in every
//! message alike, so that a conversation has one prefix; what may mean something is left, and
//! named where two prompts part in it.

use std::borrow::Cow;

use serde_json::Value;

/// A span.
struct Span {
    name: &'static str,
    /// What stands in its line, in small letters.
    signs: &'static [&'static str],
    /// Takes it out of a text; nothing where it stays.
    strip: Option<fn(&str) -> Option<String>>,
}

/// Every span that is known.
const SPANS: [Span; 7] = [
    // Claude Code's first system block: its version, and a checksum of the request.
    Span {
        name: "attribution",
        signs: &["x-anthropic-billing-header", "cch="],
        strip: Some(attribution),
    },
    // How much of the context is left, anew in each request.
    Span {
        name: "countdown",
        signs: &["<total_tokens>", "tokens left", "token usage"],
        strip: Some(countdown),
    },
    Span {
        name: "date",
        signs: &["date", "today", "current time", "timestamp", "o'clock"],
        strip: None,
    },
    Span {
        name: "work tree",
        signs: &["git status", "gitstatus", "recent commits", "current branch", "staged"],
        strip: None,
    },
    Span { name: "folder", signs: &["working directory", "cwd", "workspace"], strip: None },
    Span {
        name: "id",
        signs: &["session", "request id", "request_id", "uuid", "nonce", "trace"],
        strip: None,
    },
    Span { name: "memory", signs: &["memory usage", "cpu", "battery", "uptime"], strip: None },
];

/// The roles whose texts are looked at: what tools and models said is theirs.
const ROLES: [&str; 2] = ["system", "user"];

const HEADER: &str = "x-anthropic-billing-header:";
const COUNTDOWN: (&str, &str) = ("<total_tokens>", "</total_tokens>");

/// The messages without the spans that are taken out, and the names of those that were there.
pub fn settled(messages: &[Value]) -> (Cow<'_, [Value]>, Vec<&'static str>) {
    let (mut settled, mut names) = (Cow::Borrowed(messages), Vec::new());
    let mut emptied = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str();
        let Some(text) = message["content"].as_str() else { continue };
        if role.is_none_or(|role| !ROLES.contains(&role)) {
            continue;
        }
        let mut left = Cow::Borrowed(text);
        for span in &SPANS {
            if let Some(text) = span.strip.and_then(|strip| strip(&left)) {
                left = Cow::Owned(text);
                names.push(span.name);
            }
        }
        if let Cow::Owned(text) = left {
            emptied.extend(text.trim().is_empty().then_some(at));
            settled.to_mut()[at]["content"] = text.into();
        }
    }
    // What held nothing else was a message for its sake.
    emptied.into_iter().rev().for_each(|at| drop(settled.to_mut().remove(at)));
    (settled, names)
}

/// The span in which two prompts part, by the lines around the fork.
pub fn name_of(lines: [&str; 2]) -> Option<&'static str> {
    let lines = lines.map(str::to_lowercase);
    let signs =
        |span: &&Span| span.signs.iter().any(|sign| lines.iter().any(|line| line.contains(sign)));
    let named = SPANS.iter().find(signs).map(|span| span.name);
    named.or_else(|| lines.iter().all(|line| has_date(line)).then_some("date"))
}

/// Whether a line has a date in it as computers write one.
fn has_date(line: &str) -> bool {
    let shape = |text: &[u8]| {
        let digit = |at: usize| text[at].is_ascii_digit();
        text[4] == b'-' && text[7] == b'-' && [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit)
    };
    line.as_bytes().windows(10).any(shape)
}

/// The whole of the header, which is a line, and the blank after it.
fn attribution(text: &str) -> Option<String> {
    let begins = |line: &str| {
        line.get(..HEADER.len()).is_some_and(|start| start.eq_ignore_ascii_case(HEADER))
    };
    without_lines(text, begins)
}

/// Countdowns on lines of their own; in a sentence it is somebody's text.
fn countdown(text: &str) -> Option<String> {
    let counts = |line: &str| {
        let inside = line.trim().strip_prefix(COUNTDOWN.0)?.strip_suffix(COUNTDOWN.1)?;
        let number = inside.strip_suffix(" tokens left")?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit() || b",._ ".contains(&byte));
        (digits && !number.is_empty()).then_some(())
    };
    without_lines(text, |line| counts(line).is_some())
}

/// A text without these lines; a blank line that stood behind one goes with it.
fn without_lines(text: &str, goes: impl Fn(&str) -> bool) -> Option<String> {
    let (mut left, mut gone, mut after) = (Vec::new(), false, false);
    for line in text.split('\n') {
        let blank = line.trim().is_empty();
        if goes(line) {
            (gone, after) = (true, true);
        } else if !(after && blank) {
            left.push(line);
            after = false;
        }
    }
    let at_the_end = after;
    gone.then(|| {
        let text = left.join("\n");
        if at_the_end { text.trim_end_matches('\n').to_owned() } else { text }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(role: &str, text: &str, expected: &str, names: &[&str]) {
        let messages =
            [json!({ "role": role, "content": text }), json!({ "role": "user", "content": "x" })];
        let (found, named) = settled(&messages);
        let shown = found.iter().find(|message| message["role"] == role);
        assert_eq!(shown.map_or("", |message| message["content"].as_str().unwrap()), expected);
        assert_eq!(named, names);
        assert!(names.is_empty() || matches!(found, Cow::Owned(_)));
    }

    #[test]
    fn what_changes_in_each_request_goes() {
        let header = "x-anthropic-billing-header: cc_version=2.1.37.a; cch=1f2e3;";
        let one = ["attribution"];
        check("system", &format!("{header}\n\nYou are."), "You are.", &one);
        check("system", &format!("{header}\nYou are.\n"), "You are.\n", &one);
        check("system", header, "", &one);
        check("system", &format!("You are.\n\n{header}"), "You are.", &one);
        let reminder = format!("<system-reminder>\n{header}\n\nBe kind.\n</system-reminder>");
        let kept = "<system-reminder>\nBe kind.\n</system-reminder>";
        check("user", &reminder, kept, &one);
        check(
            "system",
            "Never print x-anthropic-billing-header: a",
            "Never print x-anthropic-billing-header: a",
            &[],
        );
        check("assistant", header, header, &[]);
        check("tool", header, header, &[]);
    }

    #[test]
    fn countdowns_go_where_they_stand_alone() {
        let left = "<total_tokens>184,201 tokens left</total_tokens>";
        check("user", &format!("Go on.\n{left}"), "Go on.", &["countdown"]);
        check("user", &format!("{left}\n\nGo on."), "Go on.", &["countdown"]);
        check("system", &format!("A\n  {left}  \nB"), "A\nB", &["countdown"]);
        let both = format!("x-anthropic-billing-header: cch=0;\n\nA\n{left}\nB");
        check("system", &both, "A\nB", &["attribution", "countdown"]);
        for text in [
            format!("What does {left} mean?"),
            "<total_tokens>many tokens left</total_tokens>".into(),
            "<total_tokens>5 tokens left".into(),
            "<total_tokens> tokens left</total_tokens>".into(),
        ] {
            check("user", &text, &text, &[]);
        }
        check("tool", left, left, &[]);
    }

    #[test]
    fn a_fork_has_a_name() {
        for (lines, name) in [
            (["cch=1;", "cch=2;"], Some("attribution")),
            (["Today's date: Monday", "Today's date: Tuesday"], Some("date")),
            (["2026-01-31", "on 2026-02-01"], Some("date")),
            (["gitStatus: clean", "gitStatus: dirty"], Some("work tree")),
            (["Session: a", "Session: b"], Some("id")),
            (["Why?", "How?"], None),
            (["2026-01-31", "so"], None),
        ] {
            assert_eq!(name_of(lines), name, "{lines:?}");
        }
    }
}
