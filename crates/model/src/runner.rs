//! A runner: a model on a device, behind one object-safe trait. The engine knows nothing else.

use std::ops::Range;
use std::sync::Arc;

use qwire_gguf::File;

use crate::backend::{Backend, Limits, Poison};
use crate::batch::{Batch, PageId};
use crate::forward::forward;
use crate::model::Model;
use crate::shape::Shape;
use crate::weights::LoadError;

/// What the engine asks of a model on a device.
pub trait Runner {
    /// Tokens of the vocabulary.
    fn vocab(&self) -> usize;
    /// What was reserved.
    fn limits(&self) -> Limits;
    /// Runs every layer over a batch; the faults found, by row.
    fn step(&mut self, batch: &Batch) -> Vec<Poison>;
    /// Logits of some outputs of the last step, [outputs, vocab].
    fn logits(&mut self, outputs: Range<usize>) -> &[f32];
    /// Copies a page.
    fn copy_page(&mut self, from: PageId, to: PageId);
}

/// A model loaded on a backend.
pub struct Loaded<B: Backend> {
    /// The device.
    pub backend: B,
    /// The weights on it.
    pub model: Model<B>,
    limits: Limits,
}

impl<B: Backend> Loaded<B> {
    /// Loads a file and reserves what `limits` says of its shape.
    pub fn load(
        file: &Arc<File>,
        mut backend: B,
        limits: impl FnOnce(&Shape) -> Limits,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, LoadError> {
        let model = Model::load(file, &mut backend, progress)?;
        let limits = limits(&model.shape);
        backend.reserve(&model.shape, limits)?;
        Ok(Self { backend, model, limits })
    }
}

impl<B: Backend> Runner for Loaded<B> {
    fn vocab(&self) -> usize {
        self.model.vocab
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn step(&mut self, batch: &Batch) -> Vec<Poison> {
        assert!(batch.rows() <= self.limits.rows, "rows reserved");
        assert!(batch.outputs.len() <= self.limits.outputs, "outputs reserved");
        batch.check(self.model.vocab);
        forward(&mut self.backend, &self.model, batch, 0..self.model.layers.len());
        self.backend.finish()
    }

    fn logits(&mut self, outputs: Range<usize>) -> &[f32] {
        self.backend.logits(&self.model.output, outputs)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.backend.copy_page(from, to);
    }
}
