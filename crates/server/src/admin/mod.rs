//! What keeps a server running: health, figures, the cache, the model's facts.

use std::sync::Arc;

use axum::Router;

use crate::app::App;

/// The endpoints.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
}
