//! Everything a step writes on a CPU, reserved once for the largest step.

use std::ops::Range;

use qwire_kernels::attention::BLOCK;
use qwire_model::{Batch, Limits, Shape, Tap};

use crate::activations::{Activations, Form};

/// Queries of a head that are attended together, in one task, where a prompt has as many.
const QUERIES: usize = 64;

/// Tasks of attention for each worker below which tiles are cut into blocks.
const FEW: usize = 4;

/// Numbers of blocks that are kept until they are folded: 8 MB, of which a system gives what is
/// written.
const LINES: usize = 2 << 20;

/// The buffers between phases.
pub(crate) struct Buffers {
    /// Rows of this step.
    pub rows: usize,
    /// [rows, hidden]
    pub x: Vec<f32>,
    /// Another, of a parked batch.
    pub aside: Vec<f32>,
    /// norm(x), [rows, hidden]
    pub h: Activations,
    /// q, k, v side by side, [rows, q_dim + 2 kv_dim]
    pub qkv: Vec<f32>,
    /// [rows, q_dim]
    pub a: Activations,
    /// [rows, experts]
    pub router_logits: Vec<f32>,
    /// [rows, used] (expert, weight), ids ascending
    pub routes: Vec<(u32, f32)>,
    /// Routed (row, place) pairs by expert, then by row: places in `m`.
    pub groups: Groups,
    /// One row per routed pair in group order, [rows * used, ffn]
    pub m: Activations,
    /// Rows that give logits.
    pub outputs: usize,
    /// Their final norm.
    pub last: Activations,
    /// [LOGIT_ROWS, vocab]
    pub logits: Vec<f32>,
    /// [rows, n_rot / 2]
    pub cos: Vec<f32>,
    /// [rows, n_rot / 2]
    pub sin: Vec<f32>,
    /// The cache slot of each row, by slot: (slot, row).
    pub slots: Vec<(usize, usize)>,
    /// Pages of all spans, one after the other.
    pub tables: Vec<u32>,
    /// Query tiles: rows ascending and the span of each.
    pub tiles: QueryTiles,
    /// Blocks of attention for several workers.
    pub blocks: Blocks,
}

/// Routed pairs grouped by expert.
#[derive(Default)]
pub(crate) struct Groups {
    /// Experts that some row visits, ascending.
    pub experts: Vec<usize>,
    /// Where each one's pairs start; one more than experts.
    pub bounds: Vec<usize>,
    /// Row of each pair.
    pub rows: Vec<usize>,
    /// Weight of each pair.
    pub weights: Vec<f32>,
    /// For each [row, place] the pair's position.
    pub of_place: Vec<usize>,
    counts: Vec<usize>,
}

/// A span's rows in tiles.
#[derive(Default)]
pub(crate) struct QueryTiles {
    /// First row of each, and the end.
    pub bounds: Vec<usize>,
    /// Where each lies in its sequence.
    pub places: Vec<Place>,
}

/// Where the rows of a tile lie in their sequence.
pub(crate) struct Place {
    /// Its pages, in `tables`.
    pub pages: Range<usize>,
    /// Position of the first row.
    pub position: usize,
}

impl QueryTiles {
    /// The rows of a tile.
    pub fn rows(&self, tile: usize) -> Range<usize> {
        self.bounds[tile]..self.bounds[tile + 1]
    }

    /// How many blocks the i-th row of a tile sees.
    pub fn blocks(&self, tile: usize, i: usize) -> usize {
        (self.places[tile].position + i + 1).div_ceil(BLOCK)
    }
}

/// Blocks of attention that are worked out side by side and folded afterwards, where workers are
/// many and tiles few: each row of a tile has a line for each block.
#[derive(Default)]
pub(crate) struct Blocks {
    /// (tile, its neighbouring blocks) of each task; none where a tile's blocks stay together.
    pub runs: Vec<(usize, Range<usize>)>,
    /// First line of each run, and the end.
    pub bounds: Vec<usize>,
    /// First line of each tile.
    pub firsts: Vec<usize>,
    /// [lines, heads (d + 2)]: by kv head o of its queries, then m and l of each.
    pub lines: Vec<f32>,
}

impl Blocks {
    fn new() -> Self {
        Self { lines: vec![0.0; LINES], ..Self::default() }
    }

    /// Shares out the blocks of some tiles.
    fn share(&mut self, tiles: &QueryTiles, shape: &Shape, workers: usize) {
        self.runs.clear();
        self.firsts.clear();
        self.bounds.clear();
        self.bounds.push(0);
        let count = tiles.places.len();
        let blocks = |tile| tiles.blocks(tile, tiles.rows(tile).len() - 1);
        let all: usize = (0..count).map(blocks).sum();
        let lines: usize = (0..count).map(|tile| blocks(tile) * tiles.rows(tile).len()).sum();
        let fit = lines * shape.heads * (shape.head_dim + 2) <= self.lines.len();
        let few = count * shape.kv_heads < FEW * workers;
        if !few || all == count || !fit {
            return;
        }
        let len = (all * shape.kv_heads).div_ceil(2 * FEW * workers);
        let mut line = 0;
        for tile in 0..count {
            self.firsts.push(line);
            for first in (0..blocks(tile)).step_by(len) {
                let run = first..blocks(tile).min(first + len);
                line += run.len() * tiles.rows(tile).len();
                self.runs.push((tile, run));
                self.bounds.push(line);
            }
        }
    }
}

impl Buffers {
    pub(crate) fn new(shape: &Shape, limits: Limits) -> Self {
        let (rows, pairs) = (limits.rows, limits.rows * shape.routing.used);
        let half = shape.rotation.dims / 2;
        let added = Form::of(shape.into_stream());
        Self {
            rows: 0,
            x: vec![0.0; rows * shape.hidden],
            aside: vec![0.0; rows * shape.hidden],
            h: Activations::grouped(rows, pairs, shape.hidden, Form::Narrow, shape.experts),
            qkv: vec![0.0; rows * (shape.q_dim() + 2 * shape.kv_dim())],
            a: Activations::new(rows, shape.q_dim(), added, 1),
            router_logits: vec![0.0; rows * shape.experts],
            routes: vec![(0, 1.0); pairs],
            groups: Groups::new(shape.experts, pairs),
            m: Activations::new(pairs, shape.ffn, added, shape.experts),
            outputs: 0,
            last: Activations::new(limits.outputs, shape.hidden, Form::Wide, 1),
            logits: Vec::new(),
            cos: vec![0.0; rows * half],
            sin: vec![0.0; rows * half],
            slots: Vec::with_capacity(rows),
            tables: Vec::with_capacity(limits.pages),
            tiles: QueryTiles::default(),
            blocks: Blocks::new(),
        }
    }

    /// Takes rows, slots and query tiles from a batch, for so many workers.
    pub(crate) fn place(&mut self, batch: &Batch, shape: &Shape, workers: usize) {
        let tile = (QUERIES * shape.kv_heads / shape.heads).max(1);
        self.rows = batch.rows();
        self.slots.clear();
        self.slots.extend(batch.slots().zip(0..));
        self.slots.sort_unstable();
        self.tables.clear();
        self.tiles.bounds.clear();
        self.tiles.places.clear();
        let mut row = 0;
        for span in &batch.spans {
            let table = self.tables.len();
            self.tables.extend(span.pages.iter().map(|page| page.0));
            for at in (0..span.len).step_by(tile) {
                self.tiles.bounds.push(row + at);
                let (pages, position) = (table..self.tables.len(), span.start + at);
                self.tiles.places.push(Place { pages, position });
            }
            row += span.len;
        }
        self.tiles.bounds.push(row);
        self.blocks.share(&self.tiles, shape, workers);
    }

    pub(crate) fn read(&self, shape: &Shape, tap: Tap) -> Vec<f32> {
        let (rows, width) = (self.rows, shape.q_dim() + 2 * shape.kv_dim());
        match tap {
            Tap::X => self.x[..rows * shape.hidden].to_vec(),
            Tap::H => self.h.floats[..rows * shape.hidden].to_vec(),
            Tap::A => self.a.floats[..rows * shape.q_dim()].to_vec(),
            Tap::Q | Tap::K | Tap::V => {
                let columns = columns(shape, tap);
                let rows = self.qkv[..rows * width].chunks_exact(width);
                rows.flat_map(|row| &row[columns.clone()]).copied().collect()
            }
            Tap::Route => {
                let mut dense = vec![0.0; rows * shape.experts];
                let routes = self.routes.chunks_exact(shape.routing.used);
                for (routes, dense) in routes.zip(dense.chunks_exact_mut(shape.experts)) {
                    routes.iter().for_each(|(id, weight)| dense[*id as usize] = *weight);
                }
                dense
            }
            Tap::M => {
                let pairs = &self.groups.of_place[..rows * shape.routing.used];
                let row = |pair: &usize| &self.m.floats[pair * shape.ffn..][..shape.ffn];
                pairs.iter().flat_map(row).copied().collect()
            }
        }
    }

    pub(crate) fn write(&mut self, shape: &Shape, tap: Tap, values: &[f32]) {
        let width = shape.q_dim() + 2 * shape.kv_dim();
        match tap {
            Tap::X => self.x[..values.len()].copy_from_slice(values),
            Tap::H => self.h.floats[..values.len()].copy_from_slice(values),
            Tap::A => self.a.floats[..values.len()].copy_from_slice(values),
            Tap::Q | Tap::K | Tap::V => {
                let columns = columns(shape, tap);
                let rows = self.qkv.chunks_exact_mut(width);
                for (row, values) in rows.zip(values.chunks_exact(columns.len())) {
                    row[columns.clone()].copy_from_slice(values);
                }
            }
            Tap::Route => {
                let routes = self.routes.chunks_exact_mut(shape.routing.used);
                for (routes, dense) in routes.zip(values.chunks_exact(shape.experts)) {
                    let chosen = dense.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
                    for (route, (id, weight)) in routes.iter_mut().zip(chosen) {
                        *route = (id as u32, *weight);
                    }
                }
                self.group(shape);
            }
            Tap::M => {
                let rows = values.chunks_exact(shape.ffn).zip(&self.groups.of_place);
                for (values, pair) in rows {
                    self.m.floats[pair * shape.ffn..][..shape.ffn].copy_from_slice(values);
                }
            }
        }
    }

    /// Orders routed pairs by expert, then by row.
    pub(crate) fn group(&mut self, shape: &Shape) {
        self.groups.sort(&self.routes[..self.rows * shape.routing.used], shape.routing.used);
    }
}

impl Groups {
    fn new(experts: usize, pairs: usize) -> Self {
        Self {
            experts: Vec::with_capacity(experts),
            bounds: Vec::with_capacity(experts + 1),
            rows: vec![0; pairs],
            weights: vec![0.0; pairs],
            of_place: vec![0; pairs],
            counts: vec![0; experts],
        }
    }

    /// A counting sort: experts ascending, rows ascending within.
    fn sort(&mut self, routes: &[(u32, f32)], used: usize) {
        self.counts.fill(0);
        for (id, _) in routes {
            self.counts[*id as usize] += 1;
        }
        self.experts.clear();
        self.bounds.clear();
        let mut end = 0;
        for (expert, count) in self.counts.iter_mut().enumerate() {
            if *count > 0 {
                self.experts.push(expert);
                self.bounds.push(end);
                end += *count;
                *count = end - *count; // now: where the next pair of this expert goes
            }
        }
        self.bounds.push(end);
        for (at, (id, weight)) in routes.iter().enumerate() {
            let place = &mut self.counts[*id as usize];
            self.rows[*place] = at / used;
            self.weights[*place] = *weight;
            self.of_place[at] = *place;
            *place += 1;
        }
    }
}

fn columns(shape: &Shape, tap: Tap) -> Range<usize> {
    let (q, kv) = (shape.q_dim(), shape.kv_dim());
    match tap {
        Tap::Q => 0..q,
        Tap::K => q..q + kv,
        _ => q + kv..q + 2 * kv,
    }
}
