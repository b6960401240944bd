//! OpenAPI: the description of every endpoint, as it lies beside this file.

use axum::http::header;
use axum::response::IntoResponse;

/// The description.
pub const TEXT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT)
}
