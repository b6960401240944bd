//! `POST /infill`: what stands between two texts of a file, for editors.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use qwire_text::{Special, Vocabulary};
use serde_json::Value;

use super::completion::Job;
use crate::app::App;
use crate::chat::speaker::{self, Caller};
use crate::fault::Fault;
use crate::fields::{Fields, wrong};
use crate::openai::completions::fill;

/// What stands before the name of a repository and of a file.
const PLACES: [&str; 2] = ["<|repo_name|>", "<|file_sep|>"];

/// The endpoint.
pub async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Fault> {
    let read =
        |fields: &mut Fields, app: &Arc<App>| Job::read_infill(fields, app.model()?)?.asked(app);
    speaker::answer(app, caller, body, read).await
}

/// The prompt: other files, and the two sides of the gap.
pub fn prompt(fields: &mut Fields, vocabulary: &Vocabulary) -> Result<Vec<u32>, Fault> {
    let mut text = |name| fields.text(name)?.ok_or_else(|| fields.fault(name, "is required"));
    let (before, after) = (text("input_prefix")?, text("input_suffix")?);
    let begun = fields.text("prompt")?.unwrap_or_default();
    let encode = |text: &str| vocabulary.encode(text, Special::AsText);
    let mut ids = others(fields, vocabulary)?;
    let before = encode(&(before + &begun));
    let gap = fill(before, &after, vocabulary);
    ids.extend(
        gap.ok_or_else(|| {
            fields.fault("input_suffix", "needs a model that was made to fill gaps")
        })?,
    );
    Ok(ids)
}

/// Other files of the project, each under its name.
fn others(fields: &mut Fields, vocabulary: &Vocabulary) -> Result<Vec<u32>, Fault> {
    let path = fields.path("input_extra");
    let files = fields.list("input_extra")?.unwrap_or_default();
    let [repository, file] = PLACES.map(|place| vocabulary.special_id(place));
    let (Some(repository), Some(file)) = (repository, file) else { return Ok(Vec::new()) };
    let encode = |text: &str| vocabulary.encode(text, Special::AsText);
    let mut ids = Vec::new();
    for (at, item) in files.into_iter().enumerate() {
        let place = format!("{path}[{at}]");
        if !item.is_object() {
            return Err(wrong(&place, &item, "an object of `filename` and `text`"));
        }
        let part = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
        let text = part("text").ok_or_else(|| Fault::field(&place, "has no `text`"))?;
        if ids.is_empty() {
            ids.push(repository);
            ids.extend(encode("repository\n"));
        }
        ids.push(file);
        ids.extend(encode(&format!("{}\n", part("filename").unwrap_or_default())));
        ids.extend(encode(&text));
    }
    if !ids.is_empty() {
        ids.push(file);
        ids.extend(encode("file\n"));
    }
    Ok(ids)
}
