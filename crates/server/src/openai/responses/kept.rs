//! Kept: responses that a later request may name as the one before it, and everybody may read
//! again. The oldest make room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::answer::Json;
use crate::app::App;
use crate::fault::Fault;

/// Most bytes that are kept, about.
const MOST_BYTES: usize = 64 << 20;

/// Responses by id.
#[derive(Default)]
pub struct Kept(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    bytes: usize,
    rows: VecDeque<Arc<Row>>,
}

/// A response and all that led to it.
pub struct Row {
    id: String,
    bytes: usize,
    /// The items of the whole conversation, its own output last.
    pub items: Vec<Value>,
    response: Value,
}

impl Kept {
    /// Keeps a response.
    pub fn keep(&self, id: &str, items: Vec<Value>, response: Value) {
        let bytes = items.iter().chain([&response]).map(size_of_json).sum();
        let mut shelf = self.shelf();
        shelf.bytes += bytes;
        shelf.rows.push_back(Arc::new(Row { id: id.into(), bytes, items, response }));
        while shelf.bytes > MOST_BYTES {
            let Some(row) = shelf.rows.pop_front() else { break };
            shelf.bytes -= row.bytes;
        }
    }

    /// The response of this name.
    pub fn find(&self, id: &str) -> Option<Arc<Row>> {
        // The latest are asked for most.
        self.shelf().rows.iter().rev().find(|row| row.id == id).cloned()
    }

    fn remove(&self, id: &str) -> Option<()> {
        let mut shelf = self.shelf();
        let at = shelf.rows.iter().position(|row| row.id == id)?;
        let row = shelf.rows.remove(at)?;
        shelf.bytes -= row.bytes;
        Some(())
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response again.
pub async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Fault> {
    let row = app.kept.find(&id).ok_or_else(|| missing(&id))?;
    Ok(Json(row.response.clone()))
}

/// A response no more.
pub async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Fault> {
    app.kept.remove(&id).ok_or_else(|| missing(&id))?;
    Ok(Json(json!({ "id": id, "object": "response", "deleted": true })))
}

/// Nothing of this name is kept.
pub fn missing(id: &str) -> Fault {
    let id: String = id.chars().take(80).collect();
    let message = format!("no response `{id}` is kept here");
    Fault::new(StatusCode::NOT_FOUND, message).code("response_not_found")
}

/// About what a value takes in memory.
fn size_of_json(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of_json).sum(),
        Value::Object(pairs) => pairs.iter().map(|(k, v)| k.len() + size_of_json(v)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let kept = Kept::default();
        let big = || vec![json!("x".repeat(MOST_BYTES / 3))];
        for id in ["a", "b", "c", "d"] {
            kept.keep(id, big(), json!({ "id": id }));
        }
        assert!(kept.find("a").is_none() && kept.find("b").is_none());
        assert_eq!(kept.find("d").unwrap().response["id"], "d");
        assert!(kept.remove("d").is_some() && kept.remove("d").is_none());
        let shelf = kept.shelf();
        assert_eq!(shelf.bytes, shelf.rows.iter().map(|row| row.bytes).sum::<usize>());
    }
}
