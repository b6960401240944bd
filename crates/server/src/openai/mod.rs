//! OpenAI's wire.

pub mod answer;
pub mod chat_completions;
pub mod completions;
pub mod delivery;
pub mod letterhead;
pub mod responses;
pub mod usage;

pub mod embeddings;
pub mod models;

use axum::routing::{get, post};

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    let mut routes = vec![
        ("/v1/chat/completions", post(chat_completions::post)),
        ("/v1/completions", post(completions::post)),
        ("/v1/models", get(models::list)),
        ("/v1/models/{*id}", get(models::one)),
        ("/v1/embeddings", post(embeddings::embed)),
    ];
    routes.extend(responses::routes());
    routes
}
