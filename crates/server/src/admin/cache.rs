//! Cache: which prefixes are kept, why a prompt would miss, and a way to forget.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use qwire_engine::pages::PAGE;
use qwire_engine::{Cached, Explanation, Miss, Salt, Scheduler, Service, Store, TokenId};
use qwire_text::{Controls, Special};
use serde_json::{Value, json};

use crate::answer::Json;
use crate::app::{App, Model, aside};
use crate::chat::{Conversation, parameters, turn};
use crate::fault::Fault;
use crate::fields::{Fields, ids, text};

/// Most prefixes of a listing.
const MOST_PREFIXES: usize = 100;
/// Tokens that are shown before and after a fork.
const AROUND: usize = 16;

/// Asks the engine between two of its turns.
fn ask<T: Send + 'static>(
    service: &Service,
    question: impl FnOnce(&mut Scheduler, Duration) -> T + Send + 'static,
) -> Result<T, Fault> {
    service.ask(question).ok_or_else(Fault::draining)
}

/// `GET /v1/cache`: the longest prefixes without a salt, and the measures of the whole.
pub async fn listing(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let found = aside(move || {
        let service = &app.model()?.service;
        let (stats, listing) = ask(service, |scheduler, now| {
            (scheduler.stats(), scheduler.cache(Some(Salt::default()), MOST_PREFIXES, now))
        })?;
        Ok((stats, listing, service.store().map(|store| kept(&**store))))
    });
    let (stats, listing, disk) = found.await?;
    let prefix = |prefix: &Cached| {
        json!({
            "tokens": prefix.tokens,
            "own_tokens": prefix.own_tokens,
            "idle_seconds": prefix.idle.as_secs_f64(),
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
        "restored_tokens": stats.counters.restored_tokens,
        "disk": disk,
        "prefix_count": listing.leaves,
        "prefixes": listing.prefixes.iter().map(prefix).collect::<Vec<_>>(),
    })))
}

/// What lies on disk. Where is for those who run the server to know.
fn kept(store: &dyn Store) -> Value {
    let holding = store.holding();
    json!({
        "open": store.is_open(),
        "limit_bytes": holding.limit_bytes,
        "used_bytes": holding.used_bytes,
        "read_pages": holding.read_pages,
        "written_pages": holding.written_pages,
        "skipped_pages": holding.skipped_pages,
        "evicted_pages": holding.evicted_pages,
        "damaged_pages": holding.damaged_pages,
        "faults": holding.faults,
    })
}

/// A prompt that is looked up.
pub struct Ask {
    model: Option<String>,
    source: Source,
    /// Whose prefixes: nobody hears of those that need another salt.
    salt: Salt,
}

enum Source {
    Prompt(Value),
    Chat(Conversation),
}

impl Ask {
    /// Reads a body.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let model = fields.text("model")?;
        let salt = parameters::salt(fields)?;
        let prompt = fields.take("prompt");
        let chat = fields.has("messages").then(|| Conversation::read(fields)).transpose()?;
        let source = match (prompt, chat) {
            (Some(prompt), None) => Source::Prompt(prompt),
            (None, Some(chat)) => Source::Chat(chat),
            _ => {
                let message = "one of `prompt` and `messages` is required";
                return Err(Fault { param: Some("prompt".into()), ..Fault::request(message) });
            }
        };
        Ok(Self { model, source, salt })
    }

    fn tokens(self, model: &Model) -> Result<Vec<TokenId>, Fault> {
        let ids = match self.source {
            Source::Prompt(Value::Array(items)) => {
                return ids(&items, "prompt", model.service.bounds().vocab);
            }
            Source::Prompt(prompt) => {
                model.vocabulary.encode_prompt(&text(prompt, "prompt")?, Special::Parse)
            }
            Source::Chat(chat) => turn::prompt(&chat, model)?.ids,
        };
        Ok(ids.into_iter().map(TokenId).collect())
    }
}

/// `POST /v1/cache/explain`
pub async fn explain(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let question = Ask::read(&mut fields)?;
    let ignored = fields.finish(&app.settings)?;
    let answer = aside(move || {
        let model = app.model_named(question.model.as_deref())?;
        let salt = question.salt;
        let tokens = question.tokens(model)?;
        let asked = tokens.clone();
        let found = ask(&model.service, move |scheduler, _| scheduler.explain(salt, &asked))?;
        let disk = model.service.store().map(|store| {
            let reusable = tokens[..tokens.len().saturating_sub(1)].iter().map(|token| token.0);
            store.reach(salt, &reusable.collect::<Vec<_>>())
        });
        Ok(told(model, &tokens, &found, disk))
    });
    Ok((ignored, Json(answer.await?)))
}

fn told(model: &Model, tokens: &[TokenId], found: &Explanation, disk: Option<usize>) -> Value {
    let text = |tokens: &[TokenId]| {
        let ids: Vec<u32> = tokens.iter().map(|token| token.0).collect();
        model.vocabulary.decode(&ids, Controls::Show)
    };
    let (reason, position, cached) = match &found.miss {
        Miss::Nothing => ("none", None, None),
        Miss::Unknown => ("unknown", Some(0), None),
        Miss::Diverged { position, cached } => ("diverged", Some(*position), Some(cached)),
        Miss::Ended { position } => ("ended", Some(*position), None),
        Miss::Evicted { position } => ("evicted", Some(*position), None),
    };
    let before = |at: usize| text(&tokens[at.saturating_sub(AROUND)..at]);
    let asked = |at: usize| text(&tokens[at..tokens.len().min(at + AROUND)]);
    json!({
        "object": "cache.explanation",
        "tokens": found.tokens,
        "cached_tokens": found.cached_tokens,
        "disk_tokens": disk,
        "reason": reason,
        "position": position,
        "before": position.map(before),
        "asked": position.map(asked),
        "cached": cached.map(|tokens| text(tokens)),
    })
}

/// `POST /reset_prefix_cache`: forgets every prefix that nobody is using, of every key, and every
/// page of this model on disk.
pub async fn reset(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let forgotten = aside(move || {
        let service = &app.model()?.service;
        let pages = ask(service, |scheduler, _| scheduler.forget())?;
        Ok((pages, service.store().map(|store| store.clear())))
    });
    let (pages, disk_pages) = forgotten.await?;
    Ok(Json(json!({ "object": "cache.reset", "pages": pages, "disk_pages": disk_pages })))
}
