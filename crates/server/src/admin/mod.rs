//! What keeps a server running: health, figures, the cache, the model's facts, and what it was that
//! a request was answered.

pub mod cache;
pub mod capsule;
pub mod exposition;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod props;
pub mod recorder;
pub mod sums;
pub mod tokenize;

use axum::routing::{get, post};

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    vec![
        ("/health", get(health::health)),
        ("/readyz", get(health::ready)),
        ("/version", get(health::version)),
        ("/metrics", get(metrics::metrics)),
        ("/tokenize", post(tokenize::tokenize)),
        ("/detokenize", post(tokenize::detokenize)),
        ("/apply-template", post(tokenize::apply_template)),
        ("/props", get(props::props)),
        ("/slots", get(props::slots)),
        ("/v1/cache", get(cache::listing)),
        ("/v1/cache/explain", post(cache::explain)),
        ("/reset_prefix_cache", post(cache::reset)),
        ("/openapi.json", get(openapi::openapi)),
    ]
}
