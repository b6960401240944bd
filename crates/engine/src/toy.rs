//! A toy: a runner without a model, for tests of everything above it.
//!
//! Its logits are a hash of the whole history, read back from the slots of every layer through the
//! page table: a wrong page, a stale slot or one written by somebody else gives other tokens. Its
//! work takes model time, on a clock that tests share.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use qwire_model::{Batch, Halt, KvType, Limits, PageForm, PageId, Poison, Runner};

use crate::pages::PAGE;

/// Model time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// The time since the start.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// The runner.
pub struct Toy {
    /// Tokens of its vocabulary.
    pub vocab: usize,
    /// Its limits.
    pub limits: Limits,
    /// What a layer takes, whatever it computes, and for each row.
    pub cost: (Duration, Duration),
    /// What the logits of a row take.
    pub head: Duration,
    /// What it takes to read or to write a page.
    pub page: Duration,
    /// Where that time passes.
    pub clock: Clock,
    /// While it is set the toy stores nonsense.
    pub halt: Halt,
    slots: Vec<Vec<u64>>, // [layers][slots]
    parked: Option<(Batch, usize)>,
    outputs: Vec<u64>,
    logits: Vec<f32>,
}

impl Toy {
    /// A toy of this size whose work takes no time.
    pub fn new(vocab: usize, layers: usize, limits: (usize, usize, usize)) -> Self {
        let (rows, outputs, pages) = limits;
        Self {
            vocab,
            limits: Limits { rows, outputs, pages, kv: KvType::F32 },
            cost: (Duration::ZERO, Duration::ZERO),
            head: Duration::ZERO,
            page: Duration::ZERO,
            clock: Clock::default(),
            halt: Halt::default(),
            slots: vec![vec![0; pages * PAGE]; layers],
            parked: None,
            outputs: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// The logits after a history, of any toy with so many layers.
    pub fn answer(history: &[u32], vocab: usize, layers: usize) -> Vec<f32> {
        logits(Self::hash_of(history, layers), vocab).collect()
    }

    /// What these logits and the hidden rows are made of.
    pub fn hash_of(history: &[u32], layers: usize) -> u64 {
        let at = |(position, token): (usize, u32)| {
            (0..layers).map(move |layer| written(layer, position, token))
        };
        history.iter().copied().enumerate().flat_map(at).fold(0, mix)
    }

    fn run(&mut self, batch: &Batch, layers: Range<usize>) {
        let mut slots = HashSet::new();
        assert!(batch.slots().all(|slot| slots.insert(slot)), "a slot is written twice");
        for layer in layers.clone() {
            let rows = batch.positions().zip(&batch.tokens).zip(batch.slots());
            for ((position, token), slot) in rows {
                let nonsense = u64::from(self.halt.is_set());
                self.slots[layer][slot] = written(layer, position, token.0) ^ nonsense;
            }
            let (fixed, each) = self.cost;
            self.clock.pass(fixed + each * batch.rows() as u32);
        }
        if layers.end == self.slots.len() {
            self.outputs = batch.outputs.iter().map(|row| self.hash(batch, *row)).collect();
        }
    }

    /// Everything that a row sees.
    fn hash(&self, batch: &Batch, row: usize) -> u64 {
        let span = &batch.spans[batch.span_of(row)];
        let position = batch.positions().nth(row).expect("a row of the batch");
        let slot = |at: usize| span.pages[at / PAGE].0 as usize * PAGE + at % PAGE;
        let seen = (0..=position).flat_map(|at| self.slots.iter().map(move |s| s[slot(at)]));
        seen.fold(0, mix)
    }
}

impl Runner for Toy {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn layers(&self) -> usize {
        self.slots.len()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn halt(&self) -> Halt {
        self.halt.clone()
    }

    fn step(&mut self, batch: &Batch) -> Vec<Poison> {
        batch.check(self.vocab);
        assert!(batch.rows() <= self.limits.rows && batch.outputs.len() <= self.limits.outputs);
        self.run(batch, 0..self.slots.len());
        Vec::new()
    }

    fn park(&mut self, batch: Batch) {
        batch.check(self.vocab);
        assert!(batch.rows() <= self.limits.rows && batch.outputs.len() <= self.limits.outputs);
        self.parked = Some((batch, 0));
    }

    fn advance(&mut self, layers: usize) -> Option<Vec<Poison>> {
        let (batch, layer) = self.parked.take().expect("a batch is parked");
        let end = self.slots.len().min(layer + layers);
        self.run(&batch, layer..end);
        if end == self.slots.len() {
            return Some(Vec::new());
        }
        self.parked = Some((batch, end));
        None
    }

    fn logits(&mut self, outputs: Range<usize>) -> &[f32] {
        self.clock.pass(self.head * outputs.len() as u32);
        let hashes = self.outputs[outputs].iter();
        self.logits = hashes.flat_map(|hash| logits(*hash, self.vocab)).collect();
        &self.logits
    }

    /// One number: the hash.
    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        self.outputs[outputs].iter().map(|hash| (hash % 1000) as f32).collect()
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        let (from, to) = (from.0 as usize * PAGE, to.0 as usize * PAGE);
        self.slots.iter_mut().for_each(|slots| slots.copy_within(from..from + PAGE, to));
    }

    fn page_form(&self) -> PageForm {
        let bytes = self.slots.len() * PAGE * size_of::<u64>();
        PageForm { bytes, layout: "layer, slot", numbers: "toy", host_layers: 0 }
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        self.clock.pass(self.page);
        let at = page.0 as usize * PAGE;
        let slots = self.slots.iter().flat_map(|slots| &slots[at..at + PAGE]);
        slots.zip(bytes.as_chunks_mut().0).for_each(|(x, bytes)| *bytes = x.to_le_bytes());
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        self.clock.pass(self.page);
        let at = page.0 as usize * PAGE;
        let slots = self.slots.iter_mut().flat_map(|slots| &mut slots[at..at + PAGE]);
        slots.zip(bytes.as_chunks().0).for_each(|(x, bytes)| *x = u64::from_le_bytes(*bytes));
    }
}

fn written(layer: usize, position: usize, token: u32) -> u64 {
    mix(layer as u64, (position as u64) << 32 | u64::from(token))
}

fn logits(hash: u64, vocab: usize) -> impl Iterator<Item = f32> {
    (0..vocab as u64).map(move |token| (mix(hash, token) % 1024) as f32 / 128.0)
}

fn mix(hash: u64, value: u64) -> u64 {
    let x = (hash.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}
