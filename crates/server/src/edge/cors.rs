//! Cors: which web pages may read answers. None may unless the settings name them.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

/// The origin of a request whose page may read the answer.
pub fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let names = |own: &String| own == "*" || own.as_bytes() == origin.as_bytes();
    origins.iter().any(names).then(|| origin.clone())
}

/// Whether a browser asks what it may ask.
pub fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What it may ask: everything that it asks for.
pub fn preflight(request: &Request) -> Response {
    let any = HeaderValue::from_static("authorization, content-type, x-api-key");
    let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or(&any);
    let methods = HeaderValue::from_static("GET, POST, DELETE");
    let headers = [
        (ACCESS_CONTROL_ALLOW_HEADERS, asked.clone()),
        (ACCESS_CONTROL_ALLOW_METHODS, methods),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Lets a page read an answer.
pub fn open(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.append(VARY, HeaderValue::from_static("origin"));
}
