//! Tokenize: texts and conversations to tokens and back, in llama.cpp's words and in vLLM's.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use qwire_engine::{Salt, TokenId};
use qwire_text::{Controls, Special, Vocabulary};
use serde_json::{Value, json};

use crate::answer::Json;
use crate::app::{App, Model, aside};
use crate::chat::{Conversation, turn};
use crate::fault::Fault;
use crate::fields::{Fields, ids};

/// What is to be cut into tokens.
pub struct Ask {
    model: Option<String>,
    source: Source,
    bos: Option<bool>,
    special: Special,
    pieces: bool,
    strings: bool,
}

enum Source {
    /// As llama.cpp calls a text.
    Content(String),
    /// As vLLM calls it.
    Prompt(String),
    /// As vLLM takes a conversation.
    Chat(Conversation),
}

impl Ask {
    /// Reads a body.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let model = fields.text("model")?;
        let content = fields.text("content")?;
        let prompt = fields.text("prompt")?;
        let chat = fields.has("messages").then(|| Conversation::read(fields)).transpose()?;
        let bos = (fields.flag("add_special")?, fields.flag("add_special_tokens")?);
        let as_text = fields.flag("parse_special")? == Some(false);
        let pieces = fields.flag("with_pieces")? == Some(true);
        let strings = fields.flag("return_token_strs")? == Some(true);
        let source = match (content, prompt, chat) {
            (Some(text), None, None) => Source::Content(text),
            (None, Some(text), None) => Source::Prompt(text),
            (None, None, Some(chat)) => Source::Chat(chat),
            _ => {
                let message = "one of `content`, `prompt` and `messages` is required";
                return Err(Fault { param: Some("prompt".into()), ..Fault::request(message) });
            }
        };
        let special = if as_text { Special::AsText } else { Special::Parse };
        Ok(Self { model, source, bos: bos.0.or(bos.1), special, pieces, strings })
    }

    fn answer(self, app: &App, model: &Model) -> Result<Value, Fault> {
        let vocabulary = &model.vocabulary;
        let encode = |text: &str, bos| {
            if self.bos.unwrap_or(bos) {
                vocabulary.encode_prompt(text, self.special)
            } else {
                vocabulary.encode(text, self.special)
            }
        };
        let tokens = match &self.source {
            Source::Content(text) => {
                let piece = |id| {
                    let piece = self.pieces.then(|| piece(vocabulary, id));
                    piece.map_or(json!(id), |piece| json!({ "id": id, "piece": piece }))
                };
                let tokens: Vec<Value> = encode(text, false).into_iter().map(piece).collect();
                return Ok(json!({ "tokens": tokens }));
            }
            Source::Prompt(text) => encode(text, true),
            Source::Chat(chat) => turn::rendered(chat, Salt::default(), app)?.prompt.ids,
        };
        let text = |id: &u32| vocabulary.decode(&[*id], Controls::Show);
        let strings = self.strings.then(|| tokens.iter().map(text).collect::<Vec<_>>());
        Ok(json!({
            "count": tokens.len(),
            "max_model_len": model.service.bounds().context,
            "tokens": tokens,
            "token_strs": strings,
        }))
    }
}

/// The text of a token, or its bytes where they are not one.
fn piece(vocabulary: &Vocabulary, id: u32) -> Value {
    let bytes = vocabulary.token_bytes(id, Controls::Show);
    std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text))
}

/// `POST /tokenize`
pub async fn tokenize(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let ask = Ask::read(&mut fields)?;
    let ignored = fields.finish(&app.settings)?;
    let answer = aside(move || {
        let model = app.model_named(ask.model.as_deref())?;
        ask.answer(&app, model)
    });
    Ok((ignored, Json(answer.await?)))
}

/// What is to become a text again.
pub struct Tokens {
    model: Option<String>,
    tokens: Vec<Value>,
}

impl Tokens {
    /// Reads a body.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let model = fields.text("model")?;
        let tokens = fields.list("tokens")?;
        let tokens = tokens.ok_or_else(|| fields.fault("tokens", "is required"))?;
        Ok(Self { model, tokens })
    }
}

/// `POST /detokenize`
pub async fn detokenize(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let Tokens { model, tokens } = Tokens::read(&mut fields)?;
    let ignored = fields.finish(&app.settings)?;
    let text = aside(move || {
        let model = app.model_named(model.as_deref())?;
        let tokens = ids(&tokens, "tokens", model.service.bounds().vocab)?;
        let tokens: Vec<u32> = tokens.into_iter().map(|TokenId(id)| id).collect();
        Ok(model.vocabulary.decode(&tokens, Controls::Show))
    });
    let text = text.await?;
    Ok((ignored, Json(json!({ "content": text, "prompt": text }))))
}

/// What is to become a prompt.
pub struct Chat {
    model: Option<String>,
    conversation: Conversation,
}

impl Chat {
    /// Reads a body.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let model = fields.text("model")?;
        let conversation = Conversation::read(fields)?;
        Ok(Self { model, conversation })
    }
}

/// `POST /apply-template`
pub async fn apply_template(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let Chat { model, conversation } = Chat::read(&mut fields)?;
    let ignored = fields.finish(&app.settings)?;
    let rendered = aside(move || {
        app.model_named(model.as_deref())?;
        turn::rendered(&conversation, Salt::default(), &app)
    });
    Ok((ignored, Json(json!({ "prompt": rendered.await?.prompt.text }))))
}
