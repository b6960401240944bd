//! `POST /api/chat`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::{Kind, LineSpeaker, loaded};
use super::options::Options;
use crate::app::{App, Model};
use crate::chat::speaker::{self, Caller};
use crate::chat::{Asked, Conversation, Logprobs, ToolChoice, Turn, conversation};
use crate::fault::Fault;
use crate::fields::{Fields, wrong};

const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// A request, every field read.
pub struct ChatRequest {
    turn: Turn,
    stream: bool,
}

/// The endpoint.
pub async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Fault> {
    if let Some(name) = asks_nothing(&body, "messages") {
        let model = app.model_named(name.as_deref())?;
        return Ok(loaded(model, Kind::Chat).into_response());
    }
    let read = |fields: &mut Fields, app: &Arc<App>| {
        let name = fields.text("model")?;
        let model = app.model_named(name.as_deref())?;
        let ChatRequest { turn, stream } = ChatRequest::read(fields, model)?;
        let order = Turn { name, ..turn }.order(app)?;
        let speaker = LineSpeaker::of(model, Kind::Chat);
        Ok(Asked { orders: vec![order], speaker, streams: stream })
    };
    speaker::answer(app, caller, body, read).await
}

/// The model's name in a request that only wants it to be loaded.
pub fn asks_nothing(body: &[u8], field: &str) -> Option<Option<String>> {
    let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let empty = match body.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    empty.then(|| body.get("model").and_then(Value::as_str).map(str::to_owned))
}

impl ChatRequest {
    /// Reads every field but the model's name.
    pub fn read(fields: &mut Fields, model: &Model) -> Result<Self, Fault> {
        let mut conversation = Conversation::default();
        let path = fields.path("messages");
        let messages = fields.list("messages")?;
        let messages = messages.ok_or_else(|| Fault::field(&*path, "is required"))?;
        for (at, message) in messages.into_iter().enumerate() {
            push(Fields::of(message, &format!("{path}[{at}]"))?, &mut conversation)?;
        }
        conversation.read_tools(fields)?;
        let Options { parameters, form, switches, stream } = Options::read(fields, model)?;
        conversation.switches = switches;
        let logprobs = Logprobs::read_chat(fields)?;
        let turn = Turn {
            name: None,
            conversation,
            parameters,
            logprobs,
            choice: ToolChoice::Auto,
            parallel: true,
            form,
        };
        Ok(Self { turn, stream })
    }
}

fn push(mut message: Fields, conversation: &mut Conversation) -> Result<(), Fault> {
    let role = message.word("role", &ROLES)?;
    let role = role.ok_or_else(|| message.fault("role", "is required"))?;
    let path = message.path("content");
    let mut content = match message.take("content") {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => return Err(wrong(&path, &other, "a string")),
    };
    let images = message.list("images")?.unwrap_or_default().len();
    for _ in 0..images {
        content += "\n[image: not shown, this model reads text alone]";
    }
    let mut more = Map::new();
    match role.as_str() {
        "assistant" => {
            if let Some(thoughts) = message.text("thinking")? {
                more.insert("reasoning_content".into(), json!(thoughts));
            }
            if let Some(calls) = conversation::calls(&mut message)? {
                more.insert("tool_calls".into(), calls);
            }
        }
        "tool" => {
            if let Some(name) = message.text("tool_name")? {
                more.insert("name".into(), json!(name));
            }
        }
        _ => {}
    }
    conversation.push(&role, content, more);
    Ok(())
}
