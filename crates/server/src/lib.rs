//! HTTP around the engine: the wires that clients speak, and the edges that protect it.
//!
//! ```text
//! edge       connections, limits, keys, request ids, faults into bodies, drain
//!  ├ openai    /v1/chat/completions, /v1/responses ..   one file per endpoint
//!  ├ anthropic /v1/messages
//!  ├ llama     /completion, /infill: llama.cpp's own wire
//!  ├ ollama    /api/chat ..
//!  ├ admin     /health, /metrics ..
//!  └ chat      what all wires share: conversation ─► prompt ─► generation ─► parts
//! ```
//! It knows text and never tensors; everything on the wire is read and written here.

pub mod admin;
pub mod answer;
pub mod anthropic;
pub mod app;
pub mod chat;
pub mod edge;
pub mod fault;
pub mod fields;
pub mod llama;
pub mod ollama;
pub mod openai;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::map_response_with_state;
use axum::response::Response;
use axum::routing::MethodRouter;

pub use app::{App, Facts, Model, Settings, Stage, Times};
pub use fault::{Fault, Wire};

/// A path and what may be done there.
pub type Route = (&'static str, MethodRouter<Arc<App>>);

/// Every endpoint.
pub fn routes() -> impl Iterator<Item = Route> {
    admin::probes()
        .into_iter()
        .chain(openai::routes())
        .chain(anthropic::routes())
        .chain(llama::routes())
        .chain(ollama::routes())
        .chain(admin::routes())
}

/// Every endpoint, each with its faults in its wire's words.
pub fn router(app: Arc<App>) -> Router {
    let counted = |path, methods: MethodRouter<Arc<App>>| {
        methods.layer(map_response_with_state((app.clone(), path), count))
    };
    let routes = routes()
        .fold(Router::new(), |all, (path, methods)| all.route(path, counted(path, methods)));
    edge::around(routes, app)
}

/// What monitors may ask without a key, at an address of their own.
pub fn figures(app: Arc<App>) -> Router {
    let routes = admin::probes().into_iter();
    let routes = routes.fold(Router::new(), |all, (path, methods)| all.route(path, methods));
    edge::about(routes, app)
}

async fn count(
    State((app, path)): State<(Arc<App>, &'static str)>,
    response: Response,
) -> Response {
    app.tally.endpoints.add((path, response.status().as_u16()));
    response
}
