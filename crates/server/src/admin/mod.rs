//! What keeps a server running: health, figures, the cache, the model's facts, and what it was that
//! a request was answered.

pub mod cache;
pub mod capsule;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod props;
pub mod recorder;
pub mod tokenize;
pub mod underway;

use axum::routing::{delete, get, post};

use crate::Route;

/// What probes and monitors ask.
pub fn probes() -> Vec<Route> {
    vec![
        ("/health", get(health::health)),
        ("/readyz", get(health::ready)),
        ("/metrics", get(metrics::metrics)),
    ]
}

/// The other endpoints.
pub fn routes() -> Vec<Route> {
    vec![
        ("/version", get(health::version)),
        ("/tokenize", post(tokenize::tokenize)),
        ("/detokenize", post(tokenize::detokenize)),
        ("/apply-template", post(tokenize::apply_template)),
        ("/props", get(props::props)),
        ("/slots", get(props::slots)),
        ("/v1/cache", get(cache::listing)),
        ("/v1/cache/explain", post(cache::explain)),
        ("/reset_prefix_cache", post(cache::reset)),
        ("/v1/requests/{id}", delete(underway::cancel)),
        ("/openapi.json", get(openapi::openapi)),
    ]
}
