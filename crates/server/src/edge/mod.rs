//! Edge: everything between a socket and an endpoint.
//!
//! ```text
//! sockets ─ accept ─ connection: gate ─ hyper ─┬─ answer: id, log, panics, faults into bodies
//!    └ serve: signals, drain                   └─ admission: host, key, type, body ─ endpoint
//! ```
//! Inside of it an endpoint is a function of a whole body. It finds its [`RequestId`] and its
//! [`Account`] among the request's extensions.

mod account;
mod admission;
mod answer;
mod body;
mod connection;
mod cors;
pub mod gate;
mod host;
mod serve;
mod sockets;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;

use crate::app::App;
use crate::fault::Fault;

pub use account::{Account, Figures, RequestId};
pub use serve::{Ending, serve};
pub use sockets::{Address, Sockets, Stop, bind};

/// The routes behind the edge.
pub fn around(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    about(routes.route_layer(from_fn_with_state(app.clone(), admission::admit)), app)
}

/// The routes behind an edge that admits everybody.
pub fn about(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes
        // What has no route or no method is told so before anything else is asked.
        .method_not_allowed_fallback(no_method)
        .fallback(no_route)
        .layer(from_fn_with_state(app.clone(), answer::answer))
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

async fn no_route(uri: Uri) -> Fault {
    Fault::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", short(uri.path())))
}

async fn no_method(method: Method, uri: Uri) -> Fault {
    let (method, path) = (short(method.as_str()), short(uri.path()));
    let message = format!("{path} does not take {method}; `Allow` says what it takes");
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// As much of a text as a message needs.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(200)]
}
