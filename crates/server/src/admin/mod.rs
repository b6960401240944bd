//! What keeps a server running: health, figures, the cache, the model's facts.

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    Vec::new()
}
