//! `qwire chat` through pipes: messages in, answers out, orders, and the cache between turns.

use serde_json::{Map, Value, json};

use crate::binary::{Outcome, command, finish, qwire_with};
use crate::model::{Folder, golden};

/// A conversation with the model in the binary.
fn chat(more: &[&str], lines: &str) -> Outcome {
    qwire_with(&[&["chat", "--no-history", "--temp", "0"], more].concat(), lines.as_bytes())
}

#[test]
fn a_line_is_a_message_and_gets_its_answer() {
    let found = chat(&["--quiet"], "Hello!\n\nRepeat: two small boats\nthanks");
    let expected = "Hello! Ask me about qwire, or give me a small task.\ntwo small boats\n\
                    You are welcome.\n";
    assert_eq!((found.code, found.text().as_str(), found.stderr.as_str()), (Some(0), expected, ""));
}

#[test]
fn the_next_turn_reads_only_what_is_new() {
    let found = chat(&[], "Repeat: seven red lamps\n/stats\nHello!\n/stats\n/reset\n/stats\n");
    assert_eq!(found.code, Some(0), "{found:?}");
    let stats: Vec<_> = found.stderr.lines().filter(|line| line.contains("cached")).collect();
    let [first, second] = stats[..] else { panic!("{}", found.stderr) };
    assert!(first.contains("last prompt 0 cached"), "{first}");
    let number = |words: &str| {
        let before = second.split(words).next().unwrap();
        before.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let (cached, new) = (number(" cached"), number(" new"));
    // The new message, and at most the end of the answer before it.
    assert!(cached > 20 && new < 16, "{second}");
    assert!(found.stderr.contains("nothing was said yet"), "{}", found.stderr);
}

#[test]
fn it_remembers_until_it_is_told_to_forget() {
    let lines = "My name is kestrel.\nWhat is my name?\n/reset\nWhat is my name?\n";
    let found = chat(&["--quiet"], lines).text();
    let answers: Vec<_> = found.lines().collect();
    assert!(answers[1].contains("kestrel"), "{found}");
    assert!(!answers[2].contains("kestrel"), "{found}");
}

#[test]
fn lines_are_held_together() {
    let folder = Folder::new("chat-lines");
    let saved = folder.path("c.json");
    let lines =
        format!("one \\\ntwo\n\"\"\"\nthree\n\nfour\n\"\"\"\n/save {saved}\n/save {saved}\n");
    let found = chat(&["--system", "be", "--quiet"], &lines);
    // The second time the file is there already.
    assert_eq!((found.code, found.stderr.contains("c.json: File exists")), (Some(1), true));
    let saved: Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
    let said = |at: usize| saved["messages"][at]["content"].as_str().unwrap();
    assert_eq!((said(0), said(1), said(3)), ("be", "one \ntwo", "three\n\nfour"));
    assert_eq!(saved["messages"][4]["role"], "assistant");
    assert!(found.text().starts_with(said(2)));
}

#[test]
fn tools_are_called_and_their_results_typed() {
    let folder = Folder::new("chat-tools");
    let tool = |(name, parameters): (&str, &[&str])| {
        let types: Map<String, Value> =
            parameters.iter().map(|key| ((*key).into(), json!({ "type": "string" }))).collect();
        let schema = json!({ "type": "object", "properties": types, "required": parameters });
        json!({ "type": "function", "function": {
            "name": name, "description": "", "parameters": schema,
        } })
    };
    // As the model has learnt them: with one alone it says that it has none.
    let tools = [
        tool(("read_file", &["path"])),
        tool(("write_file", &["path", "content"])),
        tool(("edit_file", &["path", "old", "new"])),
        tool(("run_command", &["command"])),
    ];
    let file = folder.file("tools.json", json!(tools).to_string().as_bytes());
    let lines = format!("/tools {file}\nWhat is in notes.txt?\nblue herons\n/save {}\n", {
        folder.path("c.json")
    });
    let found = chat(&[], &lines);
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.stderr.contains(r#"read_file({"path": "notes.txt"})"#), "{}", found.stderr);
    assert!(found.text().contains("blue herons"), "{}", found.text());
    let saved = std::fs::read(folder.path("c.json")).unwrap();
    let saved: Value = serde_json::from_slice(&saved).unwrap();
    let call = &saved["messages"][1]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "read_file");
    assert_eq!(saved["messages"][2]["tool_call_id"], call["id"]);
    assert_eq!(saved["tools"][0]["function"]["name"], "read_file");
}

#[test]
fn a_full_context_is_said_and_can_be_left() {
    let long = "lamp ".repeat(120);
    let lines = format!("Hello!\n{long}\n/reset\nHello!\n");
    let found = chat(&["--ctx", "64", "--quiet"], &lines);
    // A pipe ends with 1 where a message got no answer.
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.stderr.contains("the context holds 64"), "{}", found.stderr);
    assert!(found.stderr.contains("/reset"), "{}", found.stderr);
    assert_eq!(found.text().lines().count(), 2, "{}", found.text());
    let cut = chat(&["--ctx", "24", "--quiet"], "How do I start the server?\n");
    assert!(cut.stderr.contains("[the context of 24 tokens is full"), "{cut:?}");
}

#[test]
fn what_is_no_order_is_said() {
    let found =
        chat(&["--quiet"], "/quit\n/reset now\n/save\n/tools /no/such\nHello!\n/exit\nhi\n");
    assert_eq!(found.code, Some(1));
    for words in ["there is no /quit", "takes no argument", "/save needs", "/no/such: no such file"]
    {
        assert!(found.stderr.contains(words), "{}", found.stderr);
    }
    assert_eq!(found.text().lines().count(), 1, "nothing is answered after the end");
    assert!(chat(&[], "/help\n").stderr.contains("/tools [FILE]"));
}

#[test]
fn thoughts_are_kept_apart() {
    let found = chat(&["--quiet", &golden("moe-q8_0.gguf"), "-n", "5"], "hi\n");
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.stderr.contains("[cut off by --max-tokens]"), "{}", found.stderr);
}

#[test]
fn it_needs_no_home_and_keeps_nothing_of_a_pipe() {
    let folder = Folder::new("chat-home");
    let mut child = command(&["chat", "--quiet"]);
    child.env("HOME", folder.path("."));
    let outcome = finish(child.spawn().unwrap());
    assert_eq!((outcome.code, outcome.text().as_str(), folder.names().len()), (Some(0), "", 0));
}
