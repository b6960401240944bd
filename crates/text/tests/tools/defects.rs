//! Every slip that is known, in every combination: how a call is opened, what its value is, how it
//! is closed, and what stands around it. Whatever of it is missing, the call is the same, and each
//! text is read whole, by character, and cut at every place.

use super::{CODER, Case, HERMES};
use qwire_text::tools::{Ending, Part};
use serde_json::Value;

/// Values that look like structure, and are none where they stand.
const VALUES: [&str; 14] = [
    "src/main.rs",
    "",
    "  indented\n\n    more\n",
    "if (a < b && c > d) { x <<= 1; }",
    "<b>bold</b> & \"quoted\" \\ back",
    "a </parameter> b",
    "</function> in a line",
    "say <tool_call> and </tool_call>",
    "{\"name\": \"read\", \"arguments\": {}}",
    "é😀\t\u{7f}",
    "<think>no</think>",
    "null",
    "x <function=read> y",
    "line\r\nline",
];

/// The path in the arguments of the only call, and all text around it.
fn outcome(case: Case, text: &str) -> (Vec<Value>, String) {
    let found = case.read_every_way(text);
    let mut calls: Vec<String> = Vec::new();
    let (mut ends, mut words) = (0, String::new());
    for part in found.parts {
        match part {
            Part::CallStart { name, .. } => {
                assert_eq!(name, "write");
                calls.push(String::new());
            }
            Part::CallArguments { index, fragment } => calls[index] += &fragment,
            Part::CallEnd { .. } => ends += 1,
            Part::Text(text) => words += &text,
            Part::Reasoning(text) => panic!("thoughts {text:?}"),
        }
    }
    assert_eq!(ends, calls.len(), "every call ends: {text}");
    let value = |json: &String| serde_json::from_str::<Value>(json).expect("JSON");
    (calls.iter().map(value).map(|call| call["content"].clone()).collect(), words)
}

#[track_caller]
fn check(case: Case, text: &str, content: &str, words: &str) {
    let (calls, found) = outcome(case, text);
    assert_eq!(calls, [Value::from(content)], "of {text:?}");
    assert_eq!(found, words, "of {text:?}");
}

#[test]
fn qwen_coder_in_every_combination() {
    let openers = ["<tool_call>\n", "", "<tool_call>"];
    let closers = [
        "\n</parameter>\n</function>\n</tool_call>",
        "\n</parameter>\n</function>",
        "\n</parameter>\n</tool_call>",
        "\n</parameter>",
        "\n</parameter></function></tool_call>",
        "\n</parameter>\n</function>\n</tool_call>\n</tool_call>",
        "\n</function>\n</tool_call>",
        "",
    ];
    let mut cases = 0;
    for (lead, words) in [("", ""), ("I will write.\n\n", "I will write.")] {
        for value in VALUES {
            for opener in openers {
                for closer in closers {
                    let body = format!("<function=write>\n<parameter=content>\n{value}");
                    let text = format!("{lead}{opener}{body}{closer}");
                    // At the very end one line break is the value's frame.
                    let content = if closer.is_empty() {
                        value.strip_suffix('\n').unwrap_or(value)
                    } else {
                        value
                    };
                    check(CODER, &text, content, words);
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 300, "{cases}");
    println!("{cases} cases");
}

#[test]
fn hermes_in_every_combination() {
    let mut cases = 0;
    for (lead, words) in [("", ""), ("I will write.\n\n", "I will write.")] {
        for value in VALUES {
            let json = Value::from(value).to_string();
            let arguments = format!("{{\"content\": {json}}}");
            let inside = [
                format!("{{\"name\": \"write\", \"arguments\": {arguments}}}"),
                format!("{{\"arguments\": {arguments}, \"name\": \"write\"}}"),
                format!("{{\"name\":\"write\",\"arguments\":{arguments}}}"),
                format!(
                    "{{\"name\": \"write\", \"arguments\": {}}}",
                    Value::from(arguments.clone())
                ),
                format!("{{\"id\": 1, \"name\": \"write\", \"arguments\": {arguments}}}"),
            ];
            for object in inside {
                for closer in [
                    "\n</tool_call>",
                    "</tool_call>",
                    "",
                    "}\n</tool_call>",
                    "\n</tool_call>\n</tool_call>",
                ] {
                    let text = format!("{lead}<tool_call>\n{object}{closer}");
                    check(HERMES, &text, value, words);
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 300, "{cases}");
    println!("{cases} cases");
}

/// The same calls cut off anywhere: nothing is completed that was not written.
#[test]
fn what_is_cut_is_never_completed() {
    let coder = "<tool_call>\n<function=write>\n<parameter=content>\nlet a;\n</parameter>\n\
                 <parameter=path>\nb\n</parameter>\n</function>\n</tool_call>";
    let hermes = "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"content\": \"let a;\", \
                  \"path\": \"b\"}}\n</tool_call>";
    for (case, text, last) in [(CODER, coder, "</function>"), (HERMES, hermes, "\"b\"}")] {
        let case = Case { ending: Ending::Cut, ..case };
        let whole = text.find(last).unwrap() + last.len();
        for at in 0..=text.len() {
            let found = case.read([&text[..at]]);
            let ended = found.parts.iter().any(|part| matches!(part, Part::CallEnd { .. }));
            assert_eq!(ended, at >= whole, "cut at {at} of {text}");
        }
    }
}
