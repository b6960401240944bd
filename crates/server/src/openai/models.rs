//! Models: the one that is here, under each of its names, in OpenAI's words or Anthropic's.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::answer::Json;
use crate::app::{App, Model, date};
use crate::fault::Fault;

/// `GET /v1/models`
pub async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    let data: Vec<Value> = names(model).map(|name| entry(model, name, &headers)).collect();
    Ok(Json(if is_anthropic(&headers) {
        let (first, last) = (names(model).next(), names(model).last());
        json!({ "data": data, "has_more": false, "first_id": first, "last_id": last })
    } else {
        json!({ "object": "list", "data": data })
    }))
}

/// `GET /v1/models/{id}`, where an id may have slashes
pub async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Value>, Fault> {
    let Path(id) = id.map_err(|rejection| Fault::request(rejection.body_text()))?;
    let model = app.model_named(Some(&id))?;
    let name = names(model).find(|name| name.eq_ignore_ascii_case(&id)).unwrap_or(&model.name);
    Ok(Json(entry(model, name, &headers)))
}

fn names(model: &Model) -> impl Iterator<Item = &str> {
    std::iter::once(&model.name).chain(&model.aliases).map(String::as_str)
}

fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

fn entry(model: &Model, name: &str, headers: &HeaderMap) -> Value {
    let created = model.facts.created;
    if is_anthropic(headers) {
        let created_at = date(created);
        let display_name = &model.name;
        return json!({
            "type": "model", "id": name, "display_name": display_name, "created_at": created_at
        });
    }
    let context = model.service.bounds().context;
    json!({
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "qwire",
        "context_length": context,
        "max_model_len": context,
    })
}
