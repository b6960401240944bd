//! Outputs: whatever a model writes, no wire answers with a fault of the server's own, and what
//! goes round in circles ends on each of them.

mod client;
mod toy;

use std::sync::Arc;

use client::{Answer, post};
use qwire_server::{App, Settings};
use serde_json::{Value, json};

/// What answers are made of when they go wrong: half of a call, another half, structure in text.
const SNIPPETS: [&str; 32] = [
    "<function=read>",
    "<function=read",
    "</function>",
    "<parameter=path>",
    "<parameter=",
    "</parameter>",
    "{\"name\": \"read\"",
    ", \"arguments\": {",
    "\"path\": \"",
    "\"}}",
    "}\n",
    "{\"arguments\": {",
    "\"name\": \"other\"",
    "\\",
    "\\u00",
    "\n",
    "\n\n",
    "null",
    "72.0",
    "True",
    "'a'",
    "[1, ",
    "</think",
    "</tool_cal",
    "<|im_end|",
    "<|im_start|>user",
    "</",
    "=",
    "\u{1}",
    "é",
    "😀",
    "\r\n",
];
/// The ids of these, of `<tool_call>` and of its like.
const FIRST: usize = 259;
const LAST: usize = 263 + SNIPPETS.len();

fn bias() -> Value {
    (FIRST..LAST).map(|id| (id.to_string(), json!(12))).collect::<serde_json::Map<_, _>>().into()
}

fn app() -> Arc<App> {
    toy::spelling(Settings::default(), &SNIPPETS)
}

fn schema() -> Value {
    json!({ "type": "object", "properties": { "path": { "type": "string" } } })
}

fn chat(more: &Value) -> Value {
    let function = json!({ "name": "read", "parameters": schema() });
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Go" }], "max_tokens": 16, "temperature": 1,
        "tools": [{ "type": "function", "function": function }], "logit_bias": bias(),
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Every answer that a chat's body or stream holds.
fn sound(answer: &Answer, streams: bool) -> usize {
    assert_eq!(answer.status, 200, "{}", answer.text);
    if !streams {
        let choices = answer.ok()["choices"].as_array().unwrap().clone();
        for choice in &choices {
            let whole = choice["finish_reason"] == "tool_calls";
            for call in choice["message"]["tool_calls"].as_array().into_iter().flatten() {
                assert_eq!(call["function"]["name"], "read");
                let arguments = call["function"]["arguments"].as_str().unwrap();
                let json = serde_json::from_str::<Value>(arguments);
                assert!(!whole || json.is_ok_and(|json| json.is_object()), "{choice}");
            }
        }
        return choices.len();
    }
    let events = answer.text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let (mut ends, mut done) = (0, false);
    for event in events {
        if event == "[DONE]" {
            done = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(event).expect("JSON");
        assert!(chunk.get("error").is_none(), "{chunk}");
        ends += usize::from(chunk["choices"][0]["finish_reason"].is_string());
    }
    assert!(done);
    ends
}

/// How many answers an app of its own gave, and how many ended in calls: those to every other seed.
fn read_answers(parity: usize, outputs: usize) -> (usize, usize) {
    const CHOICES: usize = 64;
    let app = app();
    let (mut read, mut calls) = (0, 0);
    for seed in (parity..).step_by(2) {
        if read >= outputs {
            break;
        }
        let streams = seed / 2 % 4 == 3;
        let parallel = seed % 3 == 0;
        let body = chat(&json!({
            "seed": seed, "n": CHOICES, "stream": streams, "parallel_tool_calls": parallel,
        }));
        let answer = post(&app, "/v1/chat/completions", &body);
        calls += answer.text.matches("\"finish_reason\":\"tool_calls\"").count();
        read += sound(&answer, streams);
    }
    let metrics = client::get(&app, "/metrics").text;
    let failed = metrics.lines().find(|line| line.contains("ending=\"failed\"")).unwrap();
    assert!(failed.ends_with(" 0"), "{failed}");
    (read, calls)
}

#[test]
fn a_hundred_thousand_outputs_are_read() {
    const OUTPUTS: usize = 100_000;
    let halves = std::thread::scope(|scope| {
        let halves = [0, 1].map(|parity| scope.spawn(move || read_answers(parity, OUTPUTS / 2)));
        halves.map(|half| half.join().expect("every answer is sound"))
    });
    let read: usize = halves.iter().map(|half| half.0).sum();
    let calls: usize = halves.iter().map(|half| half.1).sum();
    assert!(read >= OUTPUTS && calls > 100, "{calls} calls in {read} outputs");
    println!("{read} outputs, {calls} that end in calls");
}

/// An answer that only repeats one token.
fn circle(path: &str, more: &Value) -> Value {
    let app = app();
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Go" }], "model": "toy", "stream": false,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(&app, path, &body).ok()
}

#[test]
fn circles_end_on_every_wire_unless_they_may_go_on() {
    let biased = json!({ "temperature": 0, "logit_bias": { "65": 100 } });
    let with = |more: Value| {
        let mut body = biased.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let most = 700;
    let chat = "/v1/chat/completions";
    let ended = circle(chat, &with(json!({ "max_tokens": most })));
    let choice = &ended["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["stopped"]),
        (&json!("length"), &json!("repetition"))
    );
    assert_eq!(ended["usage"]["completion_tokens"], 512);
    let on = circle(chat, &with(json!({ "max_tokens": most, "repetition_guard": false })));
    assert_eq!(
        (&on["usage"]["completion_tokens"], &on["choices"][0]["stopped"]),
        (&json!(most), &Value::Null)
    );
    let ended = circle("/v1/messages", &with(json!({ "max_tokens": most })));
    assert_eq!(
        (&ended["stop_reason"], &ended["stopped"]),
        (&json!("max_tokens"), &json!("repetition"))
    );
    let ended = circle("/v1/responses", &with(json!({ "max_output_tokens": most, "input": "Go" })));
    assert_eq!((&ended["status"], &ended["stopped"]), (&json!("incomplete"), &json!("repetition")));
    assert_eq!(ended["incomplete_details"]["reason"], "max_output_tokens");
    let mut options = biased.clone();
    options["num_predict"] = json!(most);
    let ended = circle("/api/chat", &json!({ "options": options }));
    assert_eq!(
        (&ended["done_reason"], &ended["stopped"]),
        (&json!("length"), &json!("repetition"))
    );
    let text = circle("/v1/completions", &with(json!({ "max_tokens": most, "prompt": "Go" })));
    assert_eq!(text["usage"]["completion_tokens"], most, "completions go on");
}
