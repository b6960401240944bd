//! Cache: which prefixes are kept, why a prompt would miss, and a way to forget.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::IntoResponse;
use qwire_engine::pages::PAGE;
use qwire_engine::{Cached, Explanation, Miss, Salt, Scheduler, Service, TokenId};
use qwire_text::{Controls, Special};
use serde_json::{Value, json};
use std::time::Duration;

use super::conversation::Conversation;
use crate::answer::Json;
use crate::app::{App, Model, aside};
use crate::fault::Fault;
use crate::fields::{Fields, ids, text};

/// Most prefixes of a listing.
const MOST_PREFIXES: usize = 100;
/// Tokens that are shown before and after a fork.
const AROUND: usize = 16;

/// Whose prefixes may be seen: those of the key that asks.
type Tenant = Option<Extension<Salt>>;

fn salt(tenant: Tenant) -> Salt {
    tenant.map_or(Salt::default(), |Extension(salt)| salt)
}

/// Asks the engine between two of its turns.
fn ask<T: Send + 'static>(
    service: &Service,
    question: impl FnOnce(&mut Scheduler, Duration) -> T + Send + 'static,
) -> Result<T, Fault> {
    service.ask(question).ok_or_else(Fault::draining)
}

/// `GET /v1/cache`: the longest prefixes of whoever asks, and the measures of the whole.
pub async fn listing(State(app): State<Arc<App>>, tenant: Tenant) -> Result<Json<Value>, Fault> {
    let salt = salt(tenant);
    let found = aside(move || {
        let service = &app.model()?.service;
        ask(service, |scheduler, now| (scheduler.stats(), scheduler.cache(), now))
    });
    let (stats, mut prefixes, now) = found.await?;
    prefixes.retain(|prefix| prefix.salt == salt);
    prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.tokens));
    let prefix = |prefix: &Cached| {
        json!({
            "tokens": prefix.tokens,
            "own_tokens": prefix.own_tokens,
            "idle_seconds": now.saturating_sub(prefix.used).as_secs_f64(),
            "running": prefix.running,
        })
    };
    Ok(Json(json!({
        "object": "cache",
        "page_tokens": PAGE,
        "pages": {
            "total": stats.pages,
            "free": stats.free_pages,
            "cached": stats.cached_pages,
            "idle": stats.idle_pages,
        },
        "prompt_tokens": stats.counters.prompt_tokens,
        "cached_tokens": stats.counters.cached_tokens,
        "hit_ratio": stats.counters.hit_ratio(),
        "evicted_pages": stats.counters.evicted,
        "prefix_count": prefixes.len(),
        "prefixes": prefixes.iter().take(MOST_PREFIXES).map(prefix).collect::<Vec<_>>(),
    })))
}

/// A prompt that is looked up.
pub struct Ask {
    model: Option<String>,
    prompt: Option<Value>,
    chat: Option<Conversation>,
}

impl Ask {
    /// Reads a body.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let model = fields.text("model")?;
        let prompt = fields.take("prompt");
        let chat = Conversation::read(fields)?;
        if prompt.is_some() == chat.is_some() {
            let message = "one of `prompt` and `messages` is required";
            return Err(Fault { param: Some("prompt".into()), ..Fault::request(message) });
        }
        Ok(Self { model, prompt, chat })
    }

    fn tokens(self, model: &Model) -> Result<Vec<TokenId>, Fault> {
        let encode = |text: &str| {
            let ids = model.vocabulary.encode_prompt(text, Special::Parse);
            ids.into_iter().map(TokenId).collect()
        };
        match (self.prompt, self.chat) {
            (Some(Value::Array(items)), _) => ids(&items, "prompt", model.service.bounds().vocab),
            (Some(prompt), _) => text(prompt, "prompt").map(|text| encode(&text)),
            (None, chat) => {
                let text = chat.map(|chat| chat.render(model)).transpose()?;
                Ok(encode(&text.unwrap_or_default()))
            }
        }
    }
}

/// `POST /v1/cache/explain`
pub async fn explain(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let question = Ask::read(&mut fields)?;
    let ignored = fields.finish(&app.settings)?;
    let salt = salt(tenant);
    let answer = aside(move || {
        let model = app.model_named(question.model.as_deref())?;
        let tokens = question.tokens(model)?;
        let asked = tokens.clone();
        let found = ask(&model.service, move |scheduler, _| scheduler.explain(salt, &asked))?;
        Ok(told(model, &tokens, &found))
    });
    Ok((ignored, Json(answer.await?)))
}

fn told(model: &Model, tokens: &[TokenId], found: &Explanation) -> Value {
    let text = |tokens: &[TokenId]| {
        let ids: Vec<u32> = tokens.iter().map(|token| token.0).collect();
        model.vocabulary.decode(&ids, Controls::Show)
    };
    let (reason, position, cached) = match found.miss {
        Miss::Nothing => ("none", None, None),
        Miss::Unknown => ("unknown", Some(0), None),
        Miss::Diverged { position, cached, .. } => ("diverged", Some(position), Some(cached)),
        Miss::Ended { position } => ("ended", Some(position), None),
        Miss::Evicted { position } => ("evicted", Some(position), None),
    };
    let before = |at: usize| text(&tokens[at.saturating_sub(AROUND)..at]);
    let asked = |at: usize| text(&tokens[at..tokens.len().min(at + AROUND)]);
    json!({
        "object": "cache.explanation",
        "tokens": found.tokens,
        "cached_tokens": found.cached_tokens,
        "reason": reason,
        "position": position,
        "before": position.map(before),
        "asked": position.map(asked),
        "cached": cached.map(|token| text(&[token])),
    })
}

/// `POST /reset_prefix_cache`: forgets every prefix that nobody is using, of every key.
pub async fn reset(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let forgotten = aside(move || {
        ask(&app.model()?.service, |scheduler, now| {
            let before = scheduler.stats().cached_pages;
            scheduler.forget(now);
            before - scheduler.stats().cached_pages
        })
    });
    Ok(Json(json!({ "object": "cache.reset", "pages": forgotten.await? })))
}
