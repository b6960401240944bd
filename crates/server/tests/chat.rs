//! Chat and completions over the toy: a stream says what a whole answer says, and every wrong field
//! is refused by its name.

mod toy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use qwire_server::{App, Settings, router};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

async fn send(app: &Arc<App>, path: &str, body: &Value) -> Response {
    let request = Request::post(path).header("host", "localhost");
    let request = request.header("content-type", "application/json");
    let body = body.to_string();
    let request = request.header("content-length", body.len()).body(Body::from(body)).unwrap();
    router(app.clone()).oneshot(request).await.unwrap()
}

async fn ask(app: &Arc<App>, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = send(app, path, body).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn answer(app: &Arc<App>, path: &str, body: &Value) -> Value {
    let (status, answer) = ask(app, path, body).await;
    assert_eq!(status, 200, "{body}: {answer}");
    answer
}

/// The chunks of a stream, which ends as it should.
async fn chunks(app: &Arc<App>, path: &str, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let response = send(app, path, &body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let events: Vec<_> = text.split("\n\n").filter_map(|e| e.strip_prefix("data: ")).collect();
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect()
}

/// The choices that the chunks of a chat add up to, and the usage.
fn joined_chat(chunks: &[Value]) -> (Vec<Value>, Value) {
    let mut choices: BTreeMap<u64, Value> = BTreeMap::new();
    let (last, chunks) = chunks.split_last().unwrap();
    for chunk in chunks {
        assert_eq!(chunk["usage"], Value::Null);
        for part in chunk["choices"].as_array().unwrap() {
            let index = part["index"].as_u64().unwrap();
            let choice = choices.entry(index).or_insert_with(|| {
                assert_eq!(part["delta"], json!({ "role": "assistant", "content": "" }));
                json!({ "content": "", "tokens": [], "finish": null })
            });
            assert_eq!(choice["finish"], Value::Null, "nothing follows an ending");
            let said = part["delta"]["content"].as_str().unwrap_or_default();
            choice["content"] = json!(choice["content"].as_str().unwrap().to_owned() + said);
            if let Some(tokens) = part["logprobs"]["content"].as_array() {
                choice["tokens"].as_array_mut().unwrap().extend(tokens.clone());
            }
            choice["finish"] = part["finish_reason"].clone();
        }
    }
    (choices.into_values().collect(), last["usage"].clone())
}

fn whole_chat(answer: &Value) -> (Vec<Value>, Value) {
    let choice = |choice: &Value| {
        json!({
            "content": choice["message"]["content"],
            "tokens": choice["logprobs"]["content"].as_array().cloned().unwrap_or_default(),
            "finish": choice["finish_reason"],
        })
    };
    let choices = answer["choices"].as_array().unwrap();
    (choices.iter().map(choice).collect(), answer["usage"].clone())
}

fn with(base: &Value, more: &Value) -> Value {
    let mut body = base.as_object().cloned().unwrap();
    body.extend(more.as_object().cloned().unwrap());
    body.into()
}

fn hello() -> Value {
    json!({
        "model": "toy", "max_tokens": 40, "seed": 7, "temperature": 0.9,
        "messages": [{ "role": "user", "content": "Hello" }],
    })
}

#[tokio::test]
async fn a_stream_says_what_a_whole_answer_says() {
    let app = toy::app(Settings::default());
    let plain = answer(&app, CHAT, &hello()).await;
    let text = plain["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let middle: String = text.chars().skip(20).take(2).collect();
    for more in [
        json!({}),
        json!({ "temperature": 0 }),
        json!({ "n": 3 }),
        json!({ "logprobs": true, "top_logprobs": 3, "n": 2 }),
        json!({ "stop": middle }),
        json!({ "stop": ["never to be seen", middle], "logprobs": true }),
        json!({ "max_tokens": 1 }),
        json!({ "frequency_penalty": 1.5, "presence_penalty": -1, "top_k": 20, "min_p": 0.01 }),
    ] {
        let body = with(&hello(), &more);
        let (said, mut usage) = whole_chat(&answer(&app, CHAT, &body).await);
        let (heard, mut usage_too) = joined_chat(&chunks(&app, CHAT, &body).await);
        assert_eq!(said, heard, "{body}");
        for usage in [&mut usage, &mut usage_too] {
            usage["prompt_tokens_details"].take(); // the second asker finds more in the cache
        }
        assert_eq!(usage, usage_too);
        let tokens = usage["completion_tokens"].as_u64().unwrap();
        let n = body["n"].as_u64().unwrap_or(1);
        assert!(tokens > 0 && tokens <= 40 * n);
        assert_eq!(usage["total_tokens"], usage["prompt_tokens"].as_u64().unwrap() + tokens);
    }
    let stopped = answer(&app, CHAT, &with(&hello(), &json!({ "stop": middle }))).await;
    let choice = &stopped["choices"][0];
    assert_eq!(choice["message"]["content"], text[..text.find(&middle).unwrap()]);
    assert_eq!(
        (&choice["finish_reason"], &choice["stop_reason"]),
        (&json!("stop"), &json!(middle))
    );
}

#[tokio::test]
async fn seeds_and_choices_are_what_they_say() {
    let app = toy::app(Settings::default());
    let texts = |answer: &Value| {
        let choices = answer["choices"].as_array().unwrap().clone();
        choices.iter().map(|c| c["message"]["content"].clone()).collect::<Vec<_>>()
    };
    let one = texts(&answer(&app, CHAT, &hello()).await);
    let three = texts(&answer(&app, CHAT, &with(&hello(), &json!({ "n": 3 }))).await);
    assert_eq!(one[0], three[0], "choice 0 is the only one of n = 1");
    assert!(three[0] != three[1] && three[1] != three[2]);
    let other = texts(&answer(&app, CHAT, &with(&hello(), &json!({ "seed": 8 }))).await);
    assert_ne!(one, other);
    let unseeded = with(&hello(), &json!({ "seed": null }));
    let response = send(&app, CHAT, &unseeded).await;
    let seed: u64 = response.headers()["x-seed"].to_str().unwrap().parse().unwrap();
    let hash = response.headers()["x-prompt-hash"].clone();
    assert_eq!(hash.len(), 16);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let drawn = texts(&serde_json::from_slice(&bytes).unwrap());
    assert_eq!(drawn, texts(&answer(&app, CHAT, &with(&hello(), &json!({ "seed": seed }))).await));
}

#[tokio::test]
async fn a_stream_begins_before_the_prompt_is_read() {
    let app = toy::paced(Settings::default(), Duration::from_millis(300));
    let body = with(&hello(), &json!({ "stream": true, "max_tokens": 2 }));
    let started = Instant::now();
    let mut pieces = send(&app, CHAT, &body).await.into_body().into_data_stream();
    let first = pieces.next().await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_millis(250), "{:?}", started.elapsed());
    assert!(first.starts_with(b"data: {\"id\":\"chatcmpl-"));
    // A client that leaves takes its request along.
    drop(pieces);
    let service = &app.model().unwrap().service;
    let idle = || service.stats().running == 0 && service.stats().counters.cancelled == 1;
    let deadline = Instant::now() + Duration::from_secs(5);
    while !idle() {
        assert!(Instant::now() < deadline, "{:?}", service.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_second_turn_reads_only_what_is_new() {
    let app = toy::app(Settings::default());
    let long = "word ".repeat(200);
    let first = with(&hello(), &json!({ "messages": [{ "role": "user", "content": long }] }));
    let said = answer(&app, CHAT, &first).await;
    let prompt = said["usage"]["prompt_tokens"].as_u64().unwrap();
    answer(&app, CHAT, &hello()).await; // another conversation runs between
    let second = with(
        &first,
        &json!({ "messages": [
        { "role": "user", "content": long },
        { "role": "assistant", "content": "fine" },
        { "role": "user", "content": "more" },
    ] }),
    );
    let said = answer(&app, CHAT, &second).await;
    let cached = said["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached >= prompt, "{cached} of {prompt}");
}

#[tokio::test]
async fn every_wrong_field_is_refused_by_its_name() {
    let app = toy::app(Settings::default());
    let tool = json!([{ "type": "function", "function": { "name": "f" } }]);
    for (param, value) in [
        ("messages", json!([])),
        ("messages", json!("hello")),
        ("messages", Value::Null),
        ("temperature", json!(-1)),
        ("temperature", json!(2.1)),
        ("temperature", json!("1")),
        ("top_p", json!(1.1)),
        ("n", json!(0)),
        ("n", json!(129)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-5)),
        ("max_completion_tokens", json!(1.5)),
        ("presence_penalty", json!(3)),
        ("frequency_penalty", json!(-3)),
        ("top_logprobs", json!(21)),
        ("top_logprobs", json!(2)),
        ("logit_bias", json!({ "1": 101 })),
        ("logit_bias", json!({ "70000": 1 })),
        ("logit_bias", json!({ "x": 1 })),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("seed", json!(1.5)),
        ("stream", json!("yes")),
        ("stream_options", json!({ "include_usage": true })),
        ("tools", json!({})),
        ("tools[0].type", json!(null)),
        ("tool_choice", json!("required")),
        ("tool_choice", json!("sometimes")),
        ("modalities", json!(["audio"])),
        ("functions", json!([])),
        ("service_tier", json!("gold")),
        ("reasoning_effort", json!("huge")),
        ("chat_template_kwargs", json!({ "messages": [] })),
        ("continue_final_message", json!(true)),
    ] {
        let name = param.split('[').next().unwrap();
        let value = if param == "tools[0].type" { json!([{ "function": {} }]) } else { value };
        let body = with(&hello(), &Map::from_iter([(name.to_owned(), value)]).into());
        let (status, fault) = ask(&app, CHAT, &body).await;
        assert_eq!((status.as_u16(), &fault["error"]["param"]), (400, &json!(param)), "{body}");
        let keys: Vec<_> = fault["error"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
    }
    for (choice, param) in [
        (json!({ "type": "function", "function": { "name": "g" } }), "tool_choice"),
        (json!({ "type": "function" }), "tool_choice.function"),
    ] {
        let body = with(&hello(), &json!({ "tools": tool, "tool_choice": choice }));
        assert_eq!(ask(&app, CHAT, &body).await.1["error"]["param"], param);
    }
    let (status, fault) = ask(&app, CHAT, &with(&hello(), &json!({ "model": "gpt-9" }))).await;
    assert_eq!((status.as_u16(), &fault["error"]["code"]), (404, &json!("model_not_found")));
    let long = json!({ "messages": [{ "role": "user", "content": "x".repeat(40_000) }] });
    let (status, fault) = ask(&app, CHAT, &with(&hello(), &long)).await;
    let code = json!("context_length_exceeded");
    assert_eq!((status.as_u16(), &fault["error"]["code"]), (400, &code));
}

#[tokio::test]
async fn completions_echo_score_and_stream() {
    let app = toy::app(Settings::default());
    let base = json!({ "prompt": "abc", "max_tokens": 5, "temperature": 0 });
    let plain = answer(&app, TEXT, &base).await;
    let text = plain["choices"][0]["text"].as_str().unwrap();
    let echoed = answer(&app, TEXT, &with(&base, &json!({ "echo": true }))).await;
    assert_eq!(echoed["choices"][0]["text"], format!("abc{text}"));

    // As evaluation harnesses ask: the prompt's own tokens, nothing new.
    let scored = json!({ "echo": true, "logprobs": 2, "max_tokens": 0 });
    let scored = answer(&app, TEXT, &with(&base, &scored)).await;
    let choice = &scored["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("abc"), &json!("length")));
    let listing = &choice["logprobs"];
    assert_eq!(listing["tokens"], json!(["a", "b", "c"]));
    assert_eq!(listing["text_offset"], json!([0, 1, 2]));
    assert_eq!(
        (&listing["token_logprobs"][0], &listing["top_logprobs"][0]),
        (&Value::Null, &Value::Null)
    );
    assert!(listing["token_logprobs"][1].as_f64().unwrap() < 0.0);
    assert_eq!(listing["top_logprobs"][2].as_object().unwrap().len(), 2);

    let many = json!({ "prompt": ["abc", "d"], "n": 2, "logprobs": 1, "echo": true, "seed": 3,
        "temperature": 1 });
    let many = with(&base, &many);
    let said = answer(&app, TEXT, &many).await;
    let mut heard: BTreeMap<u64, (String, Vec<Value>, Value)> = BTreeMap::new();
    for chunk in chunks(&app, TEXT, &many).await {
        for part in chunk["choices"].as_array().unwrap() {
            let choice = heard.entry(part["index"].as_u64().unwrap()).or_default();
            choice.0 += part["text"].as_str().unwrap();
            choice.1.extend(part["logprobs"]["tokens"].as_array().cloned().unwrap_or_default());
            choice.2 = part["finish_reason"].clone();
        }
    }
    for choice in said["choices"].as_array().unwrap() {
        let (text, tokens, finish) = &heard[&choice["index"].as_u64().unwrap()];
        assert_eq!(choice["text"], *text);
        assert_eq!(choice["logprobs"]["tokens"], json!(tokens));
        assert_eq!(choice["finish_reason"], *finish);
    }
    assert_eq!(said["usage"]["prompt_tokens"], 4, "each prompt is counted once");

    let ids = answer(&app, TEXT, &with(&base, &json!({ "prompt": [64, 65, 66] }))).await;
    assert_eq!(ids["choices"][0]["text"], plain["choices"][0]["text"], "the same tokens");
    for (field, value) in [
        ("prompt", Value::Null),
        ("prompt", json!([])),
        ("prompt", json!([""])),
        ("prompt[1]", json!([1, "a"])),
        ("prompt[0][0]", json!([[-1]])),
        ("prompt[0]", json!([9999])),
        ("suffix", json!("x")),
        ("best_of", json!(3)),
        ("logprobs", json!(21)),
    ] {
        let name = field.split('[').next().unwrap();
        let body = with(&base, &Map::from_iter([(name.to_owned(), value)]).into());
        let (status, fault) = ask(&app, TEXT, &body).await;
        assert_eq!((status.as_u16(), &fault["error"]["param"]), (400, &json!(field)), "{body}");
    }
}
