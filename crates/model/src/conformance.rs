//! Conformance: any backend, phase by phase, against the reference on any model.
//!
//! Before each phase both sides are given the same inputs, so that an error is the phase's own and
//! does not hide behind those before it. The batches cross page boundaries, mix spans, and leave
//! experts without visitors.

use std::sync::Arc;

use qwire_gguf::File;
use qwire_kernels::attention::PAGE;

use crate::backend::{Backend, KvType, Limits, Phase, Role, Tap};
use crate::batch::{Batch, PageId, Span, TokenId};
use crate::model::{Layer, Model};
use crate::reference::Reference;
use crate::weights::LoadError;

/// Largest relative error (root mean square of the difference over that of the reference) that a
/// phase may show.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Phases that read 8-bit activations: qkv, expand; project and reduce of a dense model.
    pub narrow: f64,
    /// Phases that read 15-bit ones: project and reduce of a mixture, the head.
    pub wide: f64,
    /// Attention, which reads the cache.
    pub attend: f64,
    /// The router.
    pub route: f64,
}

impl Bounds {
    /// For quantised weights with a cache of this type; what rounding makes, and little more.
    pub fn quantised(kv: KvType) -> Self {
        Self { narrow: 1.5e-2, wide: 2e-4, ..Self::float(kv) }
    }

    /// For float weights.
    pub fn float(kv: KvType) -> Self {
        let attend = match kv {
            KvType::I8 => 2e-2,
            KvType::F16 => 1e-3,
            KvType::F32 => 1e-5,
        };
        Self { narrow: 1e-5, wide: 1e-5, attend, route: 1e-4 }
    }
}

/// What one phase showed at worst.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The phase; `Norm` stands for final norm and head.
    pub phase: Phase,
    /// Its largest relative error.
    pub error: f64,
    /// What was allowed.
    pub bound: f64,
}

/// Runs every phase of every layer on both; the worst error of each phase, all within bounds.
pub fn run<B: Backend>(
    file: &Arc<File>,
    backend: B,
    kv: KvType,
    bounds: Bounds,
) -> Result<Vec<Measured>, String> {
    let mut pair = Pair::load(file, backend, kv, bounds).map_err(|error| error.to_string())?;
    for batch in batches(pair.ours.model.vocab) {
        pair.step(&batch)?;
    }
    pages_move(&mut pair.ours.backend)?;
    pages_move(&mut pair.truth.backend)?;
    Ok(pair.measured)
}

/// Prompts that end around a page boundary, then single rows and a new sequence beside them.
fn batches(vocab: usize) -> Vec<Batch> {
    let pages = |first: u32| (first..first + 3).map(PageId).collect::<Vec<_>>();
    let plans: [&[(usize, usize, u32)]; 5] = [
        &[(0, 1, 9)],
        &[(0, PAGE - 1, 0), (0, PAGE + 1, 3)],
        &[(PAGE - 1, 2, 0), (PAGE + 1, 1, 3), (0, 5, 6)],
        &[(5, PAGE, 6)],
        &[(PAGE + 1, 1, 0), (PAGE + 2, 17, 3), (PAGE + 5, 1, 6)],
    ];
    let mut seed = 7_usize;
    let mut token = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
        TokenId(((seed >> 33) % vocab) as u32)
    };
    let batch = |plan: &[(usize, usize, u32)]| {
        let span = |(start, len, first): &(usize, usize, u32)| Span {
            start: *start,
            len: *len,
            pages: pages(*first),
        };
        let spans: Vec<Span> = plan.iter().map(span).collect();
        let rows = spans.iter().map(|span| span.len).sum();
        Batch { tokens: (0..rows).map(|_| token()).collect(), spans, outputs: vec![0, rows - 1] }
    };
    let mut batches: Vec<Batch> = plans.into_iter().map(batch).collect();
    for batch in &mut batches {
        batch.outputs.dedup();
    }
    batches
}

/// What is read of a page and written to another is there, all of it, and nowhere else.
fn pages_move<B: Backend>(backend: &mut B) -> Result<(), String> {
    let len = backend.page_form().bytes;
    let read = |backend: &mut B, page| {
        let mut bytes = vec![0; len];
        backend.read_page(PageId(page), &mut bytes);
        bytes
    };
    let [full, beside] = [0, 10].map(|page| read(backend, page));
    backend.write_page(PageId(11), &full);
    let found = [0, 10, 11].map(|page| read(backend, page));
    let whole = full.iter().filter(|byte| **byte != 0).count() > len / 2;
    if whole && found == [full.clone(), beside, full] {
        return Ok(());
    }
    Err(format!("a page of {len} bytes that was read and written elsewhere is another"))
}

struct Side<B: Backend> {
    backend: B,
    model: Model<B>,
}

impl<B: Backend> Side<B> {
    fn load(file: &Arc<File>, mut backend: B, limits: Limits) -> Result<Self, LoadError> {
        let model = Model::load(file, &mut backend, &mut |_, _| {})?;
        backend.reserve(&model.shape, limits)?;
        Ok(Self { backend, model })
    }
}

/// Two backends that walk together.
struct Pair<B: Backend> {
    ours: Side<B>,
    truth: Side<Reference>,
    bounds: Bounds,
    measured: Vec<Measured>,
}

impl<B: Backend> Pair<B> {
    fn load(file: &Arc<File>, backend: B, kv: KvType, bounds: Bounds) -> Result<Self, LoadError> {
        let limits = Limits { rows: 2 * PAGE + 1, outputs: 2, pages: 12, kv };
        let ours = Side::load(file, backend, limits)?;
        let truth = Side::load(file, Reference::default(), limits)?;
        Ok(Self { ours, truth, bounds, measured: Vec::new() })
    }

    fn step(&mut self, batch: &Batch) -> Result<(), String> {
        self.ours.backend.begin(batch);
        self.truth.backend.begin(batch);
        self.ours.backend.embed(&self.ours.model.token_embd, batch);
        self.truth.backend.embed(&self.truth.model.token_embd, batch);
        if self.ours.backend.read(Tap::X) != self.truth.backend.read(Tap::X) {
            return Err("embedding: rows are not exactly the table's".into());
        }
        for index in 0..self.truth.model.layers.len() {
            self.layer(index, batch)?;
        }
        self.ours.backend.close(&self.ours.model.output_norm, batch);
        self.truth.backend.close(&self.truth.model.output_norm, batch);
        let outputs = 0..batch.outputs.len();
        let ours = self.ours.backend.logits(&self.ours.model.output, outputs.clone()).to_vec();
        let truth = self.truth.backend.logits(&self.truth.model.output, outputs).to_vec();
        self.judge(Phase::Norm, self.bounds.wide, &ours, &truth)?;
        let faults = (self.ours.backend.finish(), self.truth.backend.finish());
        if faults.0.is_empty() && faults.1.is_empty() {
            return Ok(());
        }
        Err(format!("faults were found: {:?}, by the reference {:?}", faults.0, faults.1))
    }

    fn layer(&mut self, index: usize, batch: &Batch) -> Result<(), String> {
        let Bounds { narrow, wide, attend, route } = self.bounds;
        let added = match self.truth.model.shape.into_stream() {
            Role::IntoMixture => wide,
            _ => narrow,
        };
        self.phase(index, &mut |b, l| b.qkv(l), &mut |b, l| b.qkv(l));
        for tap in [Tap::Q, Tap::K, Tap::V] {
            self.compare(Phase::Qkv, narrow, tap)?;
        }
        self.phase(index, &mut |b, l| b.attend(l, batch), &mut |b, l| b.attend(l, batch));
        self.compare(Phase::Attend, attend, Tap::A)?;
        self.phase(index, &mut |b, l| b.project(l), &mut |b, l| b.project(l));
        self.compare(Phase::Project, added, Tap::X)?;
        self.phase(index, &mut |b, l| b.route(l), &mut |b, l| b.route(l));
        self.compare(Phase::Route, route, Tap::Route)?;
        self.phase(index, &mut |b, l| b.expand(&l.experts), &mut |b, l| b.expand(&l.experts));
        self.compare(Phase::Expand, narrow, Tap::M)?;
        self.phase(index, &mut |b, l| b.reduce(&l.experts), &mut |b, l| b.reduce(&l.experts));
        self.compare(Phase::Reduce, added, Tap::X)
    }

    fn phase(
        &mut self,
        index: usize,
        ours: &mut dyn FnMut(&mut B, &Layer<B>),
        truth: &mut dyn FnMut(&mut Reference, &Layer<Reference>),
    ) {
        ours(&mut self.ours.backend, &self.ours.model.layers[index]);
        truth(&mut self.truth.backend, &self.truth.model.layers[index]);
    }

    /// Judges a buffer, then gives both sides the reference's.
    fn compare(&mut self, phase: Phase, bound: f64, tap: Tap) -> Result<(), String> {
        let truth = self.truth.backend.read(tap);
        let ours = self.ours.backend.read(tap);
        self.judge(phase, bound, &ours, &truth)?;
        self.ours.backend.write(tap, &truth);
        self.truth.backend.write(tap, &truth);
        Ok(())
    }

    fn judge(&mut self, phase: Phase, bound: f64, a: &[f32], b: &[f32]) -> Result<(), String> {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
        let size: f64 = b.iter().map(|b| square(*b)).sum();
        let error = if difference == 0.0 { 0.0 } else { (difference / size).sqrt() };
        let within = error <= bound; // not so for NaN
        if a.len() != b.len() || !within {
            let lengths = format!("{} and {} values", a.len(), b.len());
            return Err(format!("{phase:?}: relative error {error:e} over {bound:e} ({lengths})"));
        }
        match self.measured.iter_mut().find(|measured| measured.phase == phase) {
            Some(measured) => measured.error = measured.error.max(error),
            None => self.measured.push(Measured { phase, error, bound }),
        }
        Ok(())
    }
}
