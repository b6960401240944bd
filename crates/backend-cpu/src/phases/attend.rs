//! Attention over the pages of a batch's sequences.

use std::iter::repeat_n;

use bytemuck::Pod;
use qwire_kernels::attention::{self, BLOCK, Element, Fold, Head, Mass, PAGE, Queries};
use qwire_kernels::{norm, rope};
use qwire_model::{Layer, Shape};

use super::Floor;
use crate::Cpu;
use crate::bench::Bench;
use crate::buffers::{Blocks, Buffers, QueryTiles};
use crate::kv::Cache;
use crate::pool::Bounds;

/// Stores every row's key and value, then attends.
pub(super) fn attend<E: Element + Pod>(
    floor: &Floor<'_>,
    b: &mut Buffers,
    layer: &Layer<Cpu>,
    cache: &mut Cache,
) {
    let Buffers { qkv, cos, sin, slots, tables, tiles, blocks, a, .. } = b;
    let rows = Rows { floor, layer, qkv, cos, sin, tables, tiles };
    rows.store::<E>(slots, cache);
    if blocks.runs.is_empty() {
        rows.attend::<E>(cache, &mut a.floats);
    } else {
        rows.attend_blocks::<E>(cache, blocks);
        rows.fold(blocks, &mut a.floats);
    }
}

/// What a layer's attention reads of a step.
struct Rows<'a> {
    floor: &'a Floor<'a>,
    layer: &'a Layer<Cpu>,
    qkv: &'a [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    tables: &'a [u32],
    tiles: &'a QueryTiles,
}

impl Rows<'_> {
    /// q, k and v of a row.
    fn row(&self, row: usize) -> [&[f32]; 3] {
        let (q, kv) = (self.floor.shape.q_dim(), self.floor.shape.kv_dim());
        let (queries, rest) = self.qkv[row * (q + 2 * kv)..][..q + 2 * kv].split_at(q);
        let (keys, values) = rest.split_at(kv);
        [queries, keys, values]
    }

    /// Norms and turns a head of a row.
    fn turn(&self, row: usize, norm: Option<&Vec<f32>>, head: &mut [f32]) {
        let Floor { isa, shape, .. } = *self.floor;
        let half = shape.rotation.dims / 2;
        if let Some(weight) = norm {
            norm::rms_norm_in_place(isa, head, weight, shape.eps);
        }
        rope::rotate(isa, head, &self.cos[row * half..][..half], &self.sin[row * half..][..half]);
    }

    fn store<E: Element + Pod>(&self, slots: &[(usize, usize)], cache: &mut Cache) {
        let (floor, d, heads) = (self.floor, self.floor.shape.head_dim, self.floor.shape.kv_heads);
        let norm = self.layer.head_norms.as_ref().map(|(_, k)| k);
        let page = |(slot, _): &(usize, usize)| slot / PAGE;
        let pages: Vec<&[_]> = slots.chunk_by(|a, b| page(a) == page(b)).collect();
        let most = pages.iter().map(|rows| rows.len()).max().unwrap_or(0);
        let mut parts = cache.parts::<E>(self.layer.index, pages.iter().map(|rows| page(&rows[0])));
        floor.each(&mut parts, most * d, |worker, i, part| {
            let head = i % heads * d..(i % heads + 1) * d;
            let key = &mut floor.bench(worker).queries;
            for (slot, row) in pages[i / heads] {
                let [_, k, v] = self.row(*row);
                key.clear();
                key.extend_from_slice(&k[head.clone()]);
                self.turn(*row, norm, key);
                attention::store(floor.isa, slot % PAGE, key, &v[head.clone()], part);
            }
        });
    }

    /// Gathers a tile's queries of a key/value head, and what each may see.
    fn gather(&self, tile: usize, head: usize, queries: &mut Vec<f32>, visible: &mut Vec<usize>) {
        let Shape { head_dim: d, heads, kv_heads, .. } = *self.floor.shape;
        let (norm, scale) =
            (self.layer.head_norms.as_ref().map(|(q, _)| q), 1.0 / (d as f32).sqrt());
        let (group, position) = (heads / kv_heads, self.tiles.places[tile].position);
        queries.clear();
        visible.clear();
        for (i, row) in self.tiles.rows(tile).enumerate() {
            let start = queries.len();
            queries.extend_from_slice(&self.row(row)[0][head * group * d..][..group * d]);
            for query in queries[start..].chunks_exact_mut(d) {
                self.turn(row, norm, query);
                query.iter_mut().for_each(|q| *q *= scale);
            }
            visible.extend(repeat_n(position + i + 1, group));
        }
    }

    /// out [rows, heads d], tile by tile.
    fn attend<E: Element + Pod>(&self, cache: &Cache, out: &mut [f32]) {
        let (floor, d) = (self.floor, self.floor.shape.head_dim);
        let columns = self.columns(d);
        let bounds = Bounds { rows: &self.tiles.bounds, columns: &columns };
        floor.pool.grid(out, floor.shape.q_dim(), bounds, |worker, tile, head, rect| {
            let Bench { attention, queries, out, visible, .. } = &mut *floor.bench(worker);
            self.gather(tile, head, queries, visible);
            out.resize(queries.len(), 0.0);
            let pages = self.pages::<E>(cache, tile, head);
            attention::attend(floor.isa, Queries { q: queries, visible, d }, pages, attention, out);
            for (i, out) in out.chunks_exact(rect.columns().len()).enumerate() {
                rect.row(i).copy_from_slice(out);
            }
        });
    }

    /// The lines of all blocks, run by run.
    fn attend_blocks<E: Element + Pod>(&self, cache: &Cache, blocks: &mut Blocks) {
        let (floor, d) = (self.floor, self.floor.shape.head_dim);
        let columns = self.columns(d + 2);
        let Blocks { runs, bounds, lines, .. } = blocks;
        let bounds = Bounds { rows: bounds, columns: &columns };
        floor.pool.grid(lines, columns[floor.shape.kv_heads], bounds, |worker, run, head, rect| {
            let Bench { attention, queries, visible, .. } = &mut *floor.bench(worker);
            let (tile, run) = &runs[run];
            self.gather(*tile, head, queries, visible);
            let pages = self.pages::<E>(cache, *tile, head);
            let queries = Queries { q: queries, visible, d };
            let end = (run.end * BLOCK).min(visible[visible.len() - 1]);
            let group = rect.columns().len() / (d + 2);
            let mut line = 0;
            for block in run.clone() {
                attention::block(floor.isa, queries, pages, (block * BLOCK, end), attention);
                let rows = attention.sums.chunks_exact(group * d);
                for (sums, masses) in rows.zip(attention.masses.chunks_exact(group)) {
                    let (o, to) = rect.row(line).split_at_mut(group * d);
                    o.copy_from_slice(sums);
                    let to = to.as_chunks_mut().0.iter_mut();
                    to.zip(masses).for_each(|(to, Mass { top, mass })| *to = [*top, *mass]);
                    line += 1;
                }
            }
        });
    }

    /// out [rows, heads d] from the lines of all blocks.
    fn fold(&self, blocks: &Blocks, out: &mut [f32]) {
        let (floor, d) = (self.floor, self.floor.shape.head_dim);
        let (columns, wide) = (self.columns(d), self.columns(d + 2));
        let stride = wide[floor.shape.kv_heads];
        let bounds = Bounds { rows: &self.tiles.bounds, columns: &columns };
        floor.pool.grid(out, floor.shape.q_dim(), bounds, |worker, tile, head, rect| {
            let folds = &mut floor.bench(worker).attention.folds;
            let (rows, columns) = (rect.rows().len(), wide[head]..wide[head + 1]);
            for i in 0..rows {
                let row = rect.row(i);
                folds.clear();
                folds.resize(row.len() / d, Fold::default());
                for block in 0..self.tiles.blocks(tile, i) {
                    let line = (blocks.firsts[tile] + block * rows + i) * stride;
                    let (o, masses) = blocks.lines[line..][columns.clone()].split_at(row.len());
                    let queries = o.chunks_exact(d).zip(masses.as_chunks().0);
                    let folds = folds.iter_mut().zip(row.chunks_exact_mut(d));
                    for ((fold, out), (o, [top, mass])) in folds.zip(queries) {
                        fold.add(floor.isa, Mass { top: *top, mass: *mass }, o, out);
                    }
                }
                let folds = folds.drain(..).zip(row.chunks_exact_mut(d));
                folds.for_each(|(fold, out)| fold.finish(out));
            }
        });
    }

    /// Where the columns of each key/value head begin, of so many numbers a query, and the end.
    fn columns(&self, width: usize) -> Vec<usize> {
        let Shape { heads, kv_heads, .. } = *self.floor.shape;
        (0..=kv_heads).map(|head| head * (heads / kv_heads) * width).collect()
    }

    /// What a tile's queries of a head read.
    fn pages<'c, E: Element + Pod>(
        &'c self,
        cache: &'c Cache,
        tile: usize,
        head: usize,
    ) -> Head<'c, E> {
        let table = &self.tables[self.tiles.places[tile].pages.clone()];
        cache.head::<E>((self.layer.index, head), table)
    }
}
