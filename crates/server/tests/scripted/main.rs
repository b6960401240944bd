//! The real server and engine around a model that follows a script: for real clients, whose turns
//! a model of random weights could not lead anywhere.
//!
//! ```text
//! scripted serve VOCABULARY.gguf SCRIPT.json PORT     until a signal ends it
//! scripted                                            tests itself
//! ```
//! Tokenizer, template and dialect are those of the GGUF file; its weights are not read.

mod runner;
mod script;
#[path = "../toy/mod.rs"]
mod toy;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs, io};

use qwire_engine::{Engine, Sampling, Service};
use qwire_gguf::File;
use qwire_server::edge::{Address, Ending, bind, serve};
use qwire_server::{App, Facts, Model, Settings};
use qwire_text::tools::Dialect;
use qwire_text::{ChatTemplate, Grammars, Vocabulary};
use serde_json::json;

use runner::Scripted;
use script::Script;
use toy::Server;

/// As much as agents are made for.
const CONTEXT: usize = 262_144;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", vocabulary, script, port] => run(vocabulary, script, port),
        _ => check(),
    }
}

fn run(vocabulary: &str, script: &str, port: &str) {
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(io::stderr);
    log.with_target(false).init();
    let app = app(Path::new(vocabulary), &fs::read_to_string(script).expect("a script"));
    let address = format!("127.0.0.1:{port}").parse().expect("a port");
    let sockets = bind(&[Address::Tcp(address)]).expect("the port is free");
    assert_ne!(serve(sockets, app), Ending::Broken);
}

/// An app whose model follows a script.
fn app(vocabulary: &Path, script: &str) -> Arc<App> {
    let file = File::open(vocabulary).expect("a GGUF file");
    let metadata = file.metadata();
    let vocabulary = Arc::new(Vocabulary::from_gguf(metadata).expect("a vocabulary"));
    let source = metadata.str("tokenizer.chat_template").expect("a text").expect("a template");
    let script = Script::read(script).expect("a script");
    let runner = Scripted::new(vocabulary.clone(), script, CONTEXT);
    let facts = Facts {
        trained_context: CONTEXT,
        fingerprint: "scripted".into(),
        version: env!("CARGO_PKG_VERSION"),
        ..Facts::default()
    };
    let settings = qwire_engine::Settings { context: CONTEXT, ..Default::default() };
    let app = App::new(Settings::default());
    app.install(Model {
        name: "scripted".into(),
        aliases: Vec::new(),
        grammars: Grammars::new(&vocabulary).expect("a trie"),
        template: ChatTemplate::from_gguf(metadata, &vocabulary).expect("a template"),
        template_source: Some(source.into()),
        dialect: Dialect::of_template(source).expect("a template that teaches calls"),
        sampling: Sampling::default(),
        facts,
        service: Service::start(Engine::new(Box::new(runner), settings)).expect("a thread"),
        vocabulary,
    });
    app
}

/// What was said last decides, whatever came before and in whatever order it is asked.
fn check() {
    let box_model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/qwire-box.gguf");
    let call = "I look.\n<tool_call>\n<function=look>\n<parameter=at>\na.txt\n</parameter>\n\
                </function>\n</tool_call>";
    let script = json!([
        { "hears": ["look at", "a.txt"], "says": call },
        { "hears": ["<tool_response>"], "says": "It is empty." },
    ]);
    let server = Server::start(app(&box_model, &script.to_string()));
    let properties = json!({ "at": { "type": "string" } });
    let parameters = json!({ "type": "object", "properties": properties, "required": ["at"] });
    let tools = json!([{ "type": "function",
        "function": { "name": "look", "parameters": parameters } }]);
    let ask = |messages: &serde_json::Value| {
        let body = json!({ "messages": messages, "tools": tools });
        server.post("/v1/chat/completions", &body).json()["choices"][0].clone()
    };
    let first = json!({ "role": "user", "content": "Please look at a.txt" });
    let asked = ask(&json!([first]));
    assert_eq!(asked["message"]["content"], "I look.", "{asked}");
    let calls = &asked["message"]["tool_calls"];
    assert_eq!(calls[0]["function"]["arguments"], r#"{"at": "a.txt"}"#, "{asked}");
    let told = json!({ "role": "tool", "tool_call_id": calls[0]["id"], "content": "" });
    for (messages, said) in [
        (json!([first, { "role": "assistant", "tool_calls": calls }, told]), "It is empty."),
        (json!([{ "role": "user", "content": "?" }]), "The script has no line for this."),
    ] {
        let answer = ask(&messages);
        assert_eq!(answer["message"]["content"], said, "{answer}");
        assert_eq!(answer["finish_reason"], "stop", "{answer}");
    }
    println!("the script is followed");
}
