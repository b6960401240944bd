//! A runner that breaks now and then: a toy that panics, or finds numbers that are not finite.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qwire_engine::toy::Toy;
use qwire_engine::{RequestId, Watch};
use qwire_model::{Batch, Halt, Limits, PageForm, PageId, Phase, Poison, Ranked, Runner};

/// Stands in the text of every panic that a world wants.
pub const PROVOKED: &str = "provoked";

/// What a turn took, as the runner saw it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub step: Option<Duration>,
    /// The step before, in an earlier turn.
    pub last_step: Option<Duration>,
    /// Rows of a chunk that was parked.
    pub parked: Option<usize>,
    /// Whether the latest chunk was parked in a turn without a step, and could have been smaller.
    pub alone: bool,
    pub layers: usize,
    pub advanced: Duration,
}

/// Rows of the smallest chunk that is not the end of a prompt.
pub const LEAST_ROWS: usize = 16;

/// Who leaves in the middle of the next work, and where they say so.
pub type Leaving = Arc<Mutex<Option<(Arc<Watch>, RequestId)>>>;

/// A toy behind chance.
pub struct Shaky {
    pub toy: Toy,
    pub random: Random,
    /// How rarely something breaks; 0 is never.
    pub rarely: u64,
    pub seen: Arc<Mutex<Seen>>,
    /// Whether logits are those of a chunk.
    pub reading: bool,
    /// Outputs whose logits were ranked last.
    pub ranked: Option<Range<usize>>,
    pub logits: Vec<f32>,
    pub leaving: Leaving,
}

impl Shaky {
    pub fn new(toy: Toy, random: Random, rarely: u64, seen: Arc<Mutex<Seen>>) -> Self {
        Self {
            toy,
            random,
            rarely,
            seen,
            reading: false,
            leaving: Leaving::default(),
            ranked: None,
            logits: Vec::new(),
        }
    }

    fn breaks(&mut self) -> bool {
        self.rarely > 0 && self.random.below(self.rarely) == 0
    }

    /// Somebody leaves; whether that halts what is about to be computed.
    fn left(&mut self) -> bool {
        if let Some((watch, id)) = self.leaving.lock().unwrap().take() {
            watch.leave(id);
        }
        self.toy.halt.is_set()
    }

    fn poison(&mut self, rows: usize) -> Vec<Poison> {
        let broken = self.breaks();
        let row = self.random.below(rows as u64) as usize;
        let poison = Poison { row, layer: 0, phase: Phase::Qkv };
        if broken { vec![poison] } else { Vec::new() }
    }
}

impl Runner for Shaky {
    fn vocab(&self) -> usize {
        self.toy.vocab()
    }

    fn layers(&self) -> usize {
        self.toy.layers()
    }

    fn limits(&self) -> Limits {
        self.toy.limits()
    }

    fn halt(&self) -> Halt {
        self.toy.halt()
    }

    fn step(&mut self, batch: &Batch) -> Vec<Poison> {
        let halted = self.left();
        assert!(halted || !self.breaks(), "{PROVOKED}");
        let before = self.toy.clock.now();
        self.ranked = None;
        self.toy.step(batch);
        if halted {
            return Vec::new();
        }
        let took = self.toy.clock.now().saturating_sub(before);
        self.seen.lock().unwrap().step = Some(took);
        self.reading = false;
        self.poison(batch.rows())
    }

    fn park(&mut self, batch: Batch) {
        let mut seen = self.seen.lock().unwrap();
        let rows = batch.rows();
        (seen.parked, seen.alone) = (Some(rows), seen.step.is_none() && rows > LEAST_ROWS);
        drop(seen);
        self.toy.park(batch);
    }

    fn advance(&mut self, layers: usize) -> Option<Vec<Poison>> {
        let halted = self.left();
        assert!(halted || !self.breaks(), "{PROVOKED}");
        let before = self.toy.clock.now();
        self.ranked = None;
        let ended = self.toy.advance(layers);
        if halted {
            return ended;
        }
        let mut seen = self.seen.lock().unwrap();
        seen.layers += layers;
        seen.advanced += self.toy.clock.now().saturating_sub(before);
        drop(seen);
        self.reading = ended.is_some();
        ended.map(|_| self.poison(1))
    }

    fn logits(&mut self, outputs: Range<usize>) -> &[f32] {
        assert!(!self.breaks(), "{PROVOKED}");
        // What was ranked is there already.
        let head = self.toy.head;
        let there = self.ranked.take().is_some_and(|ranked| ranked == outputs);
        self.toy.head = if there { Duration::ZERO } else { head };
        let (took, mut seen) = (self.toy.head * outputs.len() as u32, self.seen.lock().unwrap());
        if self.reading {
            seen.advanced += took;
        } else {
            seen.step = seen.step.map(|step| step + took);
        }
        drop(seen);
        self.logits = self.toy.logits(outputs).to_vec();
        self.toy.head = head;
        &self.logits
    }

    /// A few of them, now and then, which do not suffice for every draw.
    fn best(&mut self, outputs: Range<usize>) -> Option<Vec<Ranked>> {
        const FEW: usize = 4;
        if self.random.below(3) == 0 {
            return None;
        }
        let vocab = self.vocab();
        let rank = |logits: &[f32]| {
            let mut all: Vec<_> =
                (0..).zip(logits).map(|(token, logit)| Ranked { token, logit: *logit }).collect();
            all.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token)));
            all.truncate(FEW);
            all
        };
        let best = self.logits(outputs.clone()).chunks(vocab).flat_map(rank).collect();
        self.ranked = Some(outputs);
        Some(best)
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        self.toy.hidden(outputs)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.toy.copy_page(from, to);
    }

    fn page_form(&self) -> PageForm {
        self.toy.page_form()
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        assert!(!self.breaks(), "{PROVOKED}");
        self.toy.read_page(page, bytes);
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        assert!(!self.breaks(), "{PROVOKED}");
        self.toy.write_page(page, bytes);
    }
}

/// Random numbers from one seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A number from start to end, both possible.
    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start + 1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
