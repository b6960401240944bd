//! Underway: requests that are being answered, by their names, so that somebody other than the
//! client can end one: a supervisor, or a client that has lost its connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Json;
use crate::app::App;
use crate::edge::RequestId;
use crate::fault::Fault;

/// What ends an answer.
type End = Box<dyn Fn() + Send>;

/// Ways to end answers. Clients choose names, so that several may have the same.
#[derive(Default)]
pub struct Underway(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    ends: HashMap<RequestId, Vec<(u64, End)>>,
    next: u64,
}

/// A place among them, left when it is dropped.
pub struct Entry {
    app: Arc<App>,
    name: RequestId,
    number: u64,
}

impl Entry {
    /// An answer is under way, and this ends it.
    pub fn new(app: &Arc<App>, name: RequestId, end: impl Fn() + Send + 'static) -> Self {
        let mut entries = app.underway.entries();
        entries.next += 1;
        let number = entries.next;
        entries.ends.entry(name.clone()).or_default().push((number, Box::new(end)));
        drop(entries);
        Self { app: app.clone(), name, number }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut entries = self.app.underway.entries();
        if let Some(ends) = entries.ends.get_mut(&self.name) {
            ends.retain(|(number, _)| *number != self.number);
            if ends.is_empty() {
                entries.ends.remove(&self.name);
            }
        }
    }
}

impl Underway {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all answers to requests of this name; how many there were.
    fn end(&self, name: &RequestId) -> usize {
        let entries = self.entries();
        let ends = entries.ends.get(name).map_or(&[][..], Vec::as_slice);
        ends.iter().for_each(|(_, end)| end());
        ends.len()
    }
}

/// `DELETE /v1/requests/{id}`: the answer ends with a fault that says so.
pub async fn cancel(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Fault> {
    let Path(id) = id.map_err(|rejection| Fault::request(rejection.body_text()))?;
    let name = RequestId(id);
    match app.underway.end(&name) {
        0 => {
            let message = "no request of that name is being answered; `x-request-id` names each";
            Err(Fault::new(StatusCode::NOT_FOUND, message).code("request_not_found"))
        }
        answers => Ok(Json(json!({
            "object": "request.cancelled", "id": name.0, "answers": answers
        }))),
    }
}
