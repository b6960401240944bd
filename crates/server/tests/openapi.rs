//! The description of the server: of every endpoint, of every field, and of nothing else.

mod client;
mod toy;

use std::collections::BTreeSet;

use client::description::{DESCRIPTION, fits, names, path_of, resolved};
use client::{get, post, send};
use qwire_server::admin::{cache, tokenize};
use qwire_server::fields::Fields;
use qwire_server::openai::embeddings;
use qwire_server::{Fault, Settings, routes};
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
type Read = fn(&mut Fields) -> Result<(), Fault>;

#[test]
fn every_field_that_is_read_is_described_and_nothing_else() {
    let rows: [(&str, Read, Value); 5] = [
        ("/v1/embeddings", |f| embeddings::Ask::read(f).map(drop), json!({ "input": "a" })),
        ("/tokenize", |f| tokenize::Ask::read(f).map(drop), json!({ "content": "a" })),
        ("/detokenize", |f| tokenize::Tokens::read(f).map(drop), json!({ "tokens": [] })),
        (
            "/apply-template",
            |f| tokenize::Chat::read(f).map(drop),
            json!({ "messages": [{ "role": "user", "content": "" }] }),
        ),
        ("/v1/cache/explain", |f| cache::Ask::read(f).map(drop), json!({ "prompt": "a" })),
    ];
    for (path, read, least) in rows {
        let content = &path_of(path).unwrap()["post"]["requestBody"]["content"];
        let schema = &content["application/json"]["schema"];
        let of = |body: &Value| Fields::of_body(body.to_string().as_bytes()).unwrap();
        let (described, required) = names(schema);
        let mut fields = of(&least);
        read(&mut fields).unwrap_or_else(|fault| panic!("{path}: {fault}"));
        assert_eq!(fields.asked().iter().copied().collect::<BTreeSet<_>>(), described, "{path}");
        for name in required {
            let mut less = least.clone();
            less.as_object_mut().unwrap().remove(name);
            assert!(read(&mut of(&less)).is_err(), "{path} without {name}");
            assert!(fits(schema, &less).is_err(), "{path} without {name}");
        }
        fits(schema, &least).unwrap_or_else(|why| panic!("{path}: {why}"));
    }
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
