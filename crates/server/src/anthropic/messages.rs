//! `POST /v1/messages`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use qwire_engine::{Class, Report};
use qwire_text::tools::Rules;
use serde_json::json;

use super::answer::MessageSpeaker;
use super::blocks;
use crate::answer::Json;
use crate::app::{App, Model, aside};
use crate::chat::{
    Conversation, Form, Generation, Order, Parameters, Reading, ToolChoice, prompt, stream,
};
use crate::edge::Account;
use crate::fault::Fault;
use crate::fields::Fields;

/// Most texts that end an answer.
const STOPS: usize = 64;
/// The first event may wait so long for the figure of what is cached.
const PATIENCE: Duration = Duration::from_millis(50);
const WITHOUT_EFFECT: &[&str] = &[
    "container",
    "context_management",
    "mcp_servers",
    "metadata",
    "output_config",
    "service_tier",
];

/// A request, every field read.
pub struct MessagesRequest {
    conversation: Conversation,
    parameters: Parameters,
    choice: ToolChoice,
    parallel: bool,
    stream: bool,
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
    let mut request = MessagesRequest::read(&mut fields, model)?;
    if request.parameters.max_tokens.is_none() {
        return Err(Fault::field("max_tokens", "is required"));
    }
    if name.is_some_and(|name| name.contains("haiku")) {
        // The small model is asked for titles and summaries.
        request.parameters.class = Class::Background;
    }
    let ignored = fields.finish(&app.settings)?;
    let streams = request.stream;
    let order = request.order(app.clone()).await?;
    let prompt = order.ids.len();
    let mut generation = Generation::start(&app, account, vec![order])?;
    let cached = generation.cached_within(PATIENCE).await;
    let speaker = MessageSpeaker::of(model, prompt, cached)?;
    let answer = if streams {
        stream::respond(generation, speaker)
    } else {
        Json(speaker.whole(generation).await?).into_response()
    };
    Ok((ignored, answer).into_response())
}

impl MessagesRequest {
    /// Reads every field but the model's name.
    pub fn read(fields: &mut Fields, model: &Model) -> Result<Self, Fault> {
        // Anthropic has names of its own for the tiers.
        fields.without_effect(WITHOUT_EFFECT);
        let mut conversation = blocks::read(fields)?;
        let thinks = fields.object("thinking")?.map(|mut thinking| thinking.text("type"));
        let thinks = thinks.transpose()?.flatten().is_some_and(|kind| kind != "disabled");
        conversation.switches.insert("enable_thinking".into(), json!(thinks));
        let mut parameters = Parameters::read(fields, model, 0)?;
        parameters.n = 1;
        parameters.guard_repetition = true;
        let most = fields.count("max_tokens", 1..=u64::MAX)?;
        parameters.max_tokens = most.map(|most| most as usize);
        let stops = fields.list("stop_sequences")?.unwrap_or_default();
        let stops = stops.iter().filter_map(|stop| stop.as_str()).filter(|stop| !stop.is_empty());
        parameters.stops = stops.take(STOPS).map(str::to_owned).collect();
        let (choice, parallel) = choice(fields, &conversation)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        Ok(Self { conversation, parameters, choice, parallel, stream })
    }

    /// Renders, encodes and compiles on a thread that may take its time.
    pub async fn order(self, app: Arc<App>) -> Result<Order, Fault> {
        let work = move || {
            let model = app.model()?;
            let Self { mut conversation, parameters, choice, parallel, .. } = self;
            choice.narrow(&mut conversation);
            let prompt = prompt::of(&conversation, model)?;
            let rules = Rules { thinking: prompt::thinking(&prompt, model), parallel };
            let reading = Reading::of(model, &conversation, rules, &choice, &Form::Free, "")?;
            let report = Report::Nothing;
            Ok(Order { ids: prompt.ids, parameters, logprobs: None, report, reading })
        };
        aside(work).await
    }
}

/// Which tools may be called, and whether side by side.
fn choice(fields: &mut Fields, conversation: &Conversation) -> Result<(ToolChoice, bool), Fault> {
    let Some(mut choice) = fields.object("tool_choice")? else {
        return Ok((ToolChoice::Auto, true));
    };
    let parallel = !choice.flag("disable_parallel_tool_use")?.unwrap_or(false);
    let kind = choice.word("type", &["auto", "any", "tool", "none"])?;
    let name = choice.text("name")?;
    let found = match (kind.as_deref(), name) {
        (Some("none"), _) => ToolChoice::None,
        (Some("any"), _) => ToolChoice::Required,
        (Some("tool"), Some(name)) => ToolChoice::Named(name),
        (Some("tool"), None) => return Err(choice.fault("name", "is required")),
        _ => ToolChoice::Auto,
    };
    found.check(conversation, &fields.path("tool_choice"))?;
    Ok((found, parallel))
}
