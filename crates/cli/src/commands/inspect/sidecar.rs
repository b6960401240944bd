//! Sidecar: whether a model's packed weights lie on disk.

use std::path::Path;
use std::sync::Arc;

use qwire_gguf::File;
use serde::Serialize;

use crate::commands::loading::sidecar::{Found, Shelf};
use crate::config::Environment;

/// What lies where a sidecar would.
#[derive(Serialize)]
pub struct SidecarFacts {
    /// None where nothing does.
    pub path: Option<String>,
    /// The size that one has.
    pub bytes: u64,
    /// Why what lies there is of no use.
    pub problem: Option<String>,
}

impl SidecarFacts {
    /// None for what is no model that can run.
    pub fn of(file: &Arc<File>, model: &Path, environment: &Environment) -> Option<Self> {
        let shelf = Shelf::of(file, model, environment).ok()?;
        let (path, problem) = match shelf.look() {
            Found::Nothing => (None, None),
            Found::Unfit(path, why) => (Some(path), Some(why)),
            Found::Fit(path, _) => (Some(path), None),
        };
        let path = path.map(|path| path.display().to_string());
        Some(Self { path, bytes: shelf.len_bytes(), problem })
    }
}
