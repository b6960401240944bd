//! Edge: everything between a socket and an endpoint.

use std::sync::Arc;

use axum::Router;

use crate::app::App;

/// The routes behind the edge.
pub fn around(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes.with_state(app)
}
