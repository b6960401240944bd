//! Wires: requests of every endpoint, and the bytes of a connection before they are requests.

use std::sync::{Arc, LazyLock};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use qwire_engine::toy::Toy;
use qwire_server::edge::gate::Gate;
use qwire_server::{App, Settings, router};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

use crate::toy;

/// Rows, outputs and pages of a toy that ends every answer soon.
const LIMITS: (usize, usize, usize) = (64, 64, 8);
const LAYERS: usize = 2;

static APP: LazyLock<Arc<App>> = LazyLock::new(|| {
    let app = App::new(Settings::default());
    app.install(toy::model(Toy::new(toy::vocabulary().len(), LAYERS, LIMITS)));
    app
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// The first line is method and path, the rest a body. Whatever it is, no fault is the server's,
/// and each is told in JSON.
pub fn request(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some((line, body)) = text.split_once('\n') else { return };
    let Some((method, path)) = line.split_once(' ') else { return };
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.header("content-type", "application/json");
    let request = request.header("content-length", body.len());
    let Ok(request) = request.body(Body::from(body.to_owned())) else { return };
    let (status, answer) = RUNTIME.block_on(async {
        let response = router(APP.clone()).oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        (parts.status, to_bytes(body, usize::MAX).await.expect("a whole body"))
    });
    assert!(status.as_u16() < 500, "{line}: {status}, {}", String::from_utf8_lossy(&answer));
    if status.is_client_error() && !answer.is_empty() && status != StatusCode::METHOD_NOT_ALLOWED {
        let json = serde_json::from_slice::<Value>(&answer);
        assert!(json.is_ok_and(|json| json.get("error").is_some()), "{line}: {status}");
    }
}

/// As much of a connection's bytes passes in pieces as at once.
pub fn gate(bytes: &[u8]) {
    let (mut whole, mut single) = (Gate::default(), Gate::default());
    let passed = whole.pass(bytes);
    let alone = bytes.iter().position(|byte| single.pass(&[*byte]) == 0);
    assert_eq!(passed, alone.unwrap_or(bytes.len()));
    assert_eq!((whole.part(), whole.heads()), (single.part(), single.heads()));
}
