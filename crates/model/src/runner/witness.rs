//! A witness: somebody between the phases of a backend, who sees what each phase left, and may
//! change it.
//!
//! ```text
//! forward ─► Witnessed ─► backend      qkv │ attend │ project │ route │ expand │ reduce │ norm
//!                │                         ▼        ▼         ▼       ▼        ▼        ▼
//!                └──────────────────────► witness: (layer, phase), every buffer
//! ```
//! Comparisons read, deliberate faults write. Where nobody is between the phases there is no
//! [`Witnessed`], and nothing is paid.

use std::ops::Range;
use std::sync::Arc;

use qwire_gguf::File;

use crate::backend::{Backend, Halt, Limits, PageForm, Phase, Poison, Role, Tap};
use crate::batch::{Batch, PageId};
use crate::model::{Experts, Layer, Model};
use crate::shape::Shape;
use crate::weights::{LoadError, Weights};

/// The buffers of a device between two phases, and its pages.
pub trait Taps {
    /// Reads a buffer of the step under way.
    fn read(&self, tap: Tap) -> Vec<f32>;
    /// Overwrites one.
    fn write(&mut self, tap: Tap, values: &[f32]);
    /// The bytes of a page.
    fn page(&mut self, page: PageId) -> Vec<u8>;
    /// Puts such bytes into a page.
    fn put_page(&mut self, page: PageId, bytes: &[u8]);
}

impl<B: Backend> Taps for B {
    fn read(&self, tap: Tap) -> Vec<f32> {
        Backend::read(self, tap)
    }

    fn write(&mut self, tap: Tap, values: &[f32]) {
        Backend::write(self, tap, values);
    }

    fn page(&mut self, page: PageId) -> Vec<u8> {
        let mut bytes = vec![0; self.page_form().bytes];
        self.read_page(page, &mut bytes);
        bytes
    }

    fn put_page(&mut self, page: PageId, bytes: &[u8]) {
        self.write_page(page, bytes);
    }
}

/// Who stands between the phases.
pub trait Witness: Send {
    /// A step begins.
    fn begin(&mut self, _batch: &Batch, _taps: &mut dyn Taps) {}
    /// A phase has ended. After the last layer's comes the final norm, of layer `layers`.
    fn after(&mut self, layer: usize, phase: Phase, batch: &Batch, taps: &mut dyn Taps);
    /// Logits on their way out, [outputs, vocab].
    fn logits(&mut self, _logits: &mut [f32]) {}
    /// Whether a page shall be copied.
    fn copies(&mut self) -> bool {
        true
    }
}

/// A backend with a witness. It holds the weights itself; the model that it is given holds none.
pub struct Witnessed<B: Backend> {
    backend: B,
    model: Model<B>,
    witness: Box<dyn Witness>,
    batch: Batch,
    logits: Vec<f32>,
}

impl<B: Backend> Witnessed<B> {
    /// Loads a file's weights onto a backend. `progress` hears (layers done, layers).
    pub fn load(
        file: &Arc<File>,
        mut backend: B,
        witness: Box<dyn Witness>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, LoadError> {
        let model = Model::load(file, &mut backend, progress)?;
        Ok(Self { backend, model, witness, batch: Batch::default(), logits: Vec::new() })
    }

    /// A phase of one layer, and the witness after it.
    fn phase(&mut self, layer: usize, phase: Phase, work: impl FnOnce(&mut B, &Layer<B>, &Batch)) {
        work(&mut self.backend, &self.model.layers[layer], &self.batch);
        self.witness.after(layer, phase, &self.batch, &mut self.backend);
    }
}

impl<B: Backend> Backend for Witnessed<B> {
    type Matrix = ();
    type Vector = ();

    fn matrix(&mut self, _: Weights, _: Role) -> Result<(), LoadError> {
        Ok(())
    }

    fn vector(&mut self, _: Vec<f32>) -> Result<(), LoadError> {
        Ok(())
    }

    fn reserve(&mut self, shape: &Shape, limits: Limits) -> Result<(), LoadError> {
        self.backend.reserve(shape, limits)
    }

    fn halt(&self) -> Halt {
        self.backend.halt()
    }

    fn begin(&mut self, batch: &Batch) {
        self.batch.clone_from(batch);
        self.backend.begin(batch);
        self.witness.begin(batch, &mut self.backend);
    }

    fn embed(&mut self, (): &(), batch: &Batch) {
        self.backend.embed(&self.model.token_embd, batch);
    }

    fn qkv(&mut self, layer: &Layer<Self>) {
        self.phase(layer.index, Phase::Qkv, |b, l, _| b.qkv(l));
    }

    fn attend(&mut self, layer: &Layer<Self>, _: &Batch) {
        self.phase(layer.index, Phase::Attend, Backend::attend);
    }

    fn project(&mut self, layer: &Layer<Self>) {
        self.phase(layer.index, Phase::Project, |b, l, _| b.project(l));
    }

    fn route(&mut self, layer: &Layer<Self>) {
        self.phase(layer.index, Phase::Route, |b, l, _| b.route(l));
    }

    fn expand(&mut self, experts: &Experts<()>) {
        self.phase(experts.layer, Phase::Expand, |b, l, _| b.expand(&l.experts));
    }

    fn reduce(&mut self, experts: &Experts<()>) {
        self.phase(experts.layer, Phase::Reduce, |b, l, _| b.reduce(&l.experts));
    }

    fn close(&mut self, (): &(), batch: &Batch) {
        self.backend.close(&self.model.output_norm, batch);
        let layers = self.model.layers.len();
        self.witness.after(layers, Phase::Norm, batch, &mut self.backend);
    }

    fn finish(&mut self) -> Vec<Poison> {
        self.backend.finish()
    }

    fn logits(&mut self, (): &(), outputs: Range<usize>) -> &[f32] {
        self.logits.clear();
        self.logits.extend_from_slice(self.backend.logits(&self.model.output, outputs));
        self.witness.logits(&mut self.logits);
        &self.logits
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        self.backend.hidden(outputs)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        if self.witness.copies() {
            self.backend.copy_page(from, to);
        }
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

    fn exchange(&mut self) {
        self.backend.exchange();
    }

    fn read(&self, tap: Tap) -> Vec<f32> {
        Backend::read(&self.backend, tap)
    }

    fn write(&mut self, tap: Tap, values: &[f32]) {
        Backend::write(&mut self.backend, tap, values);
    }
}

/// Several witnesses, one after the other.
impl Witness for Vec<Box<dyn Witness>> {
    fn begin(&mut self, batch: &Batch, taps: &mut dyn Taps) {
        self.iter_mut().for_each(|witness| witness.begin(batch, taps));
    }

    fn after(&mut self, layer: usize, phase: Phase, batch: &Batch, taps: &mut dyn Taps) {
        self.iter_mut().for_each(|witness| witness.after(layer, phase, batch, taps));
    }

    fn logits(&mut self, logits: &mut [f32]) {
        self.iter_mut().for_each(|witness| witness.logits(logits));
    }

    fn copies(&mut self) -> bool {
        self.iter_mut().all(|witness| witness.copies())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::backend::KvType;
    use crate::batch::TokenId;
    use crate::reference::Reference;
    use crate::runner::{Loaded, Runner};
    use crate::synthetic::{self, Recipe};

    /// Notes what it sees; spoils one row where it shall.
    struct Notes {
        seen: Arc<Mutex<Vec<(usize, Phase, usize)>>>,
        spoils: bool,
    }

    impl Witness for Notes {
        fn after(&mut self, layer: usize, phase: Phase, batch: &Batch, taps: &mut dyn Taps) {
            let mut x = taps.read(Tap::X);
            self.seen.lock().unwrap().push((layer, phase, x.len() / batch.rows()));
            if self.spoils && (layer, phase) == (0, Phase::Project) {
                *x.last_mut().unwrap() = f32::NAN; // no other row sees the last one
                taps.write(Tap::X, &x);
            }
        }
    }

    #[test]
    fn a_witness_sees_every_phase_costs_no_bit_and_can_change_what_it_sees() {
        let shape = synthetic::shape("tiny-moe").expect("a shape");
        let mut recipe = Recipe::new(shape, synthetic::mix("q8_0").expect("a mix"), 3);
        recipe.layers = Some(2);
        let file = synthetic::file(&recipe).expect("a model");
        let limits = |_: &_| Limits { rows: 3, outputs: 3, pages: 1, kv: KvType::F32 };
        let batch = Batch::single(&[1, 2, 3].map(TokenId), 0, vec![PageId(0)], true);
        let mut bare = Loaded::load(&file, Reference::default(), limits, &mut |_, _| {}).unwrap();
        assert!(bare.step(&batch).is_empty());
        let expected = bare.logits(0..3).to_vec();
        for spoils in [false, true] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let notes = Box::new(Notes { seen: seen.clone(), spoils });
            let backend = Witnessed::load(&file, Reference::default(), notes, &mut |_, _| {});
            let mut watched =
                Loaded::load(&file, backend.unwrap(), limits, &mut |_, _| {}).unwrap();
            let faults = watched.step(&batch);
            assert_eq!(faults.len(), usize::from(spoils));
            if !spoils {
                assert!(watched.logits(0..3) == expected, "other bits");
            }
            let seen = seen.lock().unwrap();
            assert_eq!(seen.len(), 2 * 6 + 1);
            assert_eq!(seen[0].1, Phase::Qkv);
            assert_eq!((seen[12].0, seen[12].1), (2, Phase::Norm));
            assert!(seen.iter().all(|row| row.2 == watched.model.shape.hidden));
        }
    }
}
