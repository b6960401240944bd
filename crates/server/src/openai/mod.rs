//! OpenAI's wire.

use std::sync::Arc;

use axum::Router;

use crate::app::App;

/// The endpoints.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
}
