//! Props: the model's facts and what is under way, in llama.cpp's shape.

use std::sync::Arc;

use axum::extract::State;
use qwire_engine::{Bounds, Progress, Sampling};
use qwire_text::Controls;
use serde_json::{Value, json};

use crate::answer::{Json, decimal};
use crate::app::{App, aside};
use crate::fault::Fault;

/// `GET /props`
pub async fn props(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    let (facts, bounds) = (&model.facts, model.service.bounds());
    let ids = model.vocabulary.special_ids();
    let text = |id: Option<u32>| {
        id.map_or(String::new(), |id| model.vocabulary.decode(&[id], Controls::Show))
    };
    Ok(Json(json!({
        "default_generation_settings": {
            "n_ctx": bounds.context,
            "params": sampling(&model.sampling),
        },
        "total_slots": bounds.running,
        "model_alias": model.name,
        "model_path": model.name,
        "modalities": { "vision": false, "audio": false },
        "chat_template": model.template_source.as_deref().unwrap_or_default(),
        "bos_token": text(ids.bos),
        "eos_token": text(ids.eos),
        "build_info": format!("qwire {} {}", facts.version, facts.fingerprint),
    })))
}

/// `GET /slots`: as many as run side by side, those under way first.
pub async fn slots(State(app): State<Arc<App>>) -> Result<Json<Value>, Fault> {
    let slots = aside(move || {
        let service = &app.model()?.service;
        let asked = service.ask(|scheduler, _| (scheduler.under_way(), scheduler.guesses() > 0));
        let (under_way, guesses) = asked.ok_or_else(Fault::draining)?;
        let Bounds { context, running, .. } = service.bounds();
        let slot = |id: usize| slot(id, (context, guesses), under_way.get(id));
        Ok((0..running.max(under_way.len())).map(slot).collect())
    });
    Ok(Json(slots.await?))
}

fn slot(id: usize, (context, guesses): (usize, bool), progress: Option<&Progress>) -> Value {
    let Some(progress) = progress else {
        return json!({
            "id": id, "n_ctx": context, "speculative": guesses, "is_processing": false
        });
    };
    let Progress { request, choice, usage, computed, max_tokens } = progress;
    let remain = max_tokens.saturating_sub(usage.answer_tokens);
    json!({
        "id": id,
        "id_task": request.0,
        "n_ctx": context,
        "speculative": guesses,
        "is_processing": true,
        "choice": choice,
        "n_prompt_tokens": usage.prompt_tokens,
        "n_prompt_tokens_cache": usage.cached_tokens,
        "n_prompt_tokens_processed": computed.min(&usage.prompt_tokens),
        "next_token": [{
            "has_next_token": remain > 0,
            "n_remain": remain,
            "n_decoded": usage.answer_tokens,
        }],
    })
}

/// Numbers that llama.cpp writes as signed ones, where −1 is no limit.
fn limit(n: u32) -> i64 {
    if n == u32::MAX { -1 } else { n.into() }
}

fn sampling(sampling: &Sampling) -> Value {
    json!({
        "n_predict": -1,
        "max_tokens": -1,
        "temperature": decimal(sampling.temperature),
        "top_k": sampling.top_k,
        "top_p": decimal(sampling.top_p),
        "min_p": decimal(sampling.min_p),
        "typical_p": decimal(sampling.typical_p),
        "repeat_last_n": limit(sampling.penalty_window),
        "repeat_penalty": decimal(sampling.repetition_penalty),
        "presence_penalty": decimal(sampling.presence_penalty),
        "frequency_penalty": decimal(sampling.frequency_penalty),
        "dry_multiplier": sampling.dry.multiplier,
        "dry_base": sampling.dry.base,
        "dry_allowed_length": sampling.dry.allowed_length,
        "dry_penalty_last_n": limit(sampling.dry.window),
        "stop": [],
    })
}
