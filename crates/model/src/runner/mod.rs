//! A runner: a model on a device, behind one object-safe trait. The engine knows nothing else.
//!
//! ```text
//! step      a batch through every layer
//! park      a batch that waits between layers; steps of others run meanwhile
//! advance   some layers of the parked one: the same bits, whatever ran in between
//! ```

pub mod witness;

use std::ops::Range;
use std::sync::Arc;

use qwire_gguf::File;

use crate::backend::{Backend, Halt, Limits, PageForm, Poison, Ranked};
use crate::batch::{Batch, PageId};
use crate::forward::forward;
use crate::model::Model;
use crate::shape::Shape;
use crate::weights::LoadError;

/// What the engine asks of a model on a device.
pub trait Runner: Send {
    /// Tokens of the vocabulary.
    fn vocab(&self) -> usize;
    /// Layers of the model.
    fn layers(&self) -> usize;
    /// What was reserved.
    fn limits(&self) -> Limits;
    /// What ends a step or layers early; see [`Backend::halt`].
    fn halt(&self) -> Halt {
        Halt::default()
    }
    /// Runs every layer over a batch; the faults found, by row.
    fn step(&mut self, batch: &Batch) -> Vec<Poison>;
    /// Takes a batch to be computed a few layers at a time. There is one place: what was parked
    /// before is forgotten.
    fn park(&mut self, batch: Batch);
    /// Runs the next `layers` of the parked batch. After its last one: the faults found, by row,
    /// and its outputs are those that [`Runner::logits`] and [`Runner::hidden`] read.
    fn advance(&mut self, layers: usize) -> Option<Vec<Poison>>;
    /// Logits of some outputs of the batch that ended last, [outputs, vocab].
    fn logits(&mut self, outputs: Range<usize>) -> &[f32];
    /// The best of them, where the device ranks them; see [`Backend::best`].
    fn best(&mut self, _outputs: Range<usize>) -> Option<Vec<Ranked>> {
        None
    }
    /// The final norm of some of its outputs, [outputs, hidden].
    fn hidden(&self, outputs: Range<usize>) -> Vec<f32>;
    /// Copies a page.
    fn copy_page(&mut self, from: PageId, to: PageId);
    /// What the bytes of a page are.
    fn page_form(&self) -> PageForm;
    /// Hands out a page, between two steps.
    fn read_page(&mut self, page: PageId, bytes: &mut [u8]);
    /// Puts such bytes into a page.
    fn write_page(&mut self, page: PageId, bytes: &[u8]);
}

/// A model loaded on a backend.
pub struct Loaded<B: Backend> {
    /// The device.
    pub backend: B,
    /// The weights on it.
    pub model: Model<B>,
    limits: Limits,
    parked: Option<Parked>,
}

/// A batch between two layers. Its residual stream lies aside on the device; everything else that
/// a layer needs follows from the batch.
struct Parked {
    batch: Batch,
    layer: usize,
    faults: Vec<Poison>,
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
        Ok(Self { backend, model, limits, parked: None })
    }

    fn check(&self, batch: &Batch) {
        assert!(batch.rows() <= self.limits.rows, "rows reserved");
        assert!(batch.outputs.len() <= self.limits.outputs, "outputs reserved");
        batch.check(self.model.vocab);
    }
}

impl<B: Backend> Runner for Loaded<B> {
    fn vocab(&self) -> usize {
        self.model.vocab
    }

    fn layers(&self) -> usize {
        self.model.layers.len()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn halt(&self) -> Halt {
        self.backend.halt()
    }

    fn step(&mut self, batch: &Batch) -> Vec<Poison> {
        self.check(batch);
        forward(&mut self.backend, &self.model, batch, 0..self.model.layers.len());
        self.backend.finish()
    }

    fn park(&mut self, batch: Batch) {
        self.check(&batch);
        self.parked = Some(Parked { batch, layer: 0, faults: Vec::new() });
    }

    fn advance(&mut self, layers: usize) -> Option<Vec<Poison>> {
        // Taken out while it runs: a panic in between leaves no half-computed layer behind.
        let mut parked = self.parked.take().expect("a batch is parked");
        let end = self.model.layers.len().min(parked.layer + layers);
        self.backend.exchange();
        forward(&mut self.backend, &self.model, &parked.batch, parked.layer..end);
        self.backend.exchange();
        for poison in self.backend.finish() {
            if parked.faults.iter().all(|fault| fault.row != poison.row) {
                parked.faults.push(poison);
            }
        }
        parked.layer = end;
        if end == self.model.layers.len() {
            return Some(parked.faults);
        }
        self.parked = Some(parked);
        None
    }

    fn logits(&mut self, outputs: Range<usize>) -> &[f32] {
        self.backend.logits(&self.model.output, outputs)
    }

    fn best(&mut self, outputs: Range<usize>) -> Option<Vec<Ranked>> {
        self.backend.best(&self.model.output, outputs)
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        self.backend.hidden(outputs)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.backend.copy_page(from, to);
    }

    fn page_form(&self) -> PageForm {
        self.backend.page_form()
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        self.backend.read_page(page, bytes);
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        self.backend.write_page(page, bytes);
    }
}
