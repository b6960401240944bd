//! Ollama's wire: what its clients ask for, in its shapes; a stream says what a whole answer says.

mod client;
mod toy;

use std::sync::Arc;

use client::{Answer, get, post};
use qwire_server::{App, Settings};
use serde_json::{Value, json};

fn app() -> Arc<App> {
    toy::app(Settings::default())
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn hello(more: &Value) -> Value {
    let mut body = json!({
        "model": "toy:latest", "messages": [{ "role": "user", "content": "Hello" }],
        "options": { "seed": 7, "num_predict": 30, "temperature": 0.9, "num_ctx": 4096 },
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn the_catalogue_has_one_model() {
    let app = app();
    assert_eq!(get(&app, "/").text, "Ollama is running");
    let version: Vec<u32> = get(&app, "/api/version").ok()["version"]
        .as_str()
        .unwrap()
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    assert!(version >= vec![0, 6, 4], "editors ask for that much");
    for path in ["/api/tags", "/api/ps"] {
        let models = get(&app, path).ok()["models"].clone();
        assert_eq!(models[0]["name"], "toy:latest", "{path}");
        assert_eq!(models[0]["digest"].as_str().unwrap().len(), 64);
    }
    for body in [json!({ "model": "toy" }), json!({ "name": "toy:latest" })] {
        let shown = post(&app, "/api/show", &body).ok();
        assert_eq!(shown["capabilities"], json!(["completion", "tools", "thinking", "embedding"]));
        assert!(shown["model_info"]["toy.context_length"].as_u64().unwrap() > 0);
    }
    let absent = post(&app, "/api/show", &json!({ "model": "llama3" }));
    assert_eq!(absent.status, 404);
    let error: Value = serde_json::from_str(&absent.text).unwrap();
    assert!(error["error"].as_str().unwrap().contains("llama3"));
}

#[test]
fn lines_say_what_a_whole_answer_says() {
    let app = app();
    for (path, field, ask) in [
        ("/api/chat", "message", hello(&json!({}))),
        ("/api/chat", "message", hello(&json!({ "think": false }))),
        ("/api/generate", "response", hello(&json!({ "prompt": "Hello" }))),
        ("/api/generate", "response", hello(&json!({ "prompt": "Hello", "raw": true }))),
    ] {
        let whole = |body: &Value| {
            let mut body = body.clone();
            body["stream"] = json!(false);
            post(&app, path, &body).ok()
        };
        let said = |line: &Value| {
            let said = &line[field];
            said.as_str().or(said["content"].as_str()).unwrap().to_owned()
        };
        let one = whole(&ask);
        let streamed = lines(&post(&app, path, &ask));
        let (last, lines) = streamed.split_last().unwrap();
        assert!(lines.iter().all(|line| line["done"] == false));
        let text: String = lines.iter().map(said).collect();
        assert_eq!(text, said(&one), "{path}");
        for figure in ["done", "done_reason", "eval_count", "prompt_eval_count"] {
            assert_eq!(one[figure], last[figure], "{figure}");
        }
        let cut = one["eval_count"] == 30;
        assert_eq!(one["done_reason"], if cut { "length" } else { "stop" });
        assert!(one["total_duration"].as_u64().unwrap() >= one["eval_duration"].as_u64().unwrap());
    }
}

#[test]
fn a_format_is_held_to_and_tools_are_called() {
    let app = app();
    let schema = json!({ "type": "object", "properties": { "ok": { "type": "boolean" } },
        "required": ["ok"], "additionalProperties": false });
    let options = json!({ "seed": 3, "num_predict": 200 });
    let ask = hello(&json!({ "format": schema, "stream": false, "options": options }));
    let text = post(&app, "/api/chat", &ask).ok()["message"]["content"].clone();
    let value: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert!(value["ok"].is_boolean());
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": schema } });
    let history = json!([
        { "role": "user", "content": "Go" },
        { "role": "assistant", "content": "", "thinking": "so",
          "tool_calls": [{ "function": { "name": "f", "arguments": { "ok": true } } }] },
        { "role": "tool", "content": "done", "tool_name": "f" },
        { "role": "user", "content": "And?", "images": ["aGk="] },
    ]);
    // A call, or a text of the form: noise does either.
    let (mut calls, mut texts) = (0, 0);
    for seed in 0..24 {
        let options = json!({ "seed": seed, "num_predict": 300, "temperature": 1.5 });
        let more = json!({ "messages": history, "tools": [tool], "format": schema,
            "options": options });
        let answer = lines(&post(&app, "/api/chat", &hello(&more)));
        let told = answer.iter().find_map(|line| line["message"]["tool_calls"].as_array());
        if let Some(told) = told {
            assert_eq!(told[0]["function"]["name"], "f");
            assert!(told[0]["function"]["arguments"]["ok"].is_boolean());
            calls += 1;
        } else {
            let text: String =
                answer.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value["ok"].is_boolean(), "{text}");
            texts += 1;
        }
    }
    assert!(calls > 0 && texts > 0, "{calls} calls, {texts} texts");
}

#[test]
fn who_asks_nothing_hears_that_the_model_is_there() {
    let app = app();
    for (path, body) in [
        ("/api/chat", json!({ "model": "toy", "messages": [] })),
        ("/api/generate", json!({ "model": "toy", "prompt": "", "keep_alive": -1 })),
    ] {
        let answer: Value = serde_json::from_str(&post(&app, path, &body).text).unwrap();
        assert_eq!((&answer["done"], &answer["done_reason"]), (&json!(true), &json!("load")));
    }
}

#[test]
fn texts_become_vectors() {
    let app = app();
    let many = post(&app, "/api/embed", &json!({ "input": ["a", "b"], "truncate": true })).ok();
    let one = post(&app, "/api/embeddings", &json!({ "prompt": "b" })).ok();
    assert_eq!(many["embeddings"][1], one["embedding"]);
    assert_eq!(many["prompt_eval_count"], 2);
}

#[test]
fn faults_are_told_in_its_words() {
    let app = app();
    for body in [
        hello(&json!({ "format": "xml" })),
        hello(&json!({ "options": { "temperature": 9 } })),
        hello(&json!({ "messages": [{ "role": "king", "content": "" }] })),
        hello(&json!({ "think": 5 })),
    ] {
        let answer = post(&app, "/api/chat", &body);
        let error: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(answer.status, 400);
        assert!(!error["error"].as_str().unwrap().is_empty());
    }
}
