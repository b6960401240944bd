//! What keeps a server running: health, metrics, tokens, props, the cache.

mod client;
mod toy;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use client::{get, post};
use qwire_engine::{Choice, Request, Sampling, TokenId};
use qwire_server::{App, Settings, Stage};
use serde_json::{Value, json};

#[test]
fn health_through_a_server_s_life() {
    let check = |app: &_, health, ready| {
        assert_eq!(get(app, "/health").status, health);
        assert_eq!(get(app, "/readyz").status, ready);
    };
    let app = App::new(Settings::default());
    check(&app, 503, 503);
    assert_eq!(get(&app, "/version").ok(), json!({ "version": env!("CARGO_PKG_VERSION") }));
    let fatal = Some(TokenId(0));
    app.install(toy::model(toy::Slow { toy: toy::toy(), pause: Duration::ZERO, fatal }));
    check(&app, 200, 200);
    assert_eq!(get(&app, "/health").ok(), json!({ "status": "ok" }));
    for status in [500, 500] {
        let answer = post(&app, "/v1/embeddings", &json!({ "input": [0] }));
        assert_eq!(answer.fault().0, status);
        assert!(!answer.text.contains("provoked"), "{}", answer.text);
    }
    // The engine shows its health at the end of a turn, which comes after the answer.
    let patience = Instant::now() + Duration::from_secs(10);
    while app.stage() != Stage::Broken && Instant::now() < patience {
        std::thread::yield_now();
    }
    check(&app, 500, 503);
    let app = toy::app(Settings::default());
    app.drain();
    check(&app, 200, 503);
}

#[test]
fn text_to_tokens_and_back() {
    let app = toy::app(Settings::default());
    let context = app.model().unwrap().service.bounds().context;
    let check = |body: Value, expected: Value| {
        assert_eq!(post(&app, "/tokenize", &body).ok(), expected, "{body}");
    };
    check(json!({ "content": "!<|im_end|>" }), json!({ "tokens": [0, 258] }));
    check(json!({ "content": "!<", "parse_special": false }), json!({ "tokens": [0, 27] }));
    check(json!({ "content": "", "add_special": true }), json!({ "tokens": [] }));
    let tokens = |ids: &Value| post(&app, "/detokenize", &json!({ "tokens": ids })).ok();
    let pieces = post(&app, "/tokenize", &json!({ "content": "é!", "with_pieces": true })).ok();
    let bytes: Vec<&Value> = pieces["tokens"].as_array().unwrap().iter().collect();
    assert_eq!((&bytes[0]["piece"], &bytes[1]["piece"]), (&json!([0xc3]), &json!([0xa9])));
    assert_eq!(bytes[2], &json!({ "id": 0, "piece": "!" }));
    let ids = json!([bytes[0]["id"], bytes[1]["id"], 0, 258]);
    assert_eq!(tokens(&ids), json!({ "content": "é!<|im_end|>", "prompt": "é!<|im_end|>" }));
    let vllm = |ids: Value, strings: Value| {
        json!({
            "count": ids.as_array().unwrap().len(), "max_model_len": context,
            "tokens": ids, "token_strs": strings,
        })
    };
    check(json!({ "prompt": "!!" }), vllm(json!([0, 0]), Value::Null));
    let prompt = "<|im_start|>user\n!<|im_end|>\n<|im_start|>assistant\n";
    let expected = post(&app, "/tokenize", &json!({ "prompt": prompt, "return_token_strs": true }));
    let messages = json!([{ "role": "user", "content": "!" }]);
    check(json!({ "messages": messages, "return_token_strs": true }), expected.ok());
    assert_eq!(expected.ok()["token_strs"][0], "<|im_start|>");
}

#[test]
fn tokens_that_are_refused() {
    let app = toy::app(Settings::default());
    for (path, body, param) in [
        ("/tokenize", json!({}), "prompt"),
        ("/tokenize", json!({ "content": "a", "prompt": "b" }), "prompt"),
        ("/tokenize", json!({ "content": 1 }), "content"),
        ("/tokenize", json!({ "content": "a", "with_pieces": 1 }), "with_pieces"),
        ("/detokenize", json!({}), "tokens"),
        ("/detokenize", json!({ "tokens": "a" }), "tokens"),
        ("/detokenize", json!({ "tokens": [0, 263] }), "tokens[1]"),
        ("/detokenize", json!({ "tokens": ["a"] }), "tokens[0]"),
        ("/apply-template", json!({}), "messages"),
        ("/apply-template", json!({ "messages": [] }), "messages"),
        ("/v1/cache/explain", json!({}), "prompt"),
        ("/v1/cache/explain", json!({ "prompt": 1 }), "prompt"),
        ("/v1/cache/explain", json!({ "prompt": [0, "a"] }), "prompt[1]"),
    ] {
        assert_eq!(post(&app, path, &body).fault(), (400, param.into()), "{path} {body}");
    }
}

#[test]
fn a_conversation_becomes_a_prompt() {
    let app = toy::app(Settings::default());
    let body = json!({
        "messages": [{ "role": "user", "content": "Hi" }],
        "chat_template_kwargs": { "enable_thinking": false },
        "temperature": 1,
    });
    let answer = post(&app, "/apply-template", &body);
    assert_eq!(answer.header("x-ignored-fields"), "temperature");
    let prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
    assert_eq!(answer.ok(), json!({ "prompt": prompt }));
}

#[test]
fn props_and_slots_in_the_shape_of_llama_cpp() {
    let app = toy::paced(Settings::default(), Duration::from_millis(2));
    let props = get(&app, "/props").ok();
    assert_eq!(props["total_slots"], 64);
    assert_eq!(props["model_path"], "toy");
    assert_eq!(props["modalities"], json!({ "vision": false, "audio": false }));
    assert_eq!(props["eos_token"], "<|im_end|>");
    assert!(props["chat_template"].as_str().unwrap().contains("im_start"));
    let settings = &props["default_generation_settings"];
    assert_eq!(settings["n_ctx"], 512 * 64);
    assert_eq!(settings["params"]["temperature"], 0.0);
    assert_eq!(settings["params"]["repeat_last_n"], -1);

    let service = &app.model().unwrap().service;
    let prompt = vec![TokenId(5); 7];
    let choices = Choice::several(&Sampling::default(), 2);
    let request = Request { prompt, choices, max_tokens: 20_000, ..Request::default() };
    let _answer = service.answer(request).unwrap();
    let under_way = loop {
        let slots = get(&app, "/slots").ok();
        assert_eq!(slots.as_array().unwrap().len(), 64);
        if slots[1]["next_token"][0]["n_decoded"].as_u64() > Some(3) {
            break slots;
        }
    };
    let expected = [(0, true), (1, true), (2, false)];
    for (at, running) in expected {
        assert_eq!(under_way[at]["id"], at);
        assert_eq!(under_way[at]["is_processing"], running);
    }
    assert_eq!(under_way[1]["n_prompt_tokens"], 7);
    assert_eq!(under_way[1]["choice"], 1);
}

#[test]
fn the_cache_says_what_it_holds_and_why_a_prompt_misses() {
    let app = toy::app(Settings::default());
    let text = "What is the answer to everything? ".repeat(8); // 272 bytes
    let explain = |prompt: &Value| {
        let body = json!({ "prompt": prompt });
        post(&app, "/v1/cache/explain", &body).ok()
    };
    let unknown = explain(&json!(text));
    assert_eq!((&unknown["reason"], &unknown["cached_tokens"]), (&json!("unknown"), &json!(0)));
    post(&app, "/v1/embeddings", &json!({ "input": text })).ok();
    let known = explain(&json!(text));
    assert_eq!((&known["reason"], &known["cached_tokens"]), (&json!("none"), &json!(271)));
    let other = format!("{}HERE{}", &text[..100], &text[104..]);
    let expected = json!({
        "object": "cache.explanation", "tokens": 272, "cached_tokens": 100, "disk_tokens": null,
        "reason": "diverged", "position": 100, "before": &text[84..100], "asked": &other[100..116],
        "cached": &text[100..116],
    });
    assert_eq!(explain(&json!(other)), expected);

    let salted = json!({ "prompt": text, "cache_salt": "s" });
    assert_eq!(post(&app, "/v1/cache/explain", &salted).ok()["reason"], "unknown");

    let listing = get(&app, "/v1/cache").ok();
    assert_eq!(listing["page_tokens"], 64);
    assert_eq!(listing["pages"], json!({ "total": 512, "free": 507, "cached": 5, "idle": 5 }));
    assert_eq!((&listing["prefix_count"], &listing["prompt_tokens"]), (&json!(1), &json!(272)));
    let prefix = &listing["prefixes"][0];
    assert_eq!((&prefix["tokens"], &prefix["running"]), (&json!(272), &json!(false)));

    assert_eq!((&listing["disk"], &listing["restored_tokens"]), (&Value::Null, &json!(0)));

    let reset = json!({ "object": "cache.reset", "pages": 5, "disk_pages": null });
    let answer = client::send(&app, "POST /reset_prefix_cache", &[], String::new());
    assert_eq!(answer.ok(), reset);
    assert_eq!(get(&app, "/v1/cache").ok()["pages"]["free"], 512);
    assert_eq!(explain(&json!(text))["reason"], "evicted");
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let chat = post(&app, "/v1/cache/explain", &json!({ "messages": messages })).ok();
    assert_eq!(chat["tokens"], 21);
}

/// Samples by name and labels, as a strict reader of the format finds them.
fn samples(text: &str) -> HashMap<String, f64> {
    let (mut kinds, mut samples) = (HashMap::new(), HashMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind).is_none(), "{name} stands twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let suffixes = ["_bucket", "_sum", "_count"].into_iter();
        let family = suffixes.filter_map(|suffix| name.strip_suffix(suffix));
        let family = family.chain([name]).find(|name| kinds.contains_key(*name));
        let kind = kinds[family.unwrap_or_else(|| panic!("{name} has no type"))];
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c)), "{name}");
        assert!(labels.ends_with('}'), "{line}");
        let value: f64 = value.parse().expect("a number");
        assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} stands twice");
    }
    assert!(text.ends_with('\n'));
    samples
}

#[test]
fn metrics_are_what_happened() {
    let loading = get(&App::new(Settings::default()), "/metrics");
    assert!(!samples(&loading.text).contains_key("qwire_running"));

    let app = toy::app(Settings { vllm_metrics: true, ..Settings::default() });
    for input in ["one", "one", "three"] {
        post(&app, "/v1/embeddings", &json!({ "input": input })).ok();
    }
    post(&app, "/v1/embeddings", &json!({}));
    app.tally.repairs.add("unterminated");
    // The engine shows its figures at the end of a turn, which comes after the answer.
    let text = loop {
        let answer = get(&app, "/metrics");
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        if samples(&answer.text)["qwire_answers_total{ending=\"length\"}"] == 3.0 {
            break answer.text;
        }
    };
    let samples = samples(&text);
    for (name, value) in [
        ("qwire_requests_total{path=\"/v1/embeddings\",status=\"200\"}", 3.0),
        ("qwire_requests_total{path=\"/v1/embeddings\",status=\"400\"}", 1.0),
        ("qwire_tool_call_repairs_total{kind=\"unterminated\"}", 1.0),
        ("qwire_prompt_tokens_total", 11.0),
        ("qwire_started_total", 3.0),
        ("qwire_kv_pages", 512.0),
        ("qwire_running", 0.0),
        ("qwire_queue_seconds_count", 3.0),
        ("qwire_queue_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("qwire_first_token_seconds_count", 0.0),
        ("vllm:num_requests_running{model_name=\"toy\"}", 0.0),
        ("vllm:num_requests_waiting{model_name=\"toy\"}", 0.0),
        ("vllm:kv_cache_usage_perc{model_name=\"toy\"}", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} in\n{text}");
    }
    for name in ["qwire_build_info{", "vllm:cache_config_info{", "vllm:lora_requests_info{"] {
        assert!(samples.keys().any(|key| key.starts_with(name)), "{name}");
    }
}
