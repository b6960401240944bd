//! Answer: what happens to every request around its endpoint: it gets a name, a panic is its own
//! 500, a fault becomes the body of its wire, and one line is logged when the answer is over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::{Frame, SizeHint};

use super::account::{ANTHROPIC_HEADER, Account, HEADER, RequestId};
use super::connection::Pulse;
use super::{admission, cors, host, short};
use crate::app::{App, Stage};
use crate::fault::{Fault, Wire};

/// What may be asked until the very end, and keeps no server from ending.
const ASKED_TO_THE_END: [&str; 3] = ["/health", "/readyz", "/metrics"];

/// Answers a request, whatever its endpoint does.
pub async fn answer(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let (path, wire) = (request.uri().path(), Wire::of(request.uri().path()));
    let ending = matches!(app.stage(), Stage::Draining | Stage::Broken);
    let aside = ASKED_TO_THE_END.contains(&path);
    let mut line = Line::of(&request, &id, &app, !ending && !aside);
    let origin = cors::allowed(&app.settings.origins, request.headers());
    let preflight = origin.is_some() && cors::is_preflight(&request);
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(line.account.clone());
    let response = match host::check_form(&request).and_then(|()| admission::check_form(&request)) {
        Err(fault) => fault.into_response(),
        Ok(()) if preflight => cors::preflight(&request),
        Ok(()) if ending && !aside => Fault::draining().into_response(),
        Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            line.panicked();
            Fault::internal().into_response()
        }),
    };
    let mut response = spoken(response, wire, &id);
    let name = HeaderValue::from_str(&id.0).expect("a name is plain ASCII");
    response.headers_mut().insert(ANTHROPIC_HEADER, name.clone());
    response.headers_mut().insert(HEADER, name);
    if let Some(origin) = origin {
        cors::open(response.headers_mut(), origin);
    }
    line.status = response.status().as_u16();
    response.map(|body| Body::new(Told { body, broken: false, line }))
}

/// A fault becomes the body of its wire.
fn spoken(mut response: Response, wire: Wire, id: &RequestId) -> Response {
    let Some(fault) = response.extensions_mut().remove::<Fault>() else { return response };
    *response.status_mut() = fault.status(wire);
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.map(|_| Body::from(fault.body(wire, &id.0).to_string()))
}

/// A request's line in the log, written when its answer is over or nobody wants it any more.
struct Line {
    app: Arc<App>,
    /// Whether a server that ends waits for it.
    counted: bool,
    pulse: Option<Arc<Pulse>>,
    account: Account,
    method: Method,
    path: String,
    began: Instant,
    status: u16,
    whole: bool,
}

impl Line {
    fn of(request: &Request, id: &RequestId, app: &Arc<App>, counted: bool) -> Self {
        app.tally.requests.fetch_add(usize::from(counted), Ordering::Relaxed);
        Self {
            app: app.clone(),
            counted,
            pulse: request.extensions().get().cloned(),
            account: Account::of(id),
            method: request.method().clone(),
            path: short(request.uri().path()).into(),
            began: Instant::now(),
            status: 0,
            whole: false,
        }
    }

    fn panicked(&self) {
        self.app.tally.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(id = self.account.id.0, path = ?self.path, "a panic ended a request");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let tally = &self.app.tally;
        tally.requests.fetch_sub(usize::from(self.counted), Ordering::Relaxed);
        tally.answers[usize::from(self.status / 100).min(5)].fetch_add(1, Ordering::Relaxed);
        self.pulse.iter().for_each(|pulse| pulse.rest());
        let figures = self.account.figures();
        let ms = self.began.elapsed().as_millis() as u64;
        let (method, path) = (short(self.method.as_str()), &self.path);
        let ttft_ms = figures.first.map(|first| first.as_millis() as u64);
        let (prompt, cached, tokens) = (figures.prompt, figures.cached, figures.tokens);
        let (status, id, finish) = (self.status, &self.account.id.0, figures.finish);
        let left = (!self.whole).then_some(true);
        // Debug escapes what would forge a line.
        tracing::info!(
            method,
            ?path,
            status,
            id,
            ms,
            ttft_ms,
            prompt,
            cached,
            tokens,
            finish,
            left,
            "request"
        );
    }
}

/// A body with its line in the log.
struct Told {
    body: Body,
    broken: bool,
    line: Line,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.broken {
            let why = std::io::Error::other("an internal fault ended the answer");
            return Poll::Ready(Some(Err(axum::Error::new(why))));
        }
        let body = &mut self.body;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)));
        let Ok(frame) = polled else {
            self.line.panicked();
            self.broken = true;
            // What came before is sent before the answer breaks off.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let frame = ready!(frame);
        self.line.whole |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.line.whole |= self.body.is_end_stream() || self.line.method == Method::HEAD;
    }
}
