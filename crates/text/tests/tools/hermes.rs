//! Transcripts of Qwen2.5 and Qwen3: JSON calls, and every slip that is known.

use super::{Case, HERMES};
use qwire_text::tools::{Ending, Part};

const CALL: &str =
    "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>";
const READ: &str = "read {\"path\": \"a\"}.\n";

#[test]
fn as_it_should_be() {
    let check = |text: &str, expected: &str| HERMES.check(text, expected);
    check(CALL, READ);
    check(&format!("Let me see.\n{CALL}\n{CALL}\n"), &format!("\"Let me see.\"\n{READ}{READ}"));
    check(
        "<tool_call>\n{\"name\": \"free\", \"arguments\": {\"é\": [1.50, {\"b\": \"</tool_call> \
         \\\"}\"}, null]}}\n</tool_call>",
        "free {\"é\": [1.50, {\"b\": \"</tool_call> \\\"}\"}, null]}.\n",
    );
    check("<tool_call>{\"name\":\"read_all\",\"arguments\":{}}</tool_call>", "read_all {}.\n");
}

#[test]
fn keys_in_any_order_and_arguments_in_any_form() {
    let check = |object: &str, expected: &str| {
        HERMES.check(&format!("<tool_call>\n{object}\n</tool_call>"), expected);
    };
    check(r#"{"arguments": {"path": "a"}, "name": "read"}"#, READ);
    check(r#"{"id": 5, "name": "read", "x": {"name": "y"}, "arguments": {"path": "a"}}"#, READ);
    check(r#"{"name": "read", "arguments": {"path": "a"}, "id": [1, "</tool_call>"]}"#, READ);
    check(r#"{"name": "read", "arguments": "{\"path\": \"a\"}"}"#, READ);
    check(r#"{"arguments": "{\"path\": \"a\"}", "name": "read"}"#, READ);
    check(r#"{"name": "read_all"}"#, "read_all {}.\n");
    check(r#"{"name": "read_all", "arguments": null}"#, "read_all {}.\n");
    check("{\n  \"name\": \"read\",\n  \"arguments\": {\"path\": \"a\"}\n}", READ);
    check(r#"{"name": "r\u0065ad", "arguments": {"path": "a"}}"#, READ);
}

#[test]
fn slips_that_are_put_right() {
    let check = |text: &str, expected: &str| HERMES.check(text, expected);
    let object = "{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}";
    check(&format!("<tool_call>\n{object}"), READ);
    check(&format!("<tool_call>\n{object}\n{object}\n</tool_call>"), &READ.repeat(2));
    check(&format!("<tool_call>\n{object}}}\n</tool_call>"), &format!("{READ}extra_brace*1"));
    check(&format!("{CALL}\n</tool_call>"), &format!("{READ}orphan_closer*1"));
    for end in ["}", "", "}\n</tool_call>", "</tool_call>\n"] {
        check(
            &format!("<tool_call>\n{{\"name\": \"read\", \"arguments\": {{\"path\": \"a\"{end}"),
            &format!("{READ}unclosed_call*1"),
        );
    }
    check(
        "<tool_call>\n{\"name\": \"free\", \"arguments\": {\"a\": [{\"b\": 1\n</tool_call>",
        "free {\"a\": [{\"b\": 1\n}]}.\nunclosed_call*1",
    );
    check(
        "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"content\": \"a\n\tb\"}}",
        "write {\"content\": \"a\\n\\tb\"}.\nraw_control*2",
    );
    check("<tool_call>\n{\"name\": \"read_all\"", "read_all {}.\nunclosed_call*1");
}

#[test]
fn what_is_not_a_call_is_text() {
    for text in [
        "{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}",
        "\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n",
        "The `<tool_call>` tag.",
        "<tool_call>\n{\"name\": \"delete\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>",
        "<tool_call>\n{\"arguments\": {\"path\": \"a\"}, \"name\": \"delete\"}\n</tool_call>",
        "<tool_call>\n{\"arguments\": {\"path\": \"a\"}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"read\", \"arguments\": [1]}\n</tool_call>",
        "<tool_call>\n{\"name\": \"read\", \"arguments\": 5}\n</tool_call>",
        "<tool_call>\n{\"name\": \"read\", \"arguments\": \"a\"}\n</tool_call>",
        "<tool_call>\n{\"name\": 5, \"arguments\": {}}\n</tool_call>",
        "<tool_call>\n{name: read}\n</tool_call>",
        "<tool_call>\n{\"name\": \"read",
        "<tool_call>\n{",
        "<tool_call>\n{\"a\": 1",
        "<tool_call>\n{\"name\": \"read\", \"arguments\": \n</tool_call>\n",
        "<tool_call>\n<function=read>\n</function>\n</tool_call>",
        "<tool_call> \n",
    ] {
        HERMES.is_text(text);
    }
    HERMES.check(
        &format!("<tool_call>\n{{x\n</tool_call>\n{CALL}"),
        &format!("\"<tool_call>\\n{{x\\n</tool_call>\"\n{READ}not_a_call*1"),
    );
    HERMES.check(
        "<tool_call>\n{\"name\": \"read_all\"}\n{\"a\": 1}\n</tool_call>",
        "read_all {}.\n\"\\n{\\\"a\\\": 1}\\n</tool_call>\"\nnot_a_call*1",
    );
}

#[test]
fn a_call_that_goes_wrong_never_ends() {
    let check = |text: &str, expected: &str| HERMES.check(text, expected);
    let start = "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"content\": ";
    check(
        &format!("{start}\"say \"hi\" now\"}}}}\n</tool_call>"),
        "write {\"content\": \"say \"\"hi\\\" now\\\"}}\\n</tool_call>\"\nbroken*1",
    );
    check(&format!("{start}\n</tool_call>"), "write {\"content\": \nbroken*1");
    check(&format!("{start}\"unfinished"), "write {\"content\": \"unfinishedbroken*1");
}

#[test]
fn a_cut_leaves_what_was_there() {
    let cut = Case { ending: Ending::Cut, ..HERMES };
    let check = |text: &str, expected: &str| cut.check(text, expected);
    let start = "<tool_call>\n{\"name\": \"write\", \"arguments\": ";
    check(&format!("{start}{{\"content\": \"let a\\"), "write {\"content\": \"let a\\");
    check(&format!("{start}{{\"content\": {{}}"), "write {\"content\": {}");
    check(&format!("{start}{{\"content\": {{}}}}"), "write {\"content\": {}}.\n");
    check(start, "write ");
    check("<tool_call>{<", "\"<tool_call>{<\"\n");
    check("<tool_call>\n{\"name\": \"wri", "\"<tool_call>\\n{\\\"name\\\": \\\"wri\"\n");
}

#[test]
fn arguments_come_at_once() {
    let mut reader = HERMES.reader();
    let mut check = |text: &str, parts: &[Part]| assert_eq!(reader.push(text), parts, "{text}");
    let json = |json: &str| Part::CallArguments { index: 0, fragment: json.into() };
    check("<tool_call>\n{\"name\": \"write\"", &[]);
    check(
        ", \"arguments\": {\"a",
        &[Part::CallStart { index: 0, name: "write".into() }, json("{\"a")],
    );
    check("\": \"b</tool_call", &[json("\": \"b</tool_call")]);
    check("\", ", &[json("\", ")]);
    check("\"c\": 1", &[json("\"c\": 1")]);
    check("}", &[json("}"), Part::CallEnd { index: 0 }]);
    check("}\n</tool_", &[]);
    check("call>\nSo", &[Part::Text("\nSo".into())]);
}
