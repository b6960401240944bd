//! Answers without tools, and thoughts.

use super::{CODER, Case, HERMES};
use qwire_text::tools::{Ending, Thinking};

#[test]
fn without_tools_nothing_is_a_call() {
    let call =
        "a\n\n<tool_call>\n<function=read>\n</function>\n</tool_call>\n{\"name\": \"read\"}\n ";
    for case in [CODER, HERMES] {
        Case { offered: false, ..case }.is_text(call);
        Case { offered: false, ending: Ending::Cut, ..case }.is_text(call);
    }
}

#[test]
fn thoughts_come_first() {
    let maybe = Case { thinking: Thinking::Maybe, ..CODER };
    let inside = Case { thinking: Thinking::Inside, ..CODER };
    let both = |text: &str, expected: &str| {
        maybe.check(text, expected);
        inside.check(text, expected);
    };
    both("<think>\na\n\nb\n</think>\n\nHello\n", "think \"a\\n\\nb\"\n\"Hello\\n\"\n");
    both("\n <think>a < b</thin></think>c", "think \"a < b</thin>\"\n\"c\"\n");
    both("<think>\n\n</think>\n\nHello", "\"Hello\"\n");
    both("<think>\n\n\n</think>\n\n", "");
    both("<think>a</think>", "think \"a\"\n");
    both("<think>\nand then", "think \"and then\"\n");
    both("<think>\na\n</thi", "think \"a\\n</thi\"\n");
    both("<think>\na\n\n", "think \"a\\n\\n\"\n");
    both("<think>a</think> <think>b</think>", "think \"a\"\n\" <think>b</think>\"\n");
    inside.check("\na\n</think>\n\nHello", "think \"a\"\n\"Hello\"\n");
    inside.check("a", "think \"a\"\n");
    inside.check("<thin", "think \"<thin\"\n");
    inside.check("", "");
    maybe.check("", "");
    maybe.is_text("\n\nHello <think>\nno\n</think>\n");
    maybe.is_text(" \n");
    maybe.is_text("<thin");
    CODER.is_text("<think>\na\n</think>\n\nHello");
}

#[test]
fn calls_come_after_thoughts() {
    let inside = Case { thinking: Thinking::Inside, ..CODER };
    let call = "<function=read_all>\n</function>";
    inside.check(
        &format!("I might\n<tool_call>\n{call}\n</tool_call>\n</think>\n\n{call}"),
        "think \"I might\\n<tool_call>\\n<function=read_all>\\n</function>\\n</tool_call>\"\n\
         read_all {}.\nmissing_opener*1",
    );
    inside.check(&format!("a\n</think>{call}"), "think \"a\"\nread_all {}.\nmissing_opener*1");
    Case { thinking: Thinking::Maybe, ..HERMES }.check(
        "<think>\na\n</think>\n\n<tool_call>\n{\"name\": \"read_all\"}\n</tool_call>",
        "think \"a\"\nread_all {}.\n",
    );
}
