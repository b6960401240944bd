//! Ollama's wire, for what knows no other: lines of JSON, a catalogue of one model.

pub mod answer;
pub mod catalogue;
pub mod chat;
pub mod embed;
pub mod generate;
pub mod options;

use axum::routing::{get, post};

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    vec![
        ("/", get(catalogue::root)),
        ("/api/version", get(catalogue::version)),
        ("/api/tags", get(catalogue::tags)),
        ("/api/ps", get(catalogue::ps)),
        ("/api/show", post(catalogue::show)),
        ("/api/chat", post(chat::post)),
        ("/api/generate", post(generate::post)),
        ("/api/embed", post(embed::post)),
        ("/api/embeddings", post(embed::post_one)),
    ]
}
