//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use qwire_text::tools::Rules;
use serde_json::json;

use super::answer::ChatSpeaker;
use super::letterhead::Letterhead;
use crate::answer::Json;
use crate::app::{App, Model, aside};
use crate::chat::parameters::STOPS;
use crate::chat::{
    Conversation, Form, Generation, Logprobs, Order, Parameters, Reading, ToolChoice, prompt,
    stream,
};
use crate::edge::Account;
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
    conversation: Conversation,
    parameters: Parameters,
    logprobs: Option<Logprobs>,
    choice: ToolChoice,
    parallel: bool,
    form: (Form, String),
    delivery: Delivery,
}

/// How the answer is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    /// As it comes.
    pub stream: bool,
    /// With the usage at the end.
    pub usage: bool,
    /// With the progress of the prompt.
    pub progress: bool,
}

/// The endpoint.
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(account): Extension<Account>,
    body: Bytes,
) -> Result<Response, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let name = fields.text("model")?;
    let model = app.model_named(name.as_deref())?;
    let request = ChatRequest::read(&mut fields, model)?;
    let ignored = fields.finish(&app.settings)?;
    let delivery = request.delivery;
    let seed = request.parameters.sampling.seed;
    let logprobs = request.logprobs.is_some();
    let order = order(app.clone(), request).await?;
    let letterhead = Letterhead::of(model, "chatcmpl-", &order.ids, seed)?;
    let n = order.parameters.n;
    let generation = Generation::start(&app, account, vec![order])?;
    let speaker = ChatSpeaker::of(&letterhead, model, n, logprobs, delivery, &app.settings);
    let answer = if delivery.stream {
        stream::respond(generation, speaker)
    } else {
        Json(speaker.whole(generation).await?).into_response()
    };
    Ok((letterhead, ignored, answer).into_response())
}

/// Renders, encodes and compiles, which takes longer than a turn of the runtime should.
async fn order(app: Arc<App>, request: ChatRequest) -> Result<Order, Fault> {
    let work = move || request.order(app.model()?);
    aside(work).await
}

impl ChatRequest {
    /// Reads every field but the model's name.
    pub fn read(fields: &mut Fields, model: &Model) -> Result<Self, Fault> {
        let conversation = Conversation::read(fields)?;
        let mut parameters = Parameters::read(fields, model, STOPS)?;
        let most = fields.count("max_tokens", 1..=u64::MAX)?;
        let most = fields.count("max_completion_tokens", 1..=u64::MAX)?.or(most);
        parameters.max_tokens = most.map(|most| most as usize);
        parameters.guard_repetition = fields.flag("repetition_guard")?.unwrap_or(true);
        let choice = ToolChoice::read(fields, &conversation)?;
        let request = Self {
            parameters,
            logprobs: Logprobs::read_chat(fields)?,
            choice,
            parallel: fields.flag("parallel_tool_calls")?.unwrap_or(true),
            form: Form::read(fields)?,
            delivery: Delivery::read(fields)?,
            conversation,
        };
        fields.only("modalities", &[json!(["text"])])?;
        for name in ["audio", "functions", "function_call", "prediction", "web_search_options"] {
            fields.only(name, &[])?;
        }
        fields.without_effect(WITHOUT_EFFECT);
        Ok(request)
    }

    fn order(self, model: &Model) -> Result<Order, Fault> {
        let Self { mut conversation, parameters, logprobs, choice, parallel, form, .. } = self;
        choice.narrow(&mut conversation);
        let prompt = prompt::of(&conversation, model)?;
        let rules = Rules { thinking: prompt::thinking(&prompt, model), parallel };
        let reading = Reading::of(model, &conversation, rules, &choice, &form.0, &form.1)?;
        let report = qwire_engine::Report::Nothing;
        Ok(Order { ids: prompt.ids, parameters, logprobs, report, reading })
    }
}

impl Delivery {
    /// Reads what all of OpenAI's streams know.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let stream = fields.flag("stream")?.unwrap_or(false);
        let mut delivery = Self { stream, ..Self::default() };
        if let Some(mut options) = fields.object("stream_options")? {
            if !stream {
                return Err(fields.fault("stream_options", "needs `stream` to be true"));
            }
            delivery.usage = options.flag("include_usage")?.unwrap_or(false);
            options.without_effect(&["include_obfuscation", "continuous_usage_stats"]);
        }
        delivery.progress = fields.flag("return_progress")?.unwrap_or(false);
        Ok(delivery)
    }
}
