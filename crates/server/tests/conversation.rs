//! An agent's conversation of twenty turns, on each wire: whatever a client changes on the way,
//! every turn computes only what is new.

mod client;
mod toy;

use std::path::PathBuf;
use std::sync::Arc;

use client::{Answer, post};
use qwire_server::chat::replay::Keeping;
use qwire_server::{App, Settings};
use serde_json::{Map, Value, json};

const TURNS: usize = 20;

/// Tokens that no text is encoded to: a model that writes with them is never spelt as its own text
/// would be.
const SPELLINGS: [&str; 8] = ["name", "ool", "_call", "arg", "ath\"", "\": ", "limi", "ad"];

fn settings(replay: Keeping) -> Settings {
    Settings { replay, ..Settings::default() }
}

fn parameters() -> Value {
    let schema = json!({
        "path": { "type": "string", "enum": ["lib.rs", "main.rs", "a b/c.rs", "{\"x\"}"] },
        "limit": { "type": "integer", "minimum": 0, "maximum": 99 },
        "flags": { "type": "object", "properties": { "b": { "type": "boolean" },
            "a": { "type": "boolean" } }, "required": ["b", "a"], "additionalProperties": false },
        "all": { "type": "boolean", "default": false },
    });
    json!({ "type": "object", "properties": schema, "required": ["path", "limit", "flags"],
        "additionalProperties": false })
}

/// An object with its keys in another order.
fn turned(value: &Value) -> Value {
    match value {
        Value::Object(pairs) => {
            pairs.iter().rev().map(|(key, value)| (key.clone(), turned(value))).collect()
        }
        other => other.clone(),
    }
}

/// Arguments as another library writes them down again: with what the schema has as default.
fn again(arguments: &Value) -> Value {
    let mut arguments = turned(arguments);
    let pairs = arguments.as_object_mut().unwrap();
    pairs.entry("all").or_insert(json!(false));
    arguments
}

/// What changes with each request.
fn header(turn: usize) -> String {
    let sum = turn * 7919 % 65_521;
    format!("x-anthropic-billing-header: cc_version=2.1.37; cc_entrypoint=cli; cch={sum:05x};")
}

fn countdown(turn: usize) -> String {
    format!("<total_tokens>{} tokens left</total_tokens>", 200_000 - 1234 * turn)
}

/// A wire as an agent speaks it.
trait Agent {
    /// The body of a turn: all that was said so far.
    fn body(&self, turn: usize) -> Value;
    /// Where it goes.
    fn path(&self) -> &'static str;
    /// Takes an answer into what was said. Tokens of the prompt, cached and of the answer.
    fn take(&mut self, turn: usize, answer: &Value) -> [u64; 3];
}

#[derive(Default)]
struct OpenAi(Vec<Value>);

impl Agent for OpenAi {
    fn path(&self) -> &'static str {
        "/v1/chat/completions"
    }

    fn body(&self, turn: usize) -> Value {
        let system = format!("{}\n\nYou are an agent. Be careful.", header(turn));
        let mut messages = vec![
            json!({ "role": "system", "content": system }),
            json!({ "role": "user", "content": "Mend the parser." }),
        ];
        messages.extend(self.0.iter().cloned());
        let last = messages.last_mut().unwrap();
        if last["role"] == "user" {
            let text = last["content"].as_str().unwrap();
            last["content"] = json!(format!("{text}\n{}", countdown(turn)));
        }
        let function = json!({ "name": "read", "parameters": parameters() });
        json!({
            "model": "toy", "seed": turn, "max_tokens": 1500, "tool_choice": "required",
            "tools": [{ "type": "function", "function": function }], "messages": messages,
        })
    }

    fn take(&mut self, turn: usize, answer: &Value) -> [u64; 3] {
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
        let mut message = choice["message"].clone();
        for call in message["tool_calls"].as_array_mut().unwrap() {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            let arguments = again(&serde_json::from_str(arguments).unwrap());
            call["function"]["arguments"] =
                json!(serde_json::to_string_pretty(&arguments).unwrap());
        }
        let results: Vec<Value> = message["tool_calls"].as_array().unwrap().iter().map(|call| {
            json!({ "role": "tool", "tool_call_id": call["id"], "content": format!("line {turn}") })
        }).collect();
        self.0.push(message);
        self.0.extend(results);
        if turn % 3 == 2 {
            self.0.push(json!({ "role": "user", "content": format!("And then? {turn}") }));
        }
        let usage = &answer["usage"];
        [
            &usage["prompt_tokens"],
            &usage["prompt_tokens_details"]["cached_tokens"],
            &usage["completion_tokens"],
        ]
        .map(|figure| figure.as_u64().unwrap())
    }
}

#[derive(Default)]
struct Anthropic(Vec<Value>);

impl Agent for Anthropic {
    fn path(&self) -> &'static str {
        "/v1/messages"
    }

    fn body(&self, turn: usize) -> Value {
        let text = |text: String| json!({ "type": "text", "text": text });
        let mut messages =
            vec![json!({ "role": "user", "content": [text("Mend the parser.".into())] })];
        messages.extend(self.0.iter().cloned());
        // The latest message alone tells how much is left.
        let last = messages.last_mut().unwrap()["content"].as_array_mut().unwrap();
        last.push(text(countdown(turn)));
        json!({
            "model": "claude-sonnet-4-5", "max_tokens": 1500, "seed": turn, "messages": messages,
            "system": [text(header(turn)), text("You are an agent. Be careful.".into())],
            "tools": [{ "name": "read", "input_schema": parameters() }],
            "tool_choice": { "type": "any" },
        })
    }

    fn take(&mut self, turn: usize, answer: &Value) -> [u64; 3] {
        assert_eq!(answer["stop_reason"], "tool_use", "{answer}");
        let mut content = answer["content"].clone();
        let mut results = Vec::new();
        for block in content.as_array_mut().unwrap() {
            if block["type"] == "tool_use" {
                block["input"] = again(&block["input"]);
                results.push(json!({
                    "type": "tool_result", "tool_use_id": block["id"],
                    "content": [{ "type": "text", "text": format!("line {turn}") }],
                }));
            }
        }
        self.0.push(json!({ "role": "assistant", "content": content }));
        self.0.push(json!({ "role": "user", "content": results }));
        let usage = &answer["usage"];
        let [fresh, cached, said] = ["input_tokens", "cache_read_input_tokens", "output_tokens"]
            .map(|name| usage[name].as_u64().unwrap());
        [fresh + cached, cached, said]
    }
}

fn app(replay: Keeping) -> Arc<App> {
    toy::spelling(settings(replay), &SPELLINGS)
}

/// Turns of a conversation; what each found cached, and what could be: all that was computed.
fn play(app: &Arc<App>, agent: &mut dyn Agent, turns: usize) -> Vec<(u64, u64, Answer)> {
    let (mut computed, mut played) = (0, Vec::new());
    for turn in 0..turns {
        let answer = post(app, agent.path(), &agent.body(turn));
        let [prompt, cached, said] = agent.take(turn, &answer.ok());
        assert!(cached < prompt);
        played.push((cached, computed, answer));
        computed = prompt + said;
    }
    played
}

#[test]
fn every_turn_computes_only_what_is_new() {
    let mut agents: [Box<dyn Agent>; 2] = [Box::<OpenAi>::default(), Box::<Anthropic>::default()];
    for agent in &mut agents {
        let app = app(Keeping::Memory);
        let played = play(&app, agent.as_mut(), TURNS);
        for (turn, (cached, reusable, answer)) in played.iter().enumerate() {
            assert_eq!(cached, reusable, "turn {turn} of {}", agent.path());
            let why = if turn == 0 { "" } else { ", why=extends" };
            let header = answer.header("x-prefix-cache");
            assert!(header.starts_with(&format!("hit={cached}, ")), "{header}");
            assert!(header.ends_with(why), "{header}");
        }
    }
}

/// Without a memory the same conversation parts from what was sampled.
#[test]
fn a_server_that_remembers_nothing_computes_turns_again() {
    let app = app(Keeping::Off);
    let played = play(&app, &mut OpenAi::default(), 4);
    assert!(played[1..].iter().all(|(cached, reusable, _)| cached < reusable));
}

#[test]
fn turns_outlive_the_process() {
    let folder = std::env::temp_dir().join(format!("qwire-replay-{}", std::process::id()));
    let disk = || Keeping::Disk(PathBuf::from(&folder));
    let first = app(disk());
    let mut agent = Anthropic::default();
    play(&first, &mut agent, 6);
    let next = agent.body(6);
    let count =
        |app: &Arc<App>| post(app, "/v1/messages/count_tokens", &next).ok()["input_tokens"].clone();
    let expected = count(&first);
    let patience = std::time::Instant::now();
    // The first server is still there, as if it were about to be killed.
    let second = loop {
        let second = app(disk());
        if second.replay().unwrap().len() == 6 || patience.elapsed().as_secs() > 5 {
            break second;
        }
    };
    assert_eq!(count(&second), expected);
    assert_ne!(count(&app(Keeping::Off)), expected);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_fork_is_told_with_both_texts() {
    let app = app(Keeping::Memory);
    let body = |day: &str, question: &str| {
        let system = format!("You are an agent.\nToday's date: {day}\n{}", "Rules. ".repeat(40));
        json!({ "max_tokens": 4, "messages": [
            { "role": "system", "content": system }, { "role": "user", "content": question },
        ] })
    };
    let ask = |day, question| post(&app, "/v1/chat/completions", &body(day, question));
    assert!(!ask("2026-01-31", "Why?").header("x-prefix-cache").contains("why"));
    let asked = body("2026-02-01", "Why?");
    let explained = |asked: &Value| {
        let only: Map<String, Value> =
            [("messages".to_owned(), asked["messages"].clone())].into_iter().collect();
        post(&app, "/v1/cache/explain", &only.into()).ok()["conversation"].clone()
    };
    let told = explained(&asked);
    assert_eq!((&told["parts"], &told["span"]), (&json!(true), &json!("date")));
    assert!(told["before"].as_str().unwrap().ends_with("Today's date: 2026-0"));
    assert!(told["asked"].as_str().unwrap().starts_with("2-01\n"));
    assert!(told["last"].as_str().unwrap().starts_with("1-31\n"));
    let header = ask("2026-02-01", "Why?").header("x-prefix-cache").to_owned();
    let at = told["common_tokens"].as_u64().unwrap();
    assert!(header.contains(&format!("why=parted, at={at}, span=date")), "{header}");
    assert_eq!(explained(&body("2026-02-01", "How?")), Value::Null, "another conversation");
}
