//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use qwire_text::Special;
use serde_json::json;

use super::answer::ChatSpeaker;
use super::delivery::Delivery;
use crate::app::{App, Model, Settings};
use crate::chat::conversation::flat;
use crate::chat::parameters::STOPS;
use crate::chat::speaker::{self, Caller};
use crate::chat::{Asked, Conversation, Form, Logprobs, Parameters, ToolChoice, Turn};
use crate::fault::Fault;
use crate::fields::Fields;

/// Fields that are accepted and change nothing here.
const WITHOUT_EFFECT: &[&str] = &[
    "cache_prompt",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "store",
    "user",
    "verbosity",
];

/// A request, every field read.
pub struct ChatRequest {
    turn: Turn,
    delivery: Delivery,
}

/// The endpoint.
pub async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Fault> {
    let read = |fields: &mut Fields, app: &Arc<App>| {
        let name = fields.text("model")?;
        let model = app.model_named(name.as_deref())?;
        let ChatRequest { turn, delivery } = ChatRequest::read(fields, model, &app.settings)?;
        let order = Turn { name, ..turn }.order(app)?;
        let speaker = ChatSpeaker::of(model, &order, delivery)?;
        Ok(Asked { orders: vec![order], speaker, streams: delivery.stream })
    };
    speaker::answer(app, caller, body, read).await
}

impl ChatRequest {
    /// Reads every field but the model's name.
    pub fn read(fields: &mut Fields, model: &Model, settings: &Settings) -> Result<Self, Fault> {
        let conversation = Conversation::read(fields)?;
        let mut parameters = Parameters::read(fields, model, STOPS)?;
        let most = fields.count("max_tokens", 1..=u64::MAX)?;
        let most = fields.count("max_completion_tokens", 1..=u64::MAX)?.or(most);
        parameters.max_tokens = most.map(|most| most as usize);
        parameters.guard_repetition = fields.flag("repetition_guard")?.unwrap_or(true);
        parameters.prediction = prediction(fields, model)?;
        let turn = Turn {
            name: None,
            parameters,
            logprobs: Logprobs::read_chat(fields)?,
            choice: ToolChoice::read(fields, &conversation)?,
            parallel: fields.flag("parallel_tool_calls")?.unwrap_or(true),
            form: Form::read(fields)?,
            conversation,
        };
        let request = Self { turn, delivery: Delivery::read(fields, settings)? };
        fields.only("modalities", &[json!(["text"])])?;
        for name in ["audio", "functions", "function_call", "web_search_options"] {
            fields.only(name, &[])?;
        }
        fields.without_effect(WITHOUT_EFFECT);
        Ok(request)
    }
}

/// What the answer should be: it comes sooner where it is, and is the same.
fn prediction(fields: &mut Fields, model: &Model) -> Result<Vec<u32>, Fault> {
    let Some(mut found) = fields.object("prediction")? else { return Ok(Vec::new()) };
    found.word("type", &["content"])?;
    let path = found.path("content");
    let text = flat(found.required("content")?, &path)?;
    fields.close(&found);
    Ok(model.vocabulary.encode(&text, Special::AsText))
}
