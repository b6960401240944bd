//! Health: whether the process is worth keeping, and whether requests should be sent here.

use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};

use crate::answer::Json;
use crate::app::{App, Stage};
use crate::fault::Fault;

/// `GET /health`: 500 means that a restart is due.
pub async fn health(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    match app.stage() {
        Stage::Loading => Err(Fault::loading()),
        Stage::Ready | Stage::Draining => Ok(Json(json!({ "status": "ok" }))),
        Stage::Broken => Err(Fault::internal()),
    }
}

/// `GET /readyz`: 503 keeps new requests away.
pub async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    match app.stage() {
        Stage::Loading => Err(Fault::loading()),
        Stage::Ready => Ok(Json(json!({ "status": "ready" }))),
        Stage::Draining | Stage::Broken => Err(Fault::draining()),
    }
}

/// `GET /version`
pub async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}
