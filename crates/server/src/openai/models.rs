//! Models: the one that is here, under each of its names, in OpenAI's words or Anthropic's.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::answer::Json;
use crate::app::{App, Model};
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

/// Seconds since 1970 as RFC 3339 writes them. Years begin in March, so that a leap day is a last
/// day, and are counted in eras of 400.
pub fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
