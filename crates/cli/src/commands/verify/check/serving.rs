//! Serving: the model through a real server at a real socket, against what `qwire run` computes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use qwire_engine::{Choice, Engine, Finish, Request, Sampling, Service, Settings, TokenId};
use qwire_server::App;
use qwire_server::edge::{self, Address, Ending, Stop};
use qwire_text::{ChatTemplate, Controls, Decoder, Special};
use serde_json::{Map, Value, json};

use super::super::contract::Samples;
use super::super::faults::Fault;
use super::super::subject::{Answer, Size, Subject};
use super::{Measured, put};
use crate::commands::agents::client::{self, Client};
use crate::commands::agents::events::{Event, Stream};
use crate::commands::loading::Opened;
use crate::commands::recommended;
use crate::commands::serve::loader::Loader;
use crate::failure::Failure;

pub const DISPATCH: &[&str] =
    &["status", "empty", "differing_tokens", "differing_logprobs", "error_lines"];
pub const STREAMING: &[&str] = &["surplus_events", "other_texts", "other_endings"];

/// What is asked. The model in the box knows the answers.
const QUESTIONS: [&str; 3] =
    ["How do I start the server?", "What is qwire?", "Repeat after me: blue house"];
/// Tokens of an answer that is given time to end, and of one that never would.
const PATIENT: usize = 256;
const SHORT: usize = 24;
const CONTEXT: usize = 2048;

/// A server, ended when it is dropped.
struct Host {
    client: Client,
    name: String,
    stop: Stop,
    thread: Option<JoinHandle<Ending>>,
}

impl Host {
    /// The model as `qwire serve` loads it, at a free port of this machine.
    fn start(subject: &Subject<'_>) -> Result<Self, Failure> {
        let context = CONTEXT.min(subject.opened.shape.context);
        let words = context.to_string();
        let flags = ["--ctx", &words, "--parallel", "4", "--log", "off", "--disk-cache", "off"];
        let Opened { path, file, shape } = subject.opened;
        let opened = Opened { path: path.clone(), file: file.clone(), shape: shape.clone() };
        let place = (subject.environment, subject.interrupt);
        let mut loader = Loader::flagged(opened, &flags, place)?;
        loader.options.device = subject.machine.clone();
        let mut loaded = loader.load()?;
        if subject.fault.is_some_and(|fault| fault.saboteur().is_some()) {
            let size = Size { rows: 512, positions: context };
            let runner = subject.runner(subject.device, size)?;
            let engine = Engine::new(runner, Settings { context, ..Settings::default() });
            let broken = |error| Failure::new(format!("the engine: {error}"));
            loaded.model.service = Service::start(engine).map_err(broken)?;
        }
        let name = loaded.model.name.clone();
        let address = Address::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        let sockets = edge::bind(&[address]).map_err(Failure::new)?;
        let url = sockets.addresses().first().map(ToString::to_string).unwrap_or_default();
        let (client, stop) = (Client::new(&url, None).map_err(Failure::new)?, sockets.stop());
        let app = App::new(qwire_server::Settings::default());
        app.install(loaded.model);
        let serve = thread::Builder::new().name("qwire-edge".into());
        let thread = serve.spawn(move || edge::serve(sockets, app));
        let thread = thread.map_err(|error| Failure::new(format!("no thread: {error}")))?;
        Ok(Self { client, name, stop, thread: Some(thread) })
    }

    fn chat(&self, question: &str, more: &Value) -> Result<client::Answer, Failure> {
        let mut body = json!({
            "model": self.name,
            "messages": [{ "role": "user", "content": question }],
            "temperature": 0,
        });
        let fields = body.as_object_mut().expect("it is one");
        fields.extend(more.as_object().cloned().unwrap_or_default());
        let headers = [("content-type".to_string(), "application/json".to_string())];
        let asked = self.client.ask("POST", "/v1/chat/completions", &headers, Some(&body));
        asked.map_err(|lost| Failure::new(format!("the server did not answer: {lost}")))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            // How it ended is no matter of the answers before.
            let _ = thread.join();
        }
    }
}

/// Why nobody can chat with the model.
fn untemplated(subject: &Subject<'_>) -> Result<Option<Measured>, Failure> {
    let source = subject.opened.file.metadata().str("tokenizer.chat_template")?;
    let reason = || Measured::Skipped("the file has no chat template".into());
    Ok(source.is_none().then(reason))
}

/// Most tokens of an answer.
fn room(subject: &Subject<'_>) -> usize {
    if subject.is_synthetic() { SHORT } else { PATIENT }
}

/// The answer as `qwire run` computes it; without the fault, which the server has.
fn run(subject: &Subject<'_>, engine: &mut Engine, question: &str) -> Result<Answer, Failure> {
    let (vocabulary, metadata) = (subject.vocabulary, subject.opened.file.metadata());
    let template = ChatTemplate::from_gguf(metadata, vocabulary)?;
    let template = template.ok_or_else(|| Failure::new("the file has no chat template"))?;
    let messages = json!([{ "role": "user", "content": question }]);
    let text = template.render(&messages, None, true, &Map::new())?;
    let prompt = vocabulary.encode_prompt(&text, Special::Parse);
    let sampling = Sampling { temperature: 0.0, ..recommended(metadata) };
    let request = Request {
        prompt: prompt.into_iter().map(TokenId).collect(),
        choices: vec![Choice::plain(sampling)],
        max_tokens: room(subject),
        ends: vocabulary.end_ids().iter().copied().map(TokenId).collect(),
        logprobs: Some(0),
        ..Request::default()
    };
    subject.answer(engine, request)
}

/// An engine that nothing is wrong with.
fn sound_engine(subject: &Subject<'_>) -> Result<Engine, Failure> {
    let context = CONTEXT.min(subject.opened.shape.context);
    let sound = Subject { fault: None, logits: None, log: subject.log.clone(), ..*subject };
    sound.engine(Size { rows: 512, positions: context }, context)
}

/// Status, message and tokens of the server against those of `qwire run`; nothing bad in the log.
pub fn dispatch(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    if let Some(skipped) = untemplated(subject)? {
        return Ok(skipped);
    }
    lines(&subject.log).clear();
    let host = Host::start(subject)?;
    let mut engine = sound_engine(subject)?;
    for question in QUESTIONS {
        let more = json!({ "max_tokens": room(subject), "logprobs": true });
        let answer = host.chat(question, &more)?;
        put(samples, "status", f64::from(answer.status));
        let body = answer.json();
        let text = body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        put(samples, "empty", f64::from(text.trim().is_empty()));
        let own = run(subject, &mut engine, question)?;
        let none = Vec::new();
        let found = body["choices"][0]["logprobs"]["content"].as_array().unwrap_or(&none);
        let shown = |id: &u32| subject.vocabulary.decode(&[*id], Controls::Show);
        let same = |(entry, id): &(&Value, &u32)| entry["token"] == shown(id);
        let others = found.iter().zip(&own.tokens).filter(|pair| !same(pair)).count();
        let missing = found.len().abs_diff(own.tokens.len());
        put(samples, "differing_tokens", (others + missing) as f64);
        let bits = |entry: &Value| entry["logprob"].as_f64().map(|x| (x as f32).to_bits());
        let pairs = found.iter().zip(&own.logprobs);
        let others = pairs.filter(|(entry, own)| bits(entry) != Some(own.to_bits())).count();
        put(samples, "differing_logprobs", (others + missing) as f64);
    }
    drop(host);
    let log = String::from_utf8_lossy(&lines(&subject.log)).into_owned();
    let bad = log.lines().filter(|line| line.contains("ERROR") || line.contains("panicked"));
    put(samples, "error_lines", bad.count() as f64);
    Ok(Measured::Done)
}

fn lines(log: &Mutex<Vec<u8>>) -> std::sync::MutexGuard<'_, Vec<u8>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers end at a token that ends them, through the server as in `qwire run`.
pub fn ending(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    if let Some(skipped) = untemplated(subject)? {
        return Ok(skipped);
    }
    if subject.is_synthetic() {
        return Ok(Measured::Skipped("random weights end no answer".into()));
    }
    let host = Host::start(subject)?;
    let mut engine = sound_engine(subject)?;
    for question in QUESTIONS {
        let missed = subject.has(Fault::MissedEnd);
        let more = json!({ "max_tokens": room(subject), "ignore_eos": missed });
        let body = host.chat(question, &more)?.json();
        let ended = body["choices"][0]["finish_reason"] == "stop";
        let own = run(subject, &mut engine, question)?.finish == Some(Finish::Stop);
        put(samples, "ended", f64::from(ended && own));
    }
    Ok(Measured::Done)
}

/// An event per token, and the text of the whole answer.
pub fn streaming(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    if let Some(skipped) = untemplated(subject)? {
        return Ok(skipped);
    }
    let host = Host::start(subject)?;
    let mut engine = sound_engine(subject)?;
    for question in QUESTIONS {
        let asked = |stream: bool| json!({ "max_tokens": room(subject), "stream": stream });
        let whole = host.chat(question, &asked(false))?.json();
        let stream = Stream::of(&host.chat(question, &asked(true))?);
        let bodies: Vec<Value> = stream.events.iter().map(Event::json).collect();
        let pieces = bodies.iter().filter_map(|body| {
            body["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty())
        });
        let mut pieces: Vec<String> = pieces.map(str::to_string).collect();
        if subject.has(Fault::MergedEvents) && pieces.len() > 1 {
            let last = pieces.pop().expect("there are two");
            *pieces.last_mut().expect("there is one") += &last;
        }
        let own = run(subject, &mut engine, question)?;
        let mut decoder = Decoder::new();
        let push = |id: &u32| decoder.push(subject.vocabulary.token_bytes(*id, Controls::Hide));
        let expected = own.tokens.iter().map(push).filter(|text| !text.is_empty()).count();
        put(samples, "surplus_events", pieces.len() as f64 - expected as f64);
        let text = &whole["choices"][0]["message"]["content"];
        put(samples, "other_texts", f64::from(*text != pieces.concat()));
        let finish =
            bodies.iter().rev().find_map(|body| body["choices"][0]["finish_reason"].as_str());
        let expected = whole["choices"][0]["finish_reason"].as_str();
        put(samples, "other_endings", f64::from(finish != expected));
    }
    Ok(Measured::Done)
}
