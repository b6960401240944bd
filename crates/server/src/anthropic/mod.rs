//! Anthropic's wire, as Claude Code and its SDKs speak it.

pub mod answer;
pub mod blocks;
pub mod count_tokens;
pub mod messages;

use axum::routing::post;

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    vec![
        ("/v1/messages", post(messages::post)),
        ("/v1/messages/count_tokens", post(count_tokens::post)),
    ]
}
