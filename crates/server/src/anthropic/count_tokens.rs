//! `POST /v1/messages/count_tokens`: the length of a prompt, rendered as it would be answered.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use serde_json::json;

use super::messages::MessagesRequest;
use crate::answer::Json;
use crate::app::{App, aside};
use crate::fault::Fault;
use crate::fields::Fields;

/// The endpoint.
pub async fn post(State(app): State<Arc<App>>, body: Bytes) -> Result<impl IntoResponse, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let model = app.asked_model(&mut fields)?;
    let request = MessagesRequest::read(&mut fields, model)?;
    let ignored = fields.finish(&app.settings)?;
    let prompt = aside(move || request.prompt(&app)).await?;
    Ok((ignored, Json(json!({ "input_tokens": prompt.len() }))))
}
