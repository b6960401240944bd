//! Transcripts of Qwen3-Coder: calls as they should be, and every slip that is known.

use super::{CODER, Case};
use qwire_text::tools::{Ending, Part};

#[test]
fn as_it_should_be() {
    CODER.check(
        "I'll read it.\n\n<tool_call>\n<function=read>\n<parameter=path>\nsrc/main.rs\n\
         </parameter>\n<parameter=limit>\n20\n</parameter>\n</function>\n</tool_call>",
        "\"I'll read it.\"\nread {\"path\": \"src/main.rs\", \"limit\": 20}.\n",
    );
    CODER.check("<tool_call>\n<function=read_all>\n</function>\n</tool_call>\n", "read_all {}.\n");
    CODER.check(
        "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n\
         </tool_call>\n<tool_call>\n<function=read>\n<parameter=path>\nb\n</parameter>\n\
         </function>\n</tool_call>",
        "read {\"path\": \"a\"}.\nread {\"path\": \"b\"}.\n",
    );
    CODER.check(
        "<tool_call>\n<function=free>\n<parameter=é k>\n{\"a\": 1}\n</parameter>\n</function>\n\
         </tool_call>",
        "free {\"é k\": \"{\\\"a\\\": 1}\"}.\n",
    );
    CODER.check(
        "<tool_call><function=read><parameter=path>a</parameter></function></tool_call>",
        "read {\"path\": \"a\"}.\n",
    );
}

#[test]
fn values_keep_all_but_one_line_break_on_either_side() {
    let check = |value: &str, json: &str| {
        CODER.check(
            &format!(
                "<tool_call>\n<function=write>\n<parameter=content>{value}</parameter>\n\
                 </function>\n</tool_call>"
            ),
            &format!("write {{\"content\": {json}}}.\n"),
        );
    };
    check("\nfn main() {\n    a < b\n}\n", r#""fn main() {\n    a < b\n}""#);
    check("\n\n\n  a  \n\n\n", r#""\n\n  a  \n\n""#);
    check("a", "\"a\"");
    check("", "\"\"");
    check("\n", "\"\"");
    check("\n\n", "\"\"");
    check("\n\n\n", "\"\\n\"");
    check("\n\r\n\t\"\\\u{1}é😀\n", r#""\r\n\t\"\\\u0001é😀""#);
    check("\nnull\n", "\"null\"");
    check("\n</param\n", "\"</param\"");
    check("\n</parameter\n", "\"</parameter\"");
    check("\n</function>\n", "\"</function>\"");
    check("\n<tool_call>\n", "\"<tool_call>\"");
    check("\na </tool_call> b\n</function>\nc\n", "\"a </tool_call> b\\n</function>\\nc\"");
    check("\n<a>\n</parameter>\n</a>\n", r#""<a>\n</parameter>\n</a>""#);
    check("\n</parameter></parameter>\nx\n", r#""</parameter></parameter>\nx""#);
    check("\n</parameter>\n<parameter=other>\nx\n", r#""</parameter>\n<parameter=other>\nx""#);
    check("\n<parameter=other>\n<parameter=content>\n", {
        r#""<parameter=other>\n<parameter=content>""#
    });
    check("\nx <parameter=path>\n", r#""x <parameter=path>""#);
    check("\n</parameter>\n<parameter=content>\nx\n", {
        r#""</parameter>\n<parameter=content>\nx""#
    });
}

#[test]
fn values_have_the_types_of_their_schema() {
    let check = |key: &str, value: &str, json: &str, repairs: &str| {
        CODER.check(
            &format!(
                "<tool_call>\n<function=run>\n<parameter={key}>\n{value}\n</parameter>\n\
                 </function>\n</tool_call>"
            ),
            &format!("run {{\"{key}\": {json}}}.\n{repairs}"),
        );
    };
    check("timeout", "72.0000", "72", "respelled*1");
    check("timeout", "1.5", "1.5", "");
    check("timeout", "soon", "\"soon\"", "mistyped*1");
    check("quiet", "True", "true", "respelled*1");
    check("quiet", "false", "false", "");
    check("quiet", "null", "null", "");
    check("env", "{\"A\": \"<b>\", \"c\": [1.50]}", "{\"A\": \"<b>\", \"c\": [1.50]}", "");
    check("env", "{'A': None}", "{\"A\":null}", "respelled*1");
    check("env", "{\"A\": \"</parameter>\"}", "{\"A\": \"</parameter>\"}", "");
    check("words", "[\n  \"a\"\n]", "[\n  \"a\"\n]", "");
    check("words", "a b", "\"a b\"", "mistyped*1");
    check("note", "null", "null", "");
    check("note", "nul", "\"nul\"", "");
    check("note", "nullify", "\"nullify\"", "");
    check("note", "", "\"\"", "");
    check("other", "5", "\"5\"", "");
}

#[test]
fn markers_that_are_missing() {
    let call = "<function=read>\n<parameter=path>\na\n</parameter>\n</function>";
    let json = "read {\"path\": \"a\"}.\n";
    let check = |text: &str, expected: &str| CODER.check(text, expected);
    check(call, &format!("{json}missing_opener*1"));
    check(
        &format!("Sure:\n\n{call}\n</tool_call>"),
        &format!("\"Sure:\"\n{json}missing_opener*1 orphan_closer*1"),
    );
    check(&format!("<tool_call>\n{call}\n{call}\n</tool_call>"), &json.repeat(2));
    check(&format!("<tool_call>\n{call}{call}\n</tool_call>"), &json.repeat(2));
    check(&format!("<tool_call>\n{call}\n<tool_call>\n{call}"), &json.repeat(2));
    check(
        &format!("<tool_call>\n{call}\n</tool_call>\n</tool_call>\n"),
        &format!("{json}orphan_closer*1"),
    );
    check(&format!("{call}\n\n{call}"), &format!("{json}{json}missing_opener*2"));
    let unclosed = |end: &str| format!("<tool_call>\n<function=read>\n<parameter=path>\na{end}");
    for end in ["", "\n", "\n</tool_call>", "\n</tool_call>\n"] {
        check(&unclosed(end), &format!("{json}unclosed_value*1 unclosed_call*1"));
    }
    for end in ["\n</function>", "\n</function>\n</tool_call>", "\n</function>\n"] {
        check(&unclosed(end), &format!("{json}unclosed_value*1"));
    }
    for end in ["\n</parameter>", "\n</parameter>\n", "\n</parameter>\n</tool_call>"] {
        check(&unclosed(end), &format!("{json}unclosed_call*1"));
    }
    for end in ["\n</parameter>\n</func", "\n</parameter>\n<parameter=li"] {
        check(&unclosed(end), &format!("{json}unclosed_call*1"));
    }
    check(
        &unclosed("\n<parameter=limit>\n5\n</function>\n</tool_call>"),
        "read {\"path\": \"a\", \"limit\": 5}.\nunclosed_value*2",
    );
    check("<tool_call>\n<function=read>", "read {}.\nunclosed_call*1");
    check("<tool_call>\n<function=read>\n</tool_call>", "read {}.\nunclosed_call*1");
    check("<tool_call>\n<function=read>\n<parameter=pa", "read {}.\nunclosed_call*1");
}

#[test]
fn parameters_that_should_not_be() {
    CODER.check(
        "<tool_call>\n<function=read>\n<parameter=limit>\n1\n</parameter>\n<parameter=limit>\n2\n\
         </parameter>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>",
        "read {\"limit\": 1, \"path\": \"a\"}.\nduplicate*1",
    );
    CODER.check(
        "<tool_call>\n<function=read>\n<parameter=limit>\n1\n</parameter>\n<parameter=odd>\n2\n\
         </parameter>\n</function>\n</tool_call>",
        "read {\"limit\": 1, \"odd\": \"2\"}.\n",
    );
    CODER.check(
        "<tool_call>\n<function=free>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n\
         </parameter>\n<parameter=a>\n3\n</parameter>\n</function>\n</tool_call>",
        "free {\"a\": \"1\", \"b\": \"2\\n</parameter>\\n<parameter=a>\\n3\"}.\n",
    );
}

#[test]
fn what_is_not_a_call_is_text() {
    for text in [
        "Use `<function=read>` here.",
        "Use <function=read>\n<parameter=path>\na\n</parameter>\n</function>",
        "  <function=read>\n<parameter=path>\na\n</parameter>\n</function>",
        "The tag\n<function=read> opens a call.",
        "<function=read>\n<parameter=>\na",
        "<function=reader>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=delete>\n<parameter=path>\na\n</parameter>\n</function>\n",
        "<tool_call>\n{\"name\": \"read\", \"arguments\": {}}\n</tool_call>",
        "The `<tool_call>` and `</tool_call>` tags.",
        "<tool_call>",
        "<tool_call>\n\n",
        "<tool_call>\n<function=rea",
        "</tool_call>\n",
        "a <b> c </b> x<y && y>z 1 << 3\n\n",
        "<",
        "\n\n <div>\n<function\n",
        "```xml\n<parameter=path>\n</parameter>\n```",
    ] {
        CODER.is_text(text);
    }
    CODER.check(
        "<tool_call>\nhm\n<tool_call>\n<function=read_all>\n</function>\n</tool_call> done\n",
        "\"<tool_call>\\nhm\"\nread_all {}.\n\" done\"\nnot_a_call*1",
    );
}

#[test]
fn text_around_calls() {
    let call = "<tool_call>\n<function=read_all>\n</function>\n</tool_call>";
    let check = |text: &str, expected: &str| CODER.check(text, expected);
    check(&format!("\n \n{call}\n \n"), "read_all {}.\n");
    check(&format!("a \n{call}\n\n{call}"), "\"a\"\nread_all {}.\nread_all {}.\n");
    check(
        &format!("\n a\n\n{call}\n\nb </tool_call> \n{call}"),
        "\"\\n a\"\nread_all {}.\n\"\\n\\nb </tool_call>\"\nread_all {}.\n",
    );
    check(&format!("{call}\ndone\n"), "read_all {}.\n\"\\ndone\"\n");
}

#[test]
fn a_cut_leaves_what_was_there() {
    let cut = Case { ending: Ending::Cut, ..CODER };
    let check = |text: &str, expected: &str| cut.check(text, expected);
    let value = "<tool_call>\n<function=write>\n<parameter=content>\nlet a";
    check(value, "write {\"content\": \"let a");
    check(&format!("{value}\n</para"), "write {\"content\": \"let a");
    check(&format!("{value}\n</parameter>\n"), "write {\"content\": \"let a");
    check(&format!("{value}\n</parameter>\n</function"), "write {\"content\": \"let a");
    check(&format!("{value}\n</parameter>\n</function>"), "write {\"content\": \"let a\"}.\n");
    check("<tool_call>\n<function=run>\n<parameter=timeout>\n12", "run {\"timeout\": ");
    check("<tool_call>\n<function=run>\n<para", "run ");
    check("a\n<tool_call>\n<function=ru", "\"a\\n<tool_call>\\n<function=ru\"\nnot_a_call*1");
    check("a <tool", "\"a <tool\"\n");
}

#[test]
fn one_call_only() {
    let one = Case { parallel: false, ..CODER };
    let call = "<tool_call>\n<function=read_all>\n</function>\n</tool_call>";
    one.check(&format!("{call}\n{call}\nand more"), "read_all {}.\n");
    one.check(&format!("{call}\ndone"), "read_all {}.\n\"\\ndone\"\n");
    let mut reader = one.reader();
    reader.push(call);
    assert!(!reader.is_over());
    reader.push(call);
    assert!(reader.is_over());
}

#[test]
fn text_and_values_come_at_once() {
    let mut reader = CODER.reader();
    let mut check = |text: &str, parts: &[Part]| assert_eq!(reader.push(text), parts, "{text}");
    let text = |text: &str| Part::Text(text.into());
    let name = |name: &str| Part::CallStart { index: 0, name: name.into() };
    let json = |json: &str| Part::CallArguments { index: 0, fragment: json.into() };
    check("I see", &[text("I see")]);
    check(" that \n", &[text(" that")]);
    check("a < b", &[text(" \na < b")]);
    check(" <function=write>", &[text(" <function=write>")]);
    check("\n<tool_call", &[]);
    check("s>\n<", &[text("\n<tool_calls>")]);
    check("function=write>", &[]);
    check("\n<parameter=content>", &[name("write"), json("{\"content\": ")]);
    check("\nlet a", &[json("\"let a")]);
    check(" = \"é\";\n", &[json(" = \\\"é\\\";")]);
    check("<a>", &[json("\\n<a>")]);
    check("</p", &[]);
    check(">\n</parameter>\n", &[json("</p>")]);
    check("<parameter=q", &[json("\\n</parameter>\\n<parameter=q")]);
    check("\n</parameter>\n<parameter=pat", &[]);
    check(
        "h>a</parameter></function>",
        &[json("\", \"path\": \"a\"}"), Part::CallEnd { index: 0 }],
    );
}
