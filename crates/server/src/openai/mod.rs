//! OpenAI's wire.

pub mod embeddings;
pub mod models;

use axum::routing::{get, post};

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    vec![
        ("/v1/models", get(models::list)),
        ("/v1/models/{*id}", get(models::one)),
        ("/v1/embeddings", post(embeddings::embed)),
    ]
}
