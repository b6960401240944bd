//! Speaker: what a wire makes of a generation, as it comes or at once.
//!
//! A stream's first bytes are there before the prompt is read. Whatever is ready goes out in one
//! piece; a client that does not read stops nothing but its own stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use qwire_engine::Class;
use qwire_text::tools::Part;
use serde::Serialize;
use serde_json::Value;

use super::generation::{Generation, Order, Step};
use super::{class, fork};
use crate::answer::Json;
use crate::app::{App, aside};
use crate::edge::Account;
use crate::fault::Fault;
use crate::fields::Fields;

/// How long a stream's head may wait for the figure of what is cached.
const PATIENCE: Duration = Duration::from_millis(50);
/// Most bytes of a piece.
const PIECE: usize = 16 << 10;

/// A wire's words for what happens.
pub trait Speaker: Send + Sized + 'static {
    /// What a stream is made of.
    const STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

    /// What is cached of the prompt, before the first words of a stream.
    fn learn(&mut self, _cached: usize) {}
    /// What stands in the head of the response.
    fn head(&self, _headers: &mut HeaderMap) {}
    /// The answer at once.
    fn whole(self, generation: Generation) -> impl Future<Output = Result<Value, Fault>> + Send;
    /// What is said before anything has happened.
    fn open(&mut self, out: &mut Vec<u8>);
    /// What is said of a step. False ends the stream.
    fn speak(&mut self, step: Step, out: &mut Vec<u8>) -> bool;
    /// What is said when every choice is over.
    fn close(&mut self, out: &mut Vec<u8>);
}

/// What a request comes to.
pub struct Asked<S> {
    /// For the engine.
    pub orders: Vec<Order>,
    /// Who tells the client.
    pub speaker: S,
    /// As it comes, or at once.
    pub streams: bool,
}

/// Who asks, and how urgently.
pub struct Caller {
    account: Account,
    class: Option<Class>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        let account = parts.extensions.get::<Account>().cloned().unwrap_or_default();
        let class = parts
            .headers
            .get(class::HEADER)
            .map(|value| class::of_header(value.to_str().unwrap_or("?")));
        Ok(Self { account, class: class.transpose()? })
    }
}

/// Answers the body of a request. What it asks for is read beside the runtime, since encoding a
/// long prompt or compiling a schema takes longer than a turn of the runtime should.
pub async fn answer<S: Speaker>(
    app: Arc<App>,
    caller: Caller,
    body: Bytes,
    read: impl FnOnce(&mut Fields, &Arc<App>) -> Result<Asked<S>, Fault> + Send + 'static,
) -> Result<Response, Fault> {
    let shared = app.clone();
    let read = move || {
        let mut fields = Fields::of_body(&body)?;
        let asked = read(&mut fields, &shared)?;
        Ok((asked, fields.finish(&shared.settings)?))
    };
    let (Asked { mut orders, mut speaker, streams }, ignored) = aside(read).await?;
    for order in &mut orders {
        order.parameters.class = caller.class.or(order.parameters.class);
    }
    let (total, fork) =
        orders.first_mut().map_or((0, None), |order| (order.ids.len(), order.lineage.fork.take()));
    let account = caller.account;
    let mut generation = Generation::start(&app, account.clone(), orders)?;
    let mut headers = HeaderMap::new();
    speaker.head(&mut headers);
    let (answer, hit) = if streams {
        let hit = generation.cached_within(PATIENCE).await;
        speaker.learn(hit.unwrap_or(0));
        (respond(generation, speaker), hit)
    } else {
        (Json(speaker.whole(generation).await?).into_response(), account.figures().hit)
    };
    headers.insert(fork::HEADER, fork::header(hit, total, fork.as_ref()));
    Ok((headers, ignored, answer).into_response())
}

/// The stream that a speaker makes of a generation.
fn respond<S: Speaker>(generation: Generation, speaker: S) -> Response {
    let talk = Talk { generation, speaker, stage: Stage::Opening };
    let pieces = stream::unfold(talk, |mut talk| async move {
        let piece = talk.piece().await?;
        Some((Ok::<_, Infallible>(piece), talk))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, S::STREAM);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies would gather events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Talk<S> {
    generation: Generation,
    speaker: S,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Opening,
    Speaking,
    Over,
}

impl<S: Speaker> Talk<S> {
    async fn piece(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        match self.stage {
            Stage::Over => return None,
            Stage::Opening => {
                self.speaker.open(&mut out);
                self.stage = Stage::Speaking;
            }
            Stage::Speaking => {}
        }
        while self.stage == Stage::Speaking && out.len() < PIECE {
            let next = match self.generation.ready() {
                Some(step) => Some(step),
                None if !out.is_empty() => break,
                None => self.generation.next().await,
            };
            let goes_on = next.map(|step| self.speaker.speak(step, &mut out));
            if goes_on.is_none() {
                self.speaker.close(&mut out);
            }
            if goes_on != Some(true) {
                self.stage = Stage::Over;
            }
        }
        Some(out.into())
    }
}

/// What most wires say while a prompt is read, and while nothing happens.
pub fn sign_of_life(step: &Step, out: &mut Vec<u8>) {
    match step {
        Step::Prefill { done, total, left, .. } => {
            let seconds = left.as_secs_f64().ceil();
            comment(out, &format!("prompt {done}/{total}, {seconds} s left"));
        }
        _ => comment(out, "ping"),
    }
}

/// The visible text of parts, for wires that know nothing else.
pub fn text_of(parts: Vec<Part>) -> String {
    let text = |part| if let Part::Text(text) = part { Some(text) } else { None };
    parts.into_iter().filter_map(text).collect()
}

/// Writes one event without a name.
pub fn event(out: &mut Vec<u8>, data: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *out, data)
        .expect("what is ours can be written, and memory takes it");
    out.extend_from_slice(b"\n\n");
}

/// Writes one line.
pub fn line(out: &mut Vec<u8>, data: &impl Serialize) {
    serde_json::to_writer(&mut *out, data)
        .expect("what is ours can be written, and memory takes it");
    out.push(b'\n');
}

/// Writes one event with a name.
pub fn event_named(out: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    event(out, data);
}

/// Writes what clients skip.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\n\n");
}
