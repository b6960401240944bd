//! OpenAI's Responses, as Codex speaks them.

pub mod answer;
pub mod create;
pub mod items;
pub mod kept;
pub mod tools;

use axum::routing::{get, post};

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    vec![
        ("/v1/responses", post(create::post)),
        ("/v1/responses/{id}", get(kept::get).delete(kept::delete)),
    ]
}
