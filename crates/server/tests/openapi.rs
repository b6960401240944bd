//! The description of the server: of every endpoint, of every field, and of nothing else.

mod client;
mod toy;

use std::collections::BTreeSet;

use client::description::{DESCRIPTION, fits, names, path_of, resolved};
use client::{get, post, send};
use qwire_server::admin::{cache, tokenize};
use qwire_server::anthropic::messages::MessagesRequest;
use qwire_server::fields::Fields;
use qwire_server::llama::completion::Job;
use qwire_server::ollama;
use qwire_server::openai::chat_completions::ChatRequest;
use qwire_server::openai::completions::CompletionRequest;
use qwire_server::openai::embeddings;
use qwire_server::openai::responses::create::ResponseRequest;
use qwire_server::{App, Fault, Settings, routes};
use serde_json::{Value, json};

#[test]
fn every_endpoint_is_described_and_nothing_else() {
    let app = toy::app(Settings::default());
    let mut found = BTreeSet::new();
    for (path, _) in routes() {
        let path = path.replace("{*", "{");
        let answer = send(&app, &format!("TRACE {path}"), &[], String::new());
        assert_eq!(answer.status, 405, "{path}");
        let allowed = answer.header("allow").split(',').filter(|method| *method != "HEAD");
        found.extend(allowed.map(|method| format!("{} {path}", method.to_ascii_lowercase())));
    }
    let paths = DESCRIPTION["paths"].as_object().unwrap().iter();
    let methods = |(path, entry): (&String, &Value)| {
        let methods: Vec<String> = entry.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(move |method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    assert_eq!(found, paths.flat_map(methods).collect::<BTreeSet<_>>());
    let served: Value = get(&app, "/openapi.json").ok();
    assert_eq!(served, *DESCRIPTION);
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// Reads a body, and says nothing of what it has read.
type Read = fn(&mut Fields, &App) -> Result<(), Fault>;

/// What reads the body of each path, and the least that it accepts.
fn readers() -> Vec<(&'static str, Read, Vec<Value>)> {
    let messages = || json!({ "messages": [{ "role": "user", "content": "" }] });
    let prompt = || json!({ "prompt": "a" });
    vec![
        (
            "/v1/chat/completions",
            |f, app| {
                f.text("model").and(ChatRequest::read(f, app.model()?, &app.settings).map(drop))
            },
            vec![messages()],
        ),
        (
            "/v1/completions",
            |f, app| {
                f.text("model")
                    .and(CompletionRequest::read(f, app.model()?, &app.settings).map(drop))
            },
            vec![prompt()],
        ),
        (
            "/v1/responses",
            |f, app| f.text("model").and(ResponseRequest::read(f, app.model()?, app).map(drop)),
            vec![json!({ "input": "a" })],
        ),
        (
            "/v1/messages/count_tokens",
            |f, app| f.text("model").and(MessagesRequest::read(f, app.model()?).map(drop)),
            vec![messages()],
        ),
        ("/completion", |f, app| Job::read(f, app.model()?).map(drop), vec![prompt()]),
        (
            "/v1/embeddings",
            |f, _| embeddings::Ask::read(f).map(drop),
            vec![json!({ "input": "a" })],
        ),
        (
            "/tokenize",
            |f, _| tokenize::Ask::read(f).map(drop),
            vec![json!({ "content": "a" }), prompt(), messages()],
        ),
        ("/detokenize", |f, _| tokenize::Tokens::read(f).map(drop), vec![json!({ "tokens": [] })]),
        ("/apply-template", |f, _| tokenize::Chat::read(f).map(drop), vec![messages()]),
        ("/v1/cache/explain", |f, _| cache::Ask::read(f).map(drop), vec![prompt(), messages()]),
        (
            "/api/chat",
            |f, app| {
                f.text("model").and(ollama::chat::ChatRequest::read(f, app.model()?).map(drop))
            },
            vec![messages()],
        ),
        (
            "/api/generate",
            |f, app| {
                let read = ollama::generate::GenerateRequest::read;
                f.text("model").and(read(f, app.model()?).map(drop))
            },
            vec![prompt()],
        ),
        ("/api/show", |f, _| ollama::catalogue::Ask::read(f).map(drop), vec![json!({})]),
        ("/api/embed", |f, _| ollama::embed::read(f).map(drop), vec![json!({ "input": "a" })]),
        ("/api/embeddings", |f, _| ollama::embed::read_one(f).map(drop), vec![prompt()]),
    ]
}

fn body_of(path: &str) -> &'static Value {
    let content = &path_of(path).unwrap()["post"]["requestBody"]["content"];
    &content["application/json"]["schema"]
}

#[test]
fn every_field_that_is_read_is_described_and_nothing_else() {
    let app = toy::app(Settings::default());
    for (path, read, bodies) in readers() {
        let schema = body_of(path);
        let of = |body: &Value| Fields::of_body(body.to_string().as_bytes()).unwrap();
        let (described, required) = names(schema);
        let mut asked = BTreeSet::new();
        for least in bodies {
            let mut fields = of(&least);
            read(&mut fields, &app).unwrap_or_else(|fault| panic!("{path}: {fault}"));
            asked.extend(fields.asked().iter().copied());
            for name in &required {
                let mut less = least.clone();
                less.as_object_mut().unwrap().remove(*name);
                assert!(read(&mut of(&less), &app).is_err(), "{path} without {name}");
                assert!(fits(schema, &less).is_err(), "{path} without {name}");
            }
            fits(schema, &least).unwrap_or_else(|why| panic!("{path}: {why}"));
        }
        let more: Vec<_> = described.symmetric_difference(&asked).collect();
        assert!(more.is_empty(), "{path}: {more:?} are either read or described");
    }
    let same = |one: &str, other: &str| assert_eq!(names(body_of(one)).0, names(body_of(other)).0);
    same("/v1/messages", "/v1/messages/count_tokens");
    same("/completions", "/completion");
}

#[test]
fn examples_are_answered() {
    let app = toy::app(Settings { strict_fields: true, ..Settings::default() });
    for (path, entry) in DESCRIPTION["paths"].as_object().unwrap() {
        let example = &entry["post"]["requestBody"]["content"]["application/json"]["example"];
        if !example.is_null() {
            post(&app, path, example).ok();
        }
    }
}

#[test]
fn references_lead_somewhere_and_names_are_unique() {
    fn walk(value: &'static Value, refs: &mut BTreeSet<&'static str>, ids: &mut Vec<&'static str>) {
        if let Some(at) = value["$ref"].as_str() {
            resolved(value);
            refs.insert(at);
        }
        ids.extend(value["operationId"].as_str());
        let items = value.as_array().into_iter().flatten();
        let members = value.as_object().into_iter().flat_map(serde_json::Map::values);
        items.chain(members).for_each(|value| walk(value, refs, ids));
    }
    let (mut refs, mut ids) = (BTreeSet::new(), Vec::new());
    walk(&DESCRIPTION, &mut refs, &mut ids);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    for part in ["schemas", "responses", "headers"] {
        for name in DESCRIPTION["components"][part].as_object().unwrap().keys() {
            let at = format!("#/components/{part}/{name}");
            assert!(refs.contains(at.as_str()), "{at} is used nowhere");
        }
    }
}
