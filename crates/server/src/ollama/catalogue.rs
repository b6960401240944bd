//! Catalogue: the one model that is here, as Ollama lists and shows what it has.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use qwire_engine::Sampling;
use serde_json::{Map, Value, json};

use super::answer::shown;
use crate::answer::{Json, decimal};
use crate::app::{App, Model, date};
use crate::fault::Fault;
use crate::fields::Fields;

/// The version of Ollama whose interface this is: clients ask for one that has tools and thinking.
const VERSION: &str = "0.13.0";
/// A model that is never unloaded: what Ollama answers for `keep_alive: -1`.
const NEVER: &str = "2318-01-01T00:00:00Z";

/// `GET /`
pub async fn root() -> &'static str {
    "Ollama is running"
}

/// `GET /api/version`
pub async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION, "qwire": env!("CARGO_PKG_VERSION") }))
}

/// `GET /api/tags`
pub async fn tags(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    Ok(Json(json!({ "models": [Value::Object(entry(app.model()?))] })))
}

/// `GET /api/ps`
pub async fn ps(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    let mut entry = entry(model);
    entry.insert("expires_at".into(), json!(NEVER));
    entry.insert("size_vram".into(), json!(0));
    entry.insert("context_length".into(), json!(model.service.bounds().context));
    Ok(Json(json!({ "models": [entry] })))
}

/// What is to be shown.
pub struct Ask {
    model: Option<String>,
}

impl Ask {
    /// Reads a body.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let (model, name) = (fields.text("model")?, fields.text("name")?);
        fields.without_effect(&["verbose", "system", "template", "options"]);
        Ok(Self { model: model.or(name) })
    }
}

/// `POST /api/show`
pub async fn show(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let ask = Ask::read(&mut fields)?;
    let model = app.model_named(ask.model.as_deref())?;
    let facts = &model.facts;
    let architecture = &facts.architecture;
    let context = model.service.bounds().context;
    let info = json!({
        "general.architecture": architecture,
        "general.parameter_count": facts.parameters,
        "general.basename": model.name,
        format!("{architecture}.context_length"): context,
        format!("{architecture}.embedding_length"): facts.hidden,
        "tokenizer.ggml.model": "gpt2",
    });
    let shown = json!({
        "modelfile": format!("FROM {}\n", model.name),
        "parameters": parameters(&model.sampling),
        "template": model.template_source.as_deref().unwrap_or_default(),
        "details": details(model),
        "model_info": info,
        "capabilities": capabilities(model),
        "modified_at": date(facts.created),
    });
    Ok((fields.finish(&app.settings)?, Json(shown)))
}

fn entry(model: &Model) -> Map<String, Value> {
    let entry = json!({
        "name": shown(model),
        "model": shown(model),
        "modified_at": date(model.facts.created),
        "size": model.facts.file_bytes,
        "digest": digest(model),
        "details": details(model),
    });
    let Value::Object(entry) = entry else { unreachable!("an object was written") };
    entry
}

/// The fingerprint, as long as clients expect a digest to be.
fn digest(model: &Model) -> String {
    let digits = model.facts.fingerprint.trim_start_matches("fp_");
    format!("{digits:0>64}")
}

fn details(model: &Model) -> Value {
    let facts = &model.facts;
    let family = &facts.architecture;
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": billions(facts.parameters),
        "quantization_level": facts.quantisation,
    })
}

/// 30.5B, 494M.
fn billions(parameters: u64) -> String {
    match parameters {
        ..1_000_000 => format!("{:.1}K", parameters as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", parameters as f64 / 1e6),
        _ => format!("{:.1}B", parameters as f64 / 1e9),
    }
}

/// What the model can do, as far as its file says.
fn capabilities(model: &Model) -> Vec<&'static str> {
    let template = model.template_source.as_deref().unwrap_or_default();
    let special = |text: &str| model.vocabulary.special_id(text).is_some();
    let thinks = template.contains("<think>") || template.contains("enable_thinking");
    let able = [
        ("completion", true),
        ("tools", template.contains("tools")),
        ("thinking", thinks && special("<think>")),
        ("insert", special("<|fim_middle|>")),
        ("embedding", true),
    ];
    able.into_iter().filter(|(_, able)| *able).map(|(name, _)| name).collect()
}

fn parameters(sampling: &Sampling) -> String {
    let rows = [
        ("temperature", decimal(sampling.temperature)),
        ("top_k", json!(sampling.top_k)),
        ("top_p", decimal(sampling.top_p)),
        ("min_p", decimal(sampling.min_p)),
        ("repeat_penalty", decimal(sampling.repetition_penalty)),
    ];
    let rows: Vec<String> =
        rows.iter().map(|(name, value)| format!("{name:<30} {value}")).collect();
    rows.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (parameters, shown) in
            [(900, "0.9K"), (4_800_000, "4.8M"), (494_000_000, "494.0M"), (30_500_000_000, "30.5B")]
        {
            assert_eq!(billions(parameters), shown);
        }
    }
}
