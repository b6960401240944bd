//! llama.cpp's own wire, for editors and scripts that speak it.

pub mod completion;
pub mod infill;

use axum::routing::post;

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    vec![
        ("/completion", post(completion::post)),
        ("/completions", post(completion::post)),
        ("/infill", post(infill::post)),
    ]
}
