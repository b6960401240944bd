//! Speaker: what a wire makes of a generation, as it comes or at once.
//!
//! A stream's first bytes are there before the prompt is read. Whatever is ready goes out in one
//! piece; a client that does not read stops nothing but its own stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use qwire_text::tools::Part;
use serde::Serialize;
use serde_json::Value;

use super::generation::{Generation, Order, Step};
use crate::answer::Json;
use crate::app::{App, aside};
use crate::edge::Account;
use crate::fault::Fault;
use crate::fields::Fields;

/// Most bytes of a piece.
const PIECE: usize = 16 << 10;

/// A wire's words for what happens.
pub trait Speaker: Send + Sized + 'static {
    /// How long the first words may wait for the figure of what is cached.
    const PATIENCE: Duration = Duration::ZERO;

    /// What is cached of the prompt, where there is patience for it.
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

/// Answers the body of a request. What it asks for is read beside the runtime, since encoding a
/// long prompt or compiling a schema takes longer than a turn of the runtime should.
pub async fn answer<S: Speaker>(
    app: Arc<App>,
    account: Account,
    body: Bytes,
    read: impl FnOnce(&mut Fields, &Arc<App>) -> Result<Asked<S>, Fault> + Send + 'static,
) -> Result<Response, Fault> {
    let shared = app.clone();
    let read = move || {
        let mut fields = Fields::of_body(&body)?;
        let asked = read(&mut fields, &shared)?;
        Ok((asked, fields.finish(&shared.settings)?))
    };
    let (Asked { orders, mut speaker, streams }, ignored) = aside(read).await?;
    let mut generation = Generation::start(&app, account, orders)?;
    if !S::PATIENCE.is_zero() {
        speaker.learn(generation.cached_within(S::PATIENCE).await);
    }
    let mut headers = HeaderMap::new();
    speaker.head(&mut headers);
    let answer = if streams {
        respond(generation, speaker)
    } else {
        Json(speaker.whole(generation).await?).into_response()
    };
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
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
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
