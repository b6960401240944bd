//! Forecast: how quickly the model will read and answer, from a few real steps after loading.
//!
//! ```text
//! answers   tokens one by one: at position 0, and behind pages that were copied to be read
//! prompts   some layers of one chunk, parked and forgotten
//! bound     what the memories of a card and of the CPU allow, where both have layers
//! ```
//! What lies deeper follows from a line through the two depths: attention reads each position once.

use std::time::{Duration, Instant};

use qwire_backend_cpu::limits::Stream;
use qwire_backend_cuda::driver::Card;
use qwire_model::{Batch, PageId, Runner, Shape, TokenId};

use crate::backend::Device;
use crate::commands::loading::placement::{Sizes, Traffic};
use crate::commands::loading::{Opened, sidecar};
use crate::failure::Failure;
use crate::memory::ROWS_BESIDE;
use crate::memory::{self, PAGE};

/// Time for the steps of one depth; at least one is taken.
const DECODING: Duration = Duration::from_millis(250);
/// Time for the layers of a chunk.
const READING: Duration = Duration::from_millis(750);
/// Memory that is read to learn the speed of the CPU's.
const STREAM_BYTES: u64 = 1 << 30;
/// Where the second depth is, if the context has it.
const DEPTH: usize = 4096;

/// Speeds on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Forecast {
    /// Tokens of a prompt per second.
    pub prompt: f64,
    /// Seconds of a token at position 0.
    token_s: f64,
    /// Seconds more for each position before it.
    position_s: f64,
    /// The deeper of the two depths that were measured.
    pub depth: usize,
}

impl Forecast {
    /// Measures; the cache holds nothing of use before it and after it.
    pub fn measure(runner: &mut dyn Runner, context: usize) -> Result<Self, Failure> {
        let pages = runner.limits().pages;
        let most = context.min(pages * PAGE);
        let depth = DEPTH.min(most / 2);
        let table: Vec<_> = (0..Shape::pages_for(most)).map(|page| PageId(page as u32)).collect();
        let token_s = answer(runner, 0, &table)?;
        // Pages that nobody wrote are not in memory, and would be read too quickly.
        for page in table.iter().skip(1).take(Shape::pages_for(depth + 1)) {
            runner.copy_page(PageId(0), *page);
        }
        let deep_s = answer(runner, depth, &table)?;
        let position_s = (deep_s - token_s).max(0.0) / depth.max(1) as f64;
        let prompt = prompt(runner, most, table)?;
        Ok(Self { prompt, token_s, position_s, depth })
    }

    /// Tokens of one answer per second behind so many positions.
    pub fn answer(&self, depth: usize) -> f64 {
        1.0 / (self.token_s + self.position_s * depth as f64)
    }
}

/// What an answer cannot be quicker than where a card shares its layers with the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// What a token reads of the weights.
    pub traffic: Traffic,
    /// 10⁹ bytes a second: what the card's memory is built for, and what the CPU reads just now.
    pub card_gb_s: f64,
    pub host_gb_s: f64,
}

impl Bound {
    /// Measures the CPU's side; none where nothing is shared, or a side says nothing of its memory.
    pub fn of(device: &Device, opened: &Opened) -> Result<Option<Self>, Failure> {
        let Device::Shared(shared) = device else { return Ok(None) };
        let Device::Cuda(Card { gb_s: Some(card_gb_s), .. }) = shared.card else { return Ok(None) };
        let sizes = Sizes::of(&opened.file, opened.shape.layers);
        let traffic = Traffic::of(&sizes, &opened.shape, shared.placement);
        let pool = sidecar::pool(shared.threads)?;
        let half = memory::available().map_or(STREAM_BYTES, |bytes| bytes / 2);
        let bytes = usize::try_from(half.min(STREAM_BYTES)).expect("a few bytes");
        let stream = Stream::open(bytes, &pool)?;
        Ok(Some(Self { traffic, card_gb_s, host_gb_s: stream.gb_s(&pool) }))
    }

    /// Tokens a second, at most.
    pub fn tokens_s(&self) -> f64 {
        self.traffic.tokens_s(self.card_gb_s, self.host_gb_s)
    }
}

/// Seconds of a token at this depth: the median of some.
fn answer(runner: &mut dyn Runner, depth: usize, table: &[PageId]) -> Result<f64, Failure> {
    let (started, mut samples) = (Instant::now(), Vec::new());
    let mut no = 0;
    // The first one touches memory for the first time and does not count.
    while no < 2 || started.elapsed() < DECODING {
        let batch = Batch::single(&tokens(runner, no, 1), depth, table.to_vec(), true);
        let start = Instant::now();
        if let Some(poison) = runner.step(&batch).first() {
            return Err(Failure::new(poison));
        }
        if runner.best(0..1).is_none() {
            runner.logits(0..1);
        }
        samples.push(start.elapsed().as_secs_f64());
        no += 1;
    }
    samples.remove(0);
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2])
}

/// Tokens of a prompt per second, from some layers of one chunk.
fn prompt(runner: &mut dyn Runner, most: usize, table: Vec<PageId>) -> Result<f64, Failure> {
    let (rows, layers) = (runner.limits().rows.min(ROWS_BESIDE).min(most), runner.layers());
    let tokens = tokens(runner, 0, rows);
    runner.park(Batch::single(&tokens, 0, table, false));
    let (begun, mut samples) = (Instant::now(), Vec::new());
    for _ in 0..layers {
        let start = Instant::now();
        if let Some(poison) = runner.advance(1).and_then(|faults| faults.first().copied()) {
            return Err(Failure::new(poison));
        }
        samples.push(start.elapsed().as_secs_f64());
        if samples.len() > 1 && begun.elapsed() > READING {
            break;
        }
    }
    samples.sort_by(f64::total_cmp);
    Ok(rows as f64 / (samples[samples.len() / 2] * layers as f64))
}

/// Tokens spread over the vocabulary, so that they visit different experts.
fn tokens(runner: &dyn Runner, first: usize, n: usize) -> Vec<TokenId> {
    let spread = |at: usize| (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    (first..first + n).map(|at| TokenId((spread(at) % runner.vocab() as u64) as u32)).collect()
}
