//! A client without a socket: one request through the router, and what came back. It believes
//! nothing that the description does not say.

#![allow(dead_code, reason = "each test file takes what it needs")]

pub mod description;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use qwire_server::App;
use serde_json::Value;
use tower::ServiceExt;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

/// Sends a request.
pub fn send(app: &Arc<App>, target: &str, headers: &[(&str, &str)], body: String) -> Answer {
    let (method, path) = target.split_once(' ').expect("a method and a path");
    let sent = body.clone();
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if !body.is_empty() {
        let length = body.len();
        request =
            request.header("content-type", "application/json").header("content-length", length);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body)).expect("a request");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let response =
            qwire_server::router(app.clone()).oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.expect("a body");
        let text = String::from_utf8(bytes.to_vec()).expect("a text");
        Answer { status: parts.status, headers: parts.headers, text }
    });
    let checked = description::check(target, &sent, answer.status.as_u16(), &answer.text);
    checked.unwrap_or_else(|why| panic!("{why}"));
    answer
}

/// `GET`
pub fn get(app: &Arc<App>, path: &str) -> Answer {
    send(app, &format!("GET {path}"), &[], String::new())
}

/// `POST` of JSON
pub fn post(app: &Arc<App>, path: &str, body: &Value) -> Answer {
    send(app, &format!("POST {path}"), &[], body.to_string())
}

impl Answer {
    /// The body of a good answer.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).expect("JSON")
    }

    /// Status and field of a fault.
    #[track_caller]
    pub fn fault(&self) -> (u16, String) {
        let body: Value = serde_json::from_str(&self.text).expect("JSON");
        let param = body["error"]["param"].as_str().unwrap_or_default();
        assert!(!body["error"]["message"].as_str().expect("a message").is_empty());
        (self.status.as_u16(), param.into())
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }
}
