//! OpenAI's wire.

pub mod answer;
pub mod chat_completions;
pub mod completions;
pub mod letterhead;
pub mod usage;

use axum::routing::post;

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    vec![
        ("/v1/chat/completions", post(chat_completions::post)),
        ("/v1/completions", post(completions::post)),
    ]
}
