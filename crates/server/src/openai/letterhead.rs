//! Letterhead: what stands on every piece of an answer.

use axum::http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use crate::app::{Model, now};
use crate::chat::name::{hash_of, named};
use crate::fault::Fault;

/// What stands on every piece of an answer.
#[derive(Clone, Debug)]
pub struct Letterhead {
    /// Of the answer.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    model: String,
    fingerprint: String,
    hash: String,
    seed: u64,
}

impl Letterhead {
    /// A letterhead with a name of its own.
    pub fn of(model: &Model, prefix: &str, ids: &[u32], seed: u64) -> Result<Self, Fault> {
        Ok(Self {
            id: named(prefix)?,
            created: now(),
            model: model.name.clone(),
            fingerprint: model.facts.fingerprint.clone(),
            hash: hash_of(ids),
            seed,
        })
    }

    /// A body under it.
    pub fn body(&self, object: &str, choices: Value) -> Map<String, Value> {
        Map::from_iter([
            ("id".to_owned(), json!(self.id)),
            ("object".to_owned(), json!(object)),
            ("created".to_owned(), json!(self.created)),
            ("model".to_owned(), json!(self.model)),
            ("system_fingerprint".to_owned(), json!(self.fingerprint)),
            ("choices".to_owned(), choices),
        ])
    }

    /// What repeats the answer, in the head of its response: the prompt's name and the seed.
    pub fn head(&self, headers: &mut HeaderMap) {
        let hash = HeaderValue::from_str(&self.hash).expect("hexadecimal digits");
        headers.insert("x-prompt-hash", hash);
        headers.insert("x-seed", self.seed.into());
    }
}
