//! Admission: what stands before an endpoint: is the caller allowed here, and is the body whole,
//! of the right type and not too large.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::{body, host};
use crate::app::App;
use crate::fault::Fault;

/// The longest target of a request.
const TARGET_BYTES: usize = 8 << 10;

/// Where no key is asked for: probes have none.
const OPEN: [&str; 2] = ["/health", "/readyz"];

/// Refuses what HTTP itself does not allow.
pub fn check_form(request: &Request) -> Result<(), Fault> {
    let fault = |status, message: &str| Err(Fault::new(status, message));
    let uri = request.uri();
    let named = uri.scheme().is_none() && uri.authority().is_some();
    if named != (request.method() == Method::CONNECT) {
        return fault(StatusCode::BAD_REQUEST, "the target is not a path");
    }
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES) {
        return fault(StatusCode::URI_TOO_LONG, "the target is longer than 8 KiB");
    }
    match request.headers().get(EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            fault(StatusCode::EXPECTATION_FAILED, "accepted is `Expect: 100-continue` alone")
        }
        _ => Ok(()),
    }
}

/// Admits a request with its whole body, or says why not.
pub async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !OPEN.contains(&request.uri().path()) {
        let keys = &app.settings.keys;
        let checked = match keys.as_slice() {
            [] => host::check_place(&request),
            keys => check_key(keys, request.headers()),
        };
        if let Err(fault) = checked {
            let mut response = fault.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            return response;
        }
    }
    let (head, body) = request.into_parts();
    let has_body = has_body(&head.headers);
    let typed =
        if has_body && head.method == Method::POST { check_type(&head.headers) } else { Ok(()) };
    let whole = match typed {
        Ok(()) if has_body => body::whole(&head.headers, body, &app).await.map(Some),
        typed => typed.map(|()| None),
    };
    match whole {
        Ok(whole) => {
            let (bytes, _held) = whole.unzip();
            let body = bytes.map_or_else(Body::empty, Body::from);
            next.run(Request::from_parts(head, body)).await
        }
        Err(fault) => {
            // The rest of the body may still come.
            let mut response = fault.into_response();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// One of the keys, in either of two headers.
fn check_key(keys: &[String], headers: &HeaderMap) -> Result<(), Fault> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    let found = bearer.or_else(|| headers.get("x-api-key").map(HeaderValue::as_bytes));
    let refuse =
        |message| Err(Fault::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"));
    let Some(found) = found else {
        return refuse("a key is needed: `Authorization: Bearer KEY` or `x-api-key: KEY`");
    };
    // Each key is compared, each to its end, so that time tells nothing.
    let found = Sha256::digest(found);
    let differing = |key: &String| {
        let pairs = Sha256::digest(key.as_bytes()).into_iter().zip(found);
        std::hint::black_box(pairs.fold(0, |bits, (a, b)| bits | (a ^ b)))
    };
    match keys.iter().map(differing).filter(|bits| *bits == 0).count() {
        0 => refuse("the key is none of this server's"),
        _ => Ok(()),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Fault> {
    let found = headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    let kind = found.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let found = if found.is_empty() { "missing" } else { super::short(found) };
    let message = format!("`Content-Type` is {found}: accepted is application/json");
    Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}
