//! `POST /api/embed`, and `/api/embeddings` for one text.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use serde_json::json;

use super::answer::shown;
use crate::answer::Json;
use crate::app::App;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::openai::embeddings::{self, vectors};

const WITHOUT_EFFECT: &[&str] = &["keep_alive", "options", "truncate"];

/// Reads the body of `/api/embed`.
pub fn read(fields: &mut Fields) -> Result<embeddings::Ask, Fault> {
    fields.without_effect(WITHOUT_EFFECT);
    let (model, dimensions) = (fields.text("model")?, fields.count("dimensions", 1..=u64::MAX)?);
    Ok(embeddings::Ask::of(model, fields.required("input")?, dimensions))
}

/// Reads the body of `/api/embeddings`.
pub fn read_one(fields: &mut Fields) -> Result<embeddings::Ask, Fault> {
    fields.without_effect(WITHOUT_EFFECT);
    Ok(embeddings::Ask::of(fields.text("model")?, fields.required("prompt")?, None))
}

/// Some texts.
pub async fn post(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let began = Instant::now();
    let mut fields = Fields::of_body(&body)?;
    let ask = read(&mut fields)?;
    let ignored = fields.finish(&app.settings)?;
    let (vectors, tokens) = vectors(&app, ask).await?;
    let answer = json!({
        "model": shown(app.model()?),
        "embeddings": vectors,
        "total_duration": began.elapsed().as_nanos() as u64,
        "load_duration": 0,
        "prompt_eval_count": tokens,
    });
    Ok((ignored, Json(answer)))
}

/// One text.
pub async fn post_one(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let ask = read_one(&mut fields)?;
    let ignored = fields.finish(&app.settings)?;
    let (mut vectors, _) = vectors(&app, ask).await?;
    Ok((ignored, Json(json!({ "embedding": vectors.remove(0) }))))
}
