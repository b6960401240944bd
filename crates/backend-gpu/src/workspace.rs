//! Everything a step reads and writes on the device, reserved once for the largest step.
//!
//! It lies in three pieces of memory, because some drivers let a kernel write to a piece or read it
//! as wide words, not both: what matrices but `down` read, what `down` reads, and all else.

use qwire_model::backend::{BEST, LOGIT_ROWS};
use qwire_model::{Batch, Limits, Shape};

use crate::device::{Address, Args};
use crate::kernel::{COLUMNS, SORTED, SPLIT};

/// Rows of activations as kernels read them: floats, and codes of two bytes with their scales.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acts {
    pub(crate) floats: Address, // [rows, k]
    high: Address,              // [rows, k]
    low: Address,               // [rows, k]
    scales: Address,            // [rows, k / 32] of 16 bytes
    pub(crate) k: usize,
}

impl Acts {
    /// `Acts` as kernels are told of them.
    pub(crate) fn put(&self, args: Args) -> Args {
        let args = args.address(self.floats).address(self.high);
        args.address(self.low).address(self.scales).count(self.k).skip(4)
    }

    /// Bytes of so many rows of codes and scales.
    pub(crate) fn code_bytes(&self, rows: usize) -> usize {
        rows * self.k * 5 / 2
    }

    /// The same with the floats.
    pub(crate) fn bytes(&self, rows: usize) -> usize {
        self.code_bytes(rows) + rows * self.k * 4
    }

    /// The same from a row on.
    pub(crate) fn starting_at(&self, row: usize) -> Self {
        Self {
            floats: self.floats.plus(row * self.k * 4),
            high: self.high.plus(row * self.k),
            low: self.low.plus(row * self.k),
            scales: self.scales.plus(row * self.k / 2),
            ..*self
        }
    }
}

/// Visits to experts, in tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visits {
    order: Address,  // [pairs]
    expert: Address, // [tiles]
    first: Address,  // [tiles]
    count: Address,  // [tiles]
}

impl Visits {
    /// `Visits` as kernels are told of them.
    pub(crate) fn put(&self, args: Args) -> Args {
        args.address(self.order).address(self.expert).address(self.first).address(self.count)
    }
}

/// The buffers between phases, and what a step is told of its rows.
pub(crate) struct Workspace {
    pub(crate) x: Address,       // [rows, hidden]
    pub(crate) aside: Address,   // another, of a parked batch
    pub(crate) h: Acts,          // norm(x), [rows, hidden]
    pub(crate) qkv: Address,     // [rows, q_dim + 2 kv_dim]
    pub(crate) q: Address,       // normed, turned and scaled, [rows, q_dim]
    pub(crate) a: Acts,          // [rows, q_dim]
    pub(crate) router: Address,  // [rows, experts]
    pub(crate) ids: Address,     // [rows, used]
    pub(crate) weights: Address, // [rows, used]
    pub(crate) ones: Address,    // [rows] the weights of what a host has summed
    pub(crate) visits: Visits,   //
    pub(crate) m: Acts,          // [rows * used, ffn]
    pub(crate) y: Address,       // [rows * used, hidden]
    pub(crate) last: Acts,       // [outputs, hidden]
    pub(crate) logits: Address,  // [LOGIT_ROWS, vocab]
    /// The best of them, of each share of the vocabulary: kept in turns.
    pub(crate) best: [Address; 2], // [LOGIT_ROWS, shares, BEST] of two words
    pub(crate) top: Address,     // [spread, heads, splits]
    pub(crate) weight: Address,  // the same
    pub(crate) part: Address,    // [spread, heads, splits, d]
    pub(crate) faults: Address,  // [rows]
    pub(crate) position: Address, // [rows]
    pub(crate) slot: Address,    // [rows]
    pub(crate) first: Address,   // [rows] the row's pages in `table`
    pub(crate) pick: Address,    // [outputs] rows
    pub(crate) turn: Address,    // [rows, 2, pairs] cosines, sines
    pub(crate) table: Address,   // pages of all spans
    /// Splits that a sequence can have.
    pub(crate) splits: usize,
}

/// Where the pieces are, or how long they are.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pieces<T> {
    pub(crate) inputs: T,
    pub(crate) middle: T,
    pub(crate) rest: T,
}

/// Takes buffers out of a piece, one after the other.
struct Taker {
    start: Address,
    end: Address,
}

impl Taker {
    fn new(start: Address) -> Self {
        Self { start, end: start }
    }

    fn take(&mut self, words: usize) -> Address {
        let at = self.end;
        self.end = at.plus((words * 4).next_multiple_of(256));
        at
    }

    fn acts(&mut self, rows: usize, k: usize) -> Acts {
        Acts {
            floats: self.take(rows * k),
            high: self.take(rows * k / 4),
            low: self.take(rows * k / 4),
            scales: self.take(rows * k / 8),
            k,
        }
    }

    fn len(&self) -> usize {
        (self.end.0 - self.start.0) as usize
    }
}

/// Rows whose splits of attention are spread over blocks, at most.
pub(crate) const SPREAD: usize = COLUMNS;

/// Tiles of so many visits that a step of so many rows can need.
pub(crate) fn tiles(shape: &Shape, rows: usize, width: usize) -> usize {
    let pairs = rows * shape.routing.used;
    pairs.div_ceil(width) + shape.experts.min(pairs)
}

impl Workspace {
    /// Lays everything out where the pieces are, and says how long they get.
    pub(crate) fn at(
        starts: Pieces<Address>,
        shape: &Shape,
        limits: Limits,
        positions: usize,
        vocab: usize,
    ) -> (Self, Pieces<usize>) {
        let (rows, pairs) = (limits.rows, limits.rows * shape.routing.used);
        let (hidden, q_dim, kv_dim) = (shape.hidden, shape.q_dim(), shape.kv_dim());
        let splits = positions.div_ceil(SPLIT).next_power_of_two();
        let spread = rows.min(SPREAD) * shape.heads * splits;
        let tiles = tiles(shape, rows, COLUMNS);
        let outputs = limits.outputs.min(LOGIT_ROWS);
        let shares = vocab.div_ceil(SORTED);
        let kept = |shares: usize| outputs * shares * BEST * 2;
        let mut inputs = Taker::new(starts.inputs);
        let h = inputs.acts(rows, hidden);
        let (a, last) = (inputs.acts(rows, q_dim), inputs.acts(limits.outputs, hidden));
        let mut middle = Taker::new(starts.middle);
        let m = middle.acts(pairs, shape.ffn);
        let mut rest = Taker::new(starts.rest);
        let mut take = |words: usize| rest.take(words);
        let visits = Visits {
            order: take(pairs),
            expert: take(tiles),
            first: take(tiles),
            count: take(tiles),
        };
        let workspace = Self {
            x: take(rows * hidden),
            aside: take(rows * hidden),
            h,
            qkv: take(rows * (q_dim + 2 * kv_dim)),
            q: take(rows * q_dim),
            a,
            router: take(rows * shape.experts),
            ids: take(pairs),
            weights: take(pairs),
            ones: take(rows),
            visits,
            m,
            y: take(pairs * hidden),
            last,
            logits: take(outputs * vocab),
            best: [take(kept(shares)), take(kept((shares * BEST).div_ceil(SORTED)))],
            top: take(spread),
            weight: take(spread),
            part: take(spread * shape.head_dim),
            faults: take(rows),
            position: take(rows),
            slot: take(rows),
            first: take(rows),
            pick: take(limits.outputs),
            turn: take(rows * shape.rotation.dims),
            table: take(rows * limits.pages),
            splits,
        };
        let lens = Pieces { inputs: inputs.len(), middle: middle.len(), rest: rest.len() };
        (workspace, lens)
    }
}

/// Most splits that any row of a batch sees.
pub(crate) fn deepest(batch: &Batch) -> usize {
    batch.spans.iter().map(|span| (span.start + span.len).div_ceil(SPLIT)).max().unwrap_or(1)
}
