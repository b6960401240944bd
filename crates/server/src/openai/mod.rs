//! OpenAI's wire.

use crate::Route;

/// The endpoints.
pub fn routes() -> Vec<Route> {
    Vec::new()
}
