//! `POST /v1/messages`.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use bytes::Bytes;
use qwire_engine::Class;
use serde_json::json;

use super::answer::MessageSpeaker;
use super::blocks;
use crate::app::{App, Model};
use crate::chat::{Asked, Conversation, Form, Parameters, ToolChoice, Turn, speaker, turn};
use crate::edge::Account;
use crate::fault::Fault;
use crate::fields::Fields;

/// Most texts that end an answer.
const STOPS: usize = 64;
const WITHOUT_EFFECT: &[&str] =
    &["container", "context_management", "mcp_servers", "metadata", "service_tier"];

/// A request, every field read.
pub struct MessagesRequest {
    turn: Turn,
    stream: bool,
}

/// The endpoint.
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(account): Extension<Account>,
    body: Bytes,
) -> Result<Response, Fault> {
    let read = |fields: &mut Fields, app: &Arc<App>| {
        let name = fields.text("model")?;
        let model = app.model_named(name.as_deref())?;
        let MessagesRequest { mut turn, stream } = MessagesRequest::read(fields, model)?;
        if turn.parameters.max_tokens.is_none() {
            return Err(Fault::field("max_tokens", "is required"));
        }
        if name.is_some_and(|name| name.contains("haiku")) {
            // The small model is asked for titles and summaries.
            turn.parameters.class = Class::Background;
        }
        let order = turn.order(model)?;
        let speaker = MessageSpeaker::of(model, order.ids.len())?;
        Ok(Asked { orders: vec![order], speaker, streams: stream })
    };
    speaker::answer(app, account, body, read).await
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
        let (logprobs, form) = (None, form(fields)?);
        let turn = Turn { conversation, parameters, logprobs, choice, parallel, form };
        Ok(Self { turn, stream })
    }

    /// The tokens of the prompt.
    pub fn prompt(self, model: &Model) -> Result<Vec<u32>, Fault> {
        Ok(turn::prompt(&self.turn.narrowed(), model)?.ids)
    }
}

/// The form that `output_config` asks for, and the field that does.
fn form(fields: &mut Fields) -> Result<(Form, String), Fault> {
    let Some(mut config) = fields.object("output_config")? else {
        return Ok((Form::Free, String::new()));
    };
    config.without_effect(&["effort"]);
    let mut form = Form::Free;
    if let Some(mut format) = config.object("format")? {
        if format.text("type")?.as_deref() == Some("json_schema") {
            form = Form::Schema(format.required("schema")?);
        }
        config.close(&format);
    }
    fields.close(&config);
    Ok((form, fields.path("output_config.format")))
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
