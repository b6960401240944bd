//! `POST /api/generate`: one prompt, in the template or raw, or a gap between two texts.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use qwire_engine::Report;
use qwire_text::Special;
use serde_json::Map;

use super::answer::{Kind, LineSpeaker, loaded};
use super::chat::asks_nothing;
use super::options::Options;
use crate::app::{App, Model};
use crate::chat::speaker::{self, Caller};
use crate::chat::turn::Lineage;
use crate::chat::{Asked, Conversation, Logprobs, Order, Reading, ToolChoice, Turn};
use crate::fault::Fault;
use crate::fields::Fields;
use crate::openai::completions::fill;

/// A request, every field read.
pub struct GenerateRequest {
    prompt: String,
    suffix: String,
    system: Option<String>,
    raw: bool,
    images: usize,
    logprobs: Option<Logprobs>,
    options: Options,
}

/// The endpoint.
pub async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Fault> {
    if let Some(name) = asks_nothing(&body, "prompt") {
        let model = app.model_named(name.as_deref())?;
        return Ok(loaded(model, Kind::Generate).into_response());
    }
    let read = |fields: &mut Fields, app: &Arc<App>| {
        let name = fields.text("model")?;
        let model = app.model_named(name.as_deref())?;
        let request = GenerateRequest::read(fields, model)?;
        let stream = request.options.stream;
        let order = request.order(name, app, model)?;
        let speaker = LineSpeaker::of(model, Kind::Generate);
        Ok(Asked { orders: vec![order], speaker, streams: stream })
    };
    speaker::answer(app, caller, body, read).await
}

impl GenerateRequest {
    /// Reads every field but the model's name.
    pub fn read(fields: &mut Fields, model: &Model) -> Result<Self, Fault> {
        fields.without_effect(&["context", "template"]);
        let prompt = fields.text("prompt")?;
        Ok(Self {
            prompt: prompt.ok_or_else(|| fields.fault("prompt", "is required"))?,
            suffix: fields.text("suffix")?.unwrap_or_default(),
            system: fields.text("system")?.filter(|system| !system.is_empty()),
            raw: fields.flag("raw")?.unwrap_or(false),
            images: fields.list("images")?.unwrap_or_default().len(),
            logprobs: Logprobs::read_chat(fields)?,
            options: Options::read(fields, model)?,
        })
    }

    fn order(self, name: Option<String>, app: &App, model: &Model) -> Result<Order, Fault> {
        let Options { parameters, form, switches, .. } = self.options;
        let vocabulary = &model.vocabulary;
        if self.raw || !self.suffix.is_empty() {
            let ids = if self.suffix.is_empty() {
                vocabulary.encode_prompt(&self.prompt, Special::Parse)
            } else {
                let before = vocabulary.encode(&self.prompt, Special::AsText);
                let filled = fill(before, &self.suffix, vocabulary);
                let fault = "needs a model that was made to fill gaps";
                filled.ok_or_else(|| Fault::field("suffix", fault))?
            };
            let reading = Reading::plain(model, &form.0, &form.1)?;
            let (logprobs, lineage) = (self.logprobs, Lineage::default());
            return Ok(Order {
                ids,
                parameters,
                logprobs,
                report: Report::Nothing,
                reading,
                lineage,
            });
        }
        let mut conversation = Conversation { switches, ..Conversation::default() };
        if let Some(system) = self.system {
            conversation.push("system", system, Map::new());
        }
        let note = "\n[image: not shown, this model reads text alone]".repeat(self.images);
        conversation.push("user", self.prompt + &note, Map::new());
        let turn = Turn {
            name,
            conversation,
            parameters,
            logprobs: self.logprobs,
            choice: ToolChoice::Auto,
            parallel: true,
            form,
        };
        turn.order(app)
    }
}
