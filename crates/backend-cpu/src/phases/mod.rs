//! The six phases on a CPU: rows are prepared one by one, products computed in tiles of sixteen
//! output rows, each tile by whichever worker takes it.

mod attend;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use qwire_kernels::Isa;
use qwire_kernels::activation;
use qwire_kernels::attention::F16;
use qwire_kernels::exp::gate;
use qwire_kernels::norm;
use qwire_kernels::rope::Rope;
use qwire_kernels::route::{blend, route};
use qwire_kernels::tile::{ROWS, TOKENS};
use qwire_model::backend::LOGIT_ROWS;
use qwire_model::{
    Backend, Batch, Experts, Halt, Host, KvType, Layer, Limits, LoadError, PageForm, PageId, Phase,
    Poison, Role, Shape, Tap, Weights,
};

use crate::activations::{Activations, Form};
use crate::bench::{Bench, TILES};
use crate::buffers::Buffers;
use crate::kv::Cache;
use crate::matrix::Matrix;
use crate::pool::{Bounds, Pool};
use crate::{Cpu, Reserved};
use attend::attend;

/// What phases share while they run.
struct Floor<'a> {
    pool: &'a Pool,
    isa: Isa,
    benches: &'a [Mutex<Bench>],
    shape: &'a Shape,
    rope: &'a Rope,
    faults: &'a [AtomicU32],
}

impl Floor<'_> {
    fn bench(&self, worker: usize) -> std::sync::MutexGuard<'_, Bench> {
        self.benches[worker].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn fault(&self, row: usize, layer: usize, phase: Phase) {
        self.faults[row].fetch_min(Poison::code(layer, phase), Ordering::Relaxed);
    }

    /// `f(worker, index, item)` for every item of about `cost` numbers.
    fn each<T: Send>(&self, items: &mut [T], cost: usize, f: impl Fn(usize, usize, &mut T) + Sync) {
        self.lines(items, 1, cost, |worker, i, item| f(worker, i, &mut item[0]));
    }

    /// `f(worker, index, line)` for every line of `len` items and of about `cost` numbers; little
    /// work is not shared out.
    fn lines<T: Send>(
        &self,
        items: &mut [T],
        len: usize,
        cost: usize,
        f: impl Fn(usize, usize, &mut [T]) + Sync,
    ) {
        if items.len() / len * cost <= SMALL {
            items.chunks_mut(len).enumerate().for_each(|(i, line)| f(0, i, line));
        } else {
            self.pool.chunks(items, len, f);
        }
    }

    /// Copies a piece of a page, between two steps.
    fn copy(&self, to: &mut [u8], from: &[u8]) {
        assert!(!self.pool.halt().is_set(), "pages move between steps, all of them");
        self.pool.chunks(to, MOVED, |_, i, to| to.copy_from_slice(&from[i * MOVED..][..to.len()]));
    }

    /// Panels of a task. A few rows stream the weights, in tasks so short that nobody waits long
    /// for the last of them; for many, the panels of a task stay in cache while tiles pass.
    fn strip(&self, panels: usize, rows: usize) -> usize {
        if rows > TOKENS {
            STRIP
        } else {
            (panels / (TASKS * self.pool.workers())).clamp(STRIP, 16 * STRIP)
        }
    }

    /// Columns at which a matrix of this many output rows is cut into tasks.
    fn cuts(&self, outputs: usize, rows: usize) -> Vec<usize> {
        let strip = self.strip(outputs.div_ceil(ROWS), rows);
        (0..outputs).step_by(strip * ROWS).chain([outputs]).collect()
    }

    /// h = norm(x) for the first rows.
    fn norm(
        &self,
        x: &[f32],
        weight: &[f32],
        rows: usize,
        h: &mut Activations,
        at: (usize, Phase),
    ) {
        let k = h.k;
        self.lines(&mut h.floats[..rows * k], k, k, |_, row, h| {
            if !norm::rms_norm(self.isa, &x[row * k..][..k], weight, self.shape.eps, h) {
                self.fault(row, at.0, at.1);
            }
        });
    }

    /// Fills the quantised rows from the floats of the first rows.
    fn quantise(&self, x: &mut Activations, rows: usize) {
        let (k, floats) = (x.k, &x.floats);
        let narrow = rows.min(x.narrow.len());
        self.each(&mut x.narrow[..narrow], k, |_, row, narrow| {
            activation::quantise_narrow(self.isa, &floats[row * k..][..k], narrow);
        });
        let wide = rows.min(x.wide.len());
        self.each(&mut x.wide[..wide], k, |_, row, wide| {
            activation::quantise_wide(self.isa, &floats[row * k..][..k], wide);
        });
    }

    /// Packs the tiles from the quantised rows.
    fn pack(&self, x: &mut Activations) {
        let (tiles, order) = (&x.tiles, &x.order);
        let rows = |tile: usize| order[tiles[tile].clone()].iter();
        if !x.narrow.is_empty() {
            let packs = &mut x.narrow_packs[..tiles.len()];
            self.each(packs, x.k, |_, tile, pack| {
                pack.gather(self.isa, rows(tile).map(|row| &x.narrow[*row]));
            });
        }
        if !x.wide.is_empty() {
            let packs = &mut x.wide_packs[..tiles.len()];
            self.each(packs, x.k, |_, tile, pack| {
                pack.gather(self.isa, rows(tile).map(|row| &x.wide[*row]));
            });
        }
    }

    /// Quantises the first rows and packs them in order.
    fn prepare(&self, x: &mut Activations, rows: usize) {
        self.quantise(x, rows);
        x.tile_rows(rows);
        self.pack(x);
    }

    fn strips(&self, matrices: &[&Matrix], rows: usize) -> Vec<Strip> {
        let (mut strips, mut column) = (Vec::new(), 0);
        let all = matrices.iter().map(|matrix| matrix.panels()).sum();
        let len = self.strip(all, rows);
        for (i, matrix) in matrices.iter().enumerate() {
            let panels = matrix.panels();
            for first in (0..panels).step_by(len) {
                let panels = first..(first + len).min(panels);
                strips.push(Strip { matrix: i, panels, column: column + first * ROWS });
            }
            column += matrix.weights.rows;
        }
        strips
    }

    /// Products of a row of matrices side by side, each with its columns of `out` [rows, stride]:
    /// `place(matrix, out columns, acc, first output)` for every row and panel.
    fn multiply(
        &self,
        matrices: &[&Matrix],
        x: &Activations,
        out: &mut [f32],
        place: impl Fn(usize, &mut [f32], &[f32], usize) + Sync,
    ) {
        let stride: usize = matrices.iter().map(|matrix| matrix.weights.rows).sum();
        let strips = self.strips(matrices, x.order.len());
        let columns: Vec<usize> = strips.iter().map(|strip| strip.column).collect();
        let columns: Vec<usize> = columns.into_iter().chain([stride]).collect();
        let rows = x.order.len();
        let bounds = Bounds { rows: &[0, rows], columns: &columns };
        self.pool.grid(out, stride, bounds, |worker, _, strip, rect| {
            let bench = &mut *self.bench(worker);
            let run = |strip: &Strip| matrices[strip.matrix].run(0, strip.panels.clone());
            let next = strips.get(strip + 1).map_or(&[][..], run);
            let strip = &strips[strip];
            let matrix = matrices[strip.matrix];
            for tiles in together(0..x.tiles.len()) {
                for (panel, i) in matrix.read(run(strip), next).zip(strip.panels.clone()) {
                    matrix.tiles(self.isa, panel, x, tiles.clone(), &mut bench.sums);
                    let outputs = matrix.rows_of(i);
                    let at = outputs.start - strip.panels.start * ROWS;
                    for (row, sums) in x.sums(tiles.clone(), &bench.sums) {
                        let out = &mut rect.row(row)[at..at + outputs.len()];
                        place(strip.matrix, out, &sums[..outputs.len()], outputs.start);
                    }
                }
            }
        });
    }
}

/// Numbers that one worker handles sooner than it wakes another.
const SMALL: usize = 16 * 1024;

/// Bytes of a page that one worker moves at a time.
const MOVED: usize = 256 << 10;

/// Panels of a task, at least.
const STRIP: usize = 4;

/// Tasks of a worker, where it streams weights.
const TASKS: usize = 16;

/// Some panels of one of several matrices that stand side by side.
struct Strip {
    matrix: usize,
    panels: Range<usize>,
    column: usize,
}

impl Cpu {
    fn floor(&mut self) -> (Floor<'_>, &mut Buffers, &mut Cache) {
        let reserved = self.reserved.as_mut().expect("a step follows reserve");
        let floor = Floor {
            pool: &self.pool,
            isa: self.isa,
            benches: &self.benches,
            shape: &reserved.shape,
            rope: &reserved.rope,
            faults: &reserved.faults,
        };
        (floor, &mut reserved.buffers, &mut reserved.cache)
    }

    fn kept(&self) -> &Reserved {
        self.reserved.as_ref().expect("a step follows reserve")
    }
}

impl Backend for Cpu {
    type Matrix = Matrix;
    type Vector = Vec<f32>;

    fn matrix(&mut self, weights: Weights, role: Role) -> Result<Matrix, LoadError> {
        self.place(Matrix::new(weights, role), role)
    }

    fn vector(&mut self, values: Vec<f32>) -> Result<Vec<f32>, LoadError> {
        Ok(values)
    }

    fn reserve(&mut self, shape: &Shape, limits: Limits) -> Result<(), LoadError> {
        limits.kv.refusal(shape.head_dim).map_or(Ok(()), |problem| Err(LoadError(problem)))?;
        self.reserved = Some(Reserved {
            cache: Cache::new(shape, limits.pages, limits.kv)
                .map_err(|error| LoadError(format!("memory of keys and values: {error}")))?,
            buffers: Buffers::new(shape, limits),
            faults: (0..limits.rows).map(|_| AtomicU32::new(Poison::NO_CODE)).collect(),
            rope: shape.rotation.rope(),
            shape: shape.clone(),
        });
        Ok(())
    }

    fn halt(&self) -> Halt {
        self.pool.halt()
    }

    fn begin(&mut self, batch: &Batch) {
        let (floor, b, _) = self.floor();
        b.place(batch, floor.shape, floor.pool.workers());
        let faults = floor.faults[..b.rows].iter();
        faults.for_each(|fault| fault.store(Poison::NO_CODE, Ordering::Relaxed));
        let half = floor.rope.pairs();
        let angles = b.cos.chunks_exact_mut(half).zip(b.sin.chunks_exact_mut(half));
        for (position, (cos, sin)) in batch.positions().zip(angles) {
            floor.rope.fill(position, cos, sin);
        }
    }

    fn embed(&mut self, table: &Matrix, batch: &Batch) {
        let (floor, b, _) = self.floor();
        let hidden = floor.shape.hidden;
        floor.pool.chunks(&mut b.x[..b.rows * hidden], hidden, |_, row, x| {
            table.weights.row(batch.tokens[row].0 as usize, x);
        });
    }

    fn qkv(&mut self, layer: &Layer<Self>) {
        let (floor, b, _) = self.floor();
        floor.norm(&b.x, &layer.attn_norm, b.rows, &mut b.h, (layer.index, Phase::Qkv));
        floor.prepare(&mut b.h, b.rows);
        let parts = [&layer.attn_q, &layer.attn_k, &layer.attn_v];
        floor.multiply(&parts.map(|part| &part.matrix), &b.h, &mut b.qkv, |i, out, acc, first| {
            put(out, acc);
            if let Some(bias) = &parts[i].bias {
                out.iter_mut().zip(&bias[first..]).for_each(|(out, bias)| *out += bias);
            }
        });
    }

    /// The batch's spans were placed by `begin`.
    fn attend(&mut self, layer: &Layer<Self>, _: &Batch) {
        let (floor, b, cache) = self.floor();
        match cache.kv {
            KvType::F16 => attend::<F16>(&floor, b, layer, cache),
            KvType::F32 => attend::<f32>(&floor, b, layer, cache),
            KvType::I8 => attend::<i8>(&floor, b, layer, cache),
        }
    }

    fn project(&mut self, layer: &Layer<Self>) {
        let (floor, b, _) = self.floor();
        floor.prepare(&mut b.a, b.rows);
        floor.multiply(&[&layer.attn_output], &b.a, &mut b.x, |_, x, acc, _| add(x, acc));
    }

    fn route(&mut self, layer: &Layer<Self>) {
        let (floor, b, _) = self.floor();
        let (rows, used) = (b.rows, floor.shape.routing.used);
        floor.norm(&b.x, &layer.ffn_norm, rows, &mut b.h, (layer.index, Phase::Route));
        floor.quantise(&mut b.h, rows);
        if let Some(router) = &layer.router {
            assert_eq!(router.form, Form::Float, "the router is f32");
            b.h.tile_rows(rows);
            let logits = &mut b.router_logits;
            floor.multiply(&[router], &b.h, logits, |_, out, acc, _| put(out, acc));
            choose(&floor, logits, &mut b.routes[..rows * used], layer.index);
        }
        b.group(floor.shape);
    }

    fn expand(&mut self, experts: &Experts<Matrix>) {
        let (floor, b, _) = self.floor();
        let (rows, ffn, groups) = (b.rows, floor.shape.ffn, &b.groups);
        let pairs = groups.bounds.last().copied().unwrap_or(0);
        b.h.order.clear();
        b.h.order.extend_from_slice(&groups.rows[..pairs]);
        b.h.tile_groups(&groups.bounds);
        floor.pack(&mut b.h);
        let (h, first_tiles) = (&b.h, first_tiles(&b.h.tiles, &groups.bounds));
        let columns = floor.cuts(ffn, rows);
        let bounds = Bounds { rows: &groups.bounds, columns: &columns };
        floor.pool.grid(&mut b.m.floats, ffn, bounds, |worker, group, strip, rect| {
            let bench = &mut *floor.bench(worker);
            let panels = |matrix| {
                let run =
                    |group, strip| expert_run(matrix, &groups.experts, &columns, (group, strip));
                let next = either(run(group, strip + 1), run(group + 1, 0));
                matrix.read(run(group, strip), next)
            };
            for tiles in together(first_tiles[group]..first_tiles[group + 1]) {
                let pairs = panels(&experts.gate).zip(panels(&experts.up));
                for ((gate_panel, up_panel), at) in pairs.zip((0..).step_by(ROWS)) {
                    experts.gate.tiles(floor.isa, gate_panel, h, tiles.clone(), &mut bench.gates);
                    experts.up.tiles(floor.isa, up_panel, h, tiles.clone(), &mut bench.sums);
                    let gates = h.sums(tiles.clone(), &bench.gates);
                    for ((pair, gates), (_, ups)) in gates.zip(h.sums(tiles.clone(), &bench.sums)) {
                        let m = rect.row(pair - groups.bounds[group]);
                        gate(floor.isa, gates, ups, &mut m[at..]);
                    }
                }
            }
        });
    }

    fn reduce(&mut self, experts: &Experts<Matrix>) {
        let (floor, b, _) = self.floor();
        let (rows, hidden) = (b.rows, floor.shape.hidden);
        let groups = &b.groups;
        let pairs = groups.bounds.last().copied().unwrap_or(0);
        floor.quantise(&mut b.m, pairs);
        b.m.order.clear();
        b.m.order.extend(0..pairs);
        b.m.tile_groups(&groups.bounds);
        floor.pack(&mut b.m);
        let (m, first_tiles) = (&b.m, first_tiles(&b.m.tiles, &groups.bounds));
        let columns = floor.cuts(hidden, rows);
        let bounds = Bounds { rows: &[0, rows], columns: &columns };
        floor.pool.grid(&mut b.x, hidden, bounds, |worker, _, strip, rect| {
            let Bench { sums, y, .. } = &mut *floor.bench(worker);
            let width = rect.columns().len();
            let visited = &groups.experts;
            let run = |group, strip| expert_run(&experts.down, visited, &columns, (group, strip));
            y.clear();
            y.resize(rows * width, 0.0);
            for group in 0..groups.experts.len() {
                let next = either(run(group + 1, strip), run(0, strip + 1));
                for tiles in together(first_tiles[group]..first_tiles[group + 1]) {
                    let panels = experts.down.read(run(group, strip), next);
                    for (panel, at) in panels.zip((0..).step_by(ROWS)) {
                        experts.down.tiles(floor.isa, panel, m, tiles.clone(), sums);
                        for (pair, sums) in m.sums(tiles.clone(), sums) {
                            let y = &mut y[groups.rows[pair] * width..][at..width];
                            blend(floor.isa, groups.weights[pair], sums, y);
                        }
                    }
                }
            }
            for (row, y) in y.chunks_exact(width).enumerate() {
                add(rect.row(row), y);
            }
        });
    }

    fn close(&mut self, norm: &Vec<f32>, batch: &Batch) {
        let (floor, b, _) = self.floor();
        let hidden = floor.shape.hidden;
        b.outputs = batch.outputs.len();
        let (x, layers) = (&b.x, floor.shape.layers);
        floor.pool.chunks(&mut b.last.floats[..b.outputs * hidden], hidden, |_, i, out| {
            let row = batch.outputs[i];
            if !norm::rms_norm(floor.isa, &x[row * hidden..][..hidden], norm, floor.shape.eps, out)
            {
                floor.fault(row, layers, Phase::Norm);
            }
        });
        floor.quantise(&mut b.last, b.outputs);
    }

    fn finish(&mut self) -> Vec<Poison> {
        let reserved = self.reserved.as_mut().expect("a step follows reserve");
        let faults = reserved.faults[..reserved.buffers.rows].iter_mut().enumerate();
        faults
            .filter_map(|(row, code)| {
                let code = std::mem::replace(code.get_mut(), Poison::NO_CODE);
                Poison::of_code(row, code)
            })
            .collect()
    }

    fn logits(&mut self, head: &Matrix, outputs: Range<usize>) -> &[f32] {
        assert!(outputs.len() <= LOGIT_ROWS, "at most {LOGIT_ROWS} rows of logits");
        let (floor, b, _) = self.floor();
        assert!(outputs.end <= b.outputs, "outputs of the last step");
        let (rows, vocab) = (outputs.len(), head.weights.rows);
        b.logits.resize(rows * vocab, 0.0);
        b.last.order.clear();
        b.last.order.extend(outputs);
        b.last.tile_groups(&[0, rows]);
        floor.pack(&mut b.last);
        floor.multiply(&[head], &b.last, &mut b.logits, |_, out, acc, _| put(out, acc));
        &b.logits[..rows * vocab]
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        let kept = self.kept();
        let hidden = kept.shape.hidden;
        kept.buffers.last.floats[outputs.start * hidden..outputs.end * hidden].to_vec()
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        let (_, _, cache) = self.floor();
        cache.copy_page(from, to);
    }

    fn page_form(&self) -> PageForm {
        self.kept().cache.page_form()
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        let (floor, _, cache) = self.floor();
        let mut bytes = bytes;
        for part in cache.page(page) {
            let to = bytes.split_off_mut(..part.len()).expect("a page of this form");
            floor.copy(to, part);
        }
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        let (floor, _, cache) = self.floor();
        let mut bytes = bytes;
        for part in cache.page_mut(page) {
            let from = bytes.split_off(..part.len()).expect("a page of this form");
            floor.copy(part, from);
        }
    }

    fn exchange(&mut self) {
        let (_, b, _) = self.floor();
        std::mem::swap(&mut b.x, &mut b.aside);
    }

    fn read(&self, tap: Tap) -> Vec<f32> {
        let kept = self.kept();
        kept.buffers.read(&kept.shape, tap)
    }

    fn write(&mut self, tap: Tap, values: &[f32]) {
        let (floor, b, _) = self.floor();
        b.write(floor.shape, tap, values);
        if tap == Tap::H {
            floor.quantise(&mut b.h, b.rows);
        }
    }
}

impl Host for Cpu {
    fn visit(&mut self, h: &[f32], routes: &[(u32, f32)]) {
        let (floor, b, _) = self.floor();
        b.rows = h.len() / b.h.k;
        b.x[..h.len()].fill(0.0);
        b.h.floats[..h.len()].copy_from_slice(h);
        floor.quantise(&mut b.h, b.rows);
        b.routes[..routes.len()].copy_from_slice(routes);
        b.group(floor.shape);
    }
}

/// out = acc. Nearly all are whole panels, which are moved in a few instructions.
fn put(out: &mut [f32], acc: &[f32]) {
    let ((out, out_rest), (acc, acc_rest)) = (out.as_chunks_mut::<ROWS>(), acc.as_chunks::<ROWS>());
    out.iter_mut().zip(acc).for_each(|(out, acc)| *out = *acc);
    out_rest.copy_from_slice(acc_rest);
}

/// x = x + acc
fn add(x: &mut [f32], acc: &[f32]) {
    let ((x, x_rest), (acc, acc_rest)) = (x.as_chunks_mut::<ROWS>(), acc.as_chunks::<ROWS>());
    let (x, acc) = (x.as_flattened_mut(), acc.as_flattened());
    x.iter_mut().zip(acc).for_each(|(x, acc)| *x += acc);
    x_rest.iter_mut().zip(acc_rest).for_each(|(x, acc)| *x += acc);
}

/// Tiles in runs that meet a panel together.
fn together(tiles: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = tiles.end;
    tiles.step_by(TILES).map(move |first| first..end.min(first + TILES))
}

/// The panels of an expert, counted among those that are visited, within a strip of columns; none
/// behind the last expert or strip.
fn expert_run<'a>(
    matrix: &'a Matrix,
    experts: &[usize],
    columns: &[usize],
    (group, strip): (usize, usize),
) -> &'a [u8] {
    match (experts.get(group), columns.get(strip..).unwrap_or(&[])) {
        (Some(expert), [start, end, ..]) => matrix.run(*expert, start / ROWS..end.div_ceil(ROWS)),
        _ => &[],
    }
}

/// The first of two runs, or where it is empty the second.
fn either<'a>(first: &'a [u8], second: &'a [u8]) -> &'a [u8] {
    if first.is_empty() { second } else { first }
}

/// The first tile of each group, and the end.
fn first_tiles(tiles: &[Range<usize>], bounds: &[usize]) -> Vec<usize> {
    bounds.iter().map(|bound| tiles.partition_point(|tile| tile.start < *bound)).collect()
}

/// Chooses the experts of every row from its logits.
fn choose(
    floor: &Floor<'_>,
    logits: &[f32], // [rows, experts]
    routes: &mut [(u32, f32)],
    layer: usize,
) {
    let (experts, routing) = (floor.shape.experts, floor.shape.routing);
    floor.lines(routes, routing.used, experts, |_, row, routes| {
        if !route(floor.isa, &logits[row * experts..][..experts], routing, routes) {
            floor.fault(row, layer, Phase::Route);
        }
    });
}
