//! `POST /v1/responses`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::ResponseSpeaker;
use super::tools::Tools;
use super::{items, kept};
use crate::answer::decimal;
use crate::app::{App, Model, now};
use crate::chat::name::named;
use crate::chat::speaker::{self, Caller};
use crate::chat::{Asked, Conversation, Form, Parameters, ToolChoice, Turn, parameters};
use crate::fault::Fault;
use crate::fields::Fields;

const WITHOUT_EFFECT: &[&str] = &[
    "client_metadata",
    "max_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "stream_options",
    "user",
];

/// A request, every field read.
pub struct ResponseRequest {
    turn: Turn,
    tools: Tools,
    stream: bool,
    store: bool,
    /// All items so far.
    items: Vec<Value>,
    /// What the response repeats of its request.
    echo: Map<String, Value>,
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
        let request = ResponseRequest::read(fields, model, app)?;
        let ResponseRequest { turn, tools, stream, store, items, echo } = request;
        let shelf = store.then(|| (app.clone(), items));
        let speaker = ResponseSpeaker::of(head(model, echo)?, tools, shelf);
        Ok(Asked { orders: vec![Turn { name, ..turn }.order(app)?], speaker, streams: stream })
    };
    speaker::answer(app, caller, body, read).await
}

/// What every response says of itself.
fn head(model: &Model, echo: Map<String, Value>) -> Result<Value, Fault> {
    let mut response = json!({
        "id": named("resp_")?, "object": "response", "created_at": now(),
        "status": "in_progress", "background": false, "error": null,
        "incomplete_details": null, "model": model.name, "output": [], "usage": null,
    });
    echo.into_iter().for_each(|(name, value)| response[name] = value);
    Ok(response)
}

impl ResponseRequest {
    /// Reads every field but the model's name.
    pub fn read(fields: &mut Fields, model: &Model, app: &App) -> Result<Self, Fault> {
        let (before, items) = history(fields, app)?;
        let instructions = fields.text("instructions")?;
        let mut echo = Map::new();
        echo.insert("instructions".into(), json!(instructions));
        echo.insert("previous_response_id".into(), json!(before));
        let tools = Tools::read(fields, &model.grammars)?;
        echo.insert("tools".into(), tools.listed.clone().into());
        let mut conversation = items::conversation(instructions, &items, &tools)?;
        let thinking = thinking(fields)?;
        let effort = thinking.get("reasoning_effort");
        echo.insert("reasoning".into(), json!({ "effort": effort, "summary": null }));
        conversation.switches =
            parameters::switches(&mut Fields::of(thinking.into(), "reasoning")?)?;
        let mut parameters = Parameters::read(fields, model, parameters::STOPS)?;
        parameters.n = 1;
        parameters.guard_repetition = fields.flag("repetition_guard")?.unwrap_or(true);
        let most = fields.count("max_output_tokens", 1..=u64::MAX)?;
        parameters.max_tokens = most.map(|most| most as usize);
        fields.only("top_logprobs", &[json!(0)])?;
        let choice = read_choice(fields, &conversation, &tools)?;
        let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        let store = fields.flag("store")?.unwrap_or(true);
        let metadata = fields.take("metadata").unwrap_or_else(|| json!({}));
        let text = fields.take("text");
        let form = form(text.clone())?;
        for (name, value) in [
            ("max_output_tokens", json!(most)),
            ("parallel_tool_calls", json!(parallel)),
            ("store", json!(store)),
            ("temperature", decimal(parameters.sampling.temperature)),
            ("top_p", decimal(parameters.sampling.top_p)),
            ("truncation", json!("disabled")),
            ("text", text.unwrap_or_else(|| json!({ "format": { "type": "text" } }))),
            ("tool_choice", choice_value(&choice)),
            ("metadata", metadata),
        ] {
            echo.insert(name.into(), value);
        }
        fields.only("truncation", &[json!("disabled"), json!("auto")])?;
        fields.only("background", &[json!(false)])?;
        fields.only("conversation", &[])?;
        fields.only("prompt", &[])?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        fields.without_effect(WITHOUT_EFFECT);
        let (name, logprobs) = (None, None);
        let turn = Turn { name, conversation, parameters, logprobs, choice, parallel, form };
        Ok(Self { turn, tools, stream, store, items, echo })
    }
}

/// The items so far, and the response that they follow.
fn history(fields: &mut Fields, app: &App) -> Result<(Option<String>, Vec<Value>), Fault> {
    let mut items = Vec::new();
    let before = fields.text("previous_response_id")?;
    if let Some(before) = &before {
        let row = app.kept.find(before).ok_or_else(|| Fault {
            param: Some("previous_response_id".into()),
            ..kept::missing(before)
        })?;
        items.clone_from(&row.items);
    }
    items.extend(items::read(fields)?);
    Ok((before, items))
}

/// `reasoning`, as chat has it.
fn thinking(fields: &mut Fields) -> Result<Map<String, Value>, Fault> {
    let mut thinking = Map::new();
    if let Some(mut reasoning) = fields.object("reasoning")? {
        if let Some(effort) = reasoning.take("effort") {
            thinking.insert("reasoning_effort".into(), effort);
        }
        reasoning.without_effect(&["summary", "generate_summary"]);
    }
    Ok(thinking)
}

/// `text.format` is `response_format`, one level flatter.
fn form(text: Option<Value>) -> Result<(Form, String), Fault> {
    let Some(mut text) = text else { return Ok((Form::Free, String::new())) };
    let mut format = text["format"].take();
    if format.is_null() {
        return Ok((Form::Free, String::new()));
    }
    if format["type"] == "json_schema" {
        let schema = format["schema"].take();
        format["json_schema"] = json!({ "name": format["name"], "schema": schema });
    }
    let mut fields = Fields::of(json!({ "response_format": format }), "text")?;
    Ok((Form::read(&mut fields)?.0, "text.format".into()))
}

/// `tool_choice`, whose functions are one level flatter than in chat.
fn read_choice(
    fields: &mut Fields,
    conversation: &Conversation,
    tools: &Tools,
) -> Result<ToolChoice, Fault> {
    let choice = match fields.take("tool_choice") {
        Some(Value::Object(choice)) => match choice.get("name").and_then(Value::as_str) {
            Some(name) => {
                let space = choice.get("namespace").and_then(Value::as_str);
                ToolChoice::Named(tools.function(space, name))
            }
            // Hosted tools, and lists of what is allowed: the model chooses among what is here.
            None => ToolChoice::Auto,
        },
        Some(word) => return ToolChoice::of(Some(word), "tool_choice", conversation),
        None => ToolChoice::Auto,
    };
    choice.check(conversation, "tool_choice")?;
    Ok(choice)
}

fn choice_value(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::None => json!("none"),
        ToolChoice::Auto => json!("auto"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({ "type": "function", "name": name }),
    }
}
