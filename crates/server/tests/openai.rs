//! OpenAI's endpoints beside chat and completions: models, embeddings.

mod client;
mod toy;

use client::{get, post, send};
use qwire_server::{App, Settings};
use qwire_text::tools::Dialect;
use serde_json::{Value, json};

#[test]
fn models_under_each_of_their_names() {
    let app = toy::app(Settings::default());
    let context = app.model().unwrap().service.bounds().context;
    let entry = |id: &str| {
        json!({
            "id": id, "object": "model", "created": 1, "owned_by": "qwire",
            "context_length": context, "max_model_len": context,
        })
    };
    let list = json!({ "object": "list", "data": [entry("toy"), entry("claude-toy")] });
    assert_eq!(get(&app, "/v1/models").ok(), list);
    for (path, id) in [("toy", "toy"), ("Claude-Toy", "claude-toy"), ("default", "toy")] {
        assert_eq!(get(&app, &format!("/v1/models/{path}")).ok(), entry(id));
    }
    for path in ["gpt-4", "a/b", "%66oo", "toy/"] {
        let answer = get(&app, &format!("/v1/models/{path}"));
        assert_eq!(answer.fault(), (404, "model".into()), "{path}");
        assert!(answer.text.contains("model_not_found"));
    }
    assert_eq!(get(&app, "/v1/models/%ff").fault().0, 400);
    assert_eq!(get(&App::new(Settings::default()), "/v1/models").fault().0, 503);
}

#[test]
fn models_in_the_words_of_anthropic() {
    let app = toy::app(Settings::default());
    let ask = |path: &str| {
        let headers = [("anthropic-version", "2023-06-01")];
        send(&app, &format!("GET {path}"), &headers, String::new()).ok()
    };
    let entry = |id: &str| {
        json!({
            "type": "model", "id": id, "display_name": "toy", "created_at": "1970-01-01T00:00:01Z"
        })
    };
    let list = json!({
        "data": [entry("toy"), entry("claude-toy")],
        "has_more": false, "first_id": "toy", "last_id": "claude-toy",
    });
    assert_eq!(ask("/v1/models?limit=1000"), list);
    assert_eq!(ask("/v1/models/claude-toy"), entry("claude-toy"));
}

#[test]
fn embeddings_of_every_kind_of_input() {
    let app = toy::app(Settings::default());
    let text = "a".repeat(300);
    for (input, lengths) in [
        (json!("abc"), vec![3]),
        (json!(["abc", text, "<|im_end|>"]), vec![3, 300, 10]),
        (json!([97, 98]), vec![2]),
        (json!([[97], [97, 258]]), vec![1, 2]),
        (json!(vec!["x"; 300]), vec![1; 300]),
    ] {
        for pooling in ["last", "mean"] {
            let body = json!({ "input": input, "model": "toy", "user": "u", "pooling": pooling });
            let answer = post(&app, "/v1/embeddings", &body);
            assert_eq!(answer.header("x-ignored-fields"), "");
            let answer = answer.ok();
            let tokens: usize = lengths.iter().sum();
            let entry =
                |index| json!({ "object": "embedding", "index": index, "embedding": [1.0] });
            let data: Vec<Value> = (0..lengths.len()).map(entry).collect();
            let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
            let expected =
                json!({ "object": "list", "data": data, "model": "toy", "usage": usage });
            assert_eq!(answer, expected, "{input}");
        }
    }
    let body = json!({ "input": "a", "encoding_format": "base64", "dimensions": 1, "z": 1 });
    let answer = post(&app, "/v1/embeddings", &body);
    assert_eq!(answer.header("x-ignored-fields"), "z");
    assert_eq!(answer.ok()["data"][0]["embedding"], "AACAPw==");
}

#[test]
fn embeddings_that_are_refused() {
    let app = toy::app(Settings { strict_fields: true, ..Settings::default() });
    let long = vec![97; 1 + app.model().unwrap().service.bounds().context];
    for (body, status, param) in [
        (json!({}), 400, "input"),
        (json!({ "input": null }), 400, "input"),
        (json!({ "input": {} }), 400, "input"),
        (json!({ "input": [] }), 400, "input"),
        (json!({ "input": vec!["x"; 2049] }), 400, "input"),
        (json!({ "input": "" }), 400, "input[0]"),
        (json!({ "input": ["a", ""] }), 400, "input[1]"),
        (json!({ "input": ["a", 1] }), 400, "input[1]"),
        (json!({ "input": [1, "a"] }), 400, "input[1]"),
        (json!({ "input": [1, 263] }), 400, "input[1]"),
        (json!({ "input": [1, -1] }), 400, "input[1]"),
        (json!({ "input": [[1], [1.5]] }), 400, "input[1][0]"),
        (json!({ "input": [[1], long] }), 400, "input[1]"),
        (json!({ "input": "a", "encoding_format": "hex" }), 400, "encoding_format"),
        (json!({ "input": "a", "pooling": "max" }), 400, "pooling"),
        (json!({ "input": "a", "dimensions": 2 }), 400, "dimensions"),
        (json!({ "input": "a", "dimensions": 0 }), 400, "dimensions"),
        (json!({ "input": "a", "model": "b" }), 404, "model"),
        (json!({ "input": "a", "model": 1 }), 400, "model"),
        (json!({ "input": "a", "z": 1 }), 400, "z"),
        (json!([]), 400, ""),
    ] {
        let answer = post(&app, "/v1/embeddings", &body);
        assert_eq!(answer.fault(), (status, param.into()), "{:.200}", body.to_string());
    }
    let answer = post(&app, "/v1/embeddings", &json!({ "input": long }));
    assert!(answer.text.contains("context_length_exceeded"), "{}", answer.text);
}

/// Noise that must call a custom tool of Responses writes a text of the tool's grammar.
#[test]
fn a_custom_tool_gets_a_text_of_its_grammar() {
    let app = App::new(Settings::default());
    let mut model = toy::model(toy::toy());
    model.dialect = Dialect::named("qwen-coder").expect("one of ours");
    app.install(model);
    let ask = |syntax: &str, definition: &str| {
        let format = json!({ "type": "grammar", "syntax": syntax, "definition": definition });
        let tool = json!({ "type": "custom", "name": "patch", "format": format });
        let choice = json!({ "type": "custom", "name": "patch" });
        let body = json!({ "model": "toy", "input": "Go", "tools": [tool], "tool_choice": choice });
        post(&app, "/v1/responses", &body)
    };
    for (syntax, definition) in [("regex", "[ab]{3}c"), ("lark", "start: /[ab]/ /[ab]{2}/ \"c\"")] {
        let answer = ask(syntax, definition).ok();
        let item = &answer["output"][0];
        assert_eq!(item["type"], "custom_tool_call", "{answer}");
        let input = item["input"].as_str().expect("a text");
        let letters = input.strip_suffix('c').filter(|letters| letters.len() == 3);
        let fits = |letters: &str| letters.bytes().all(|byte| b"ab".contains(&byte));
        assert!(letters.is_some_and(fits), "{input}");
    }
    let (status, field) = ask("lark", "start: (").fault();
    assert_eq!((status, &*field), (400, "tools[0].format.definition"));
}
