//! The six phases on a CPU: rows are prepared one by one, products computed in tiles of sixteen
//! output rows, each tile by whichever worker takes it.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use qwire_kernels::Isa;
use qwire_kernels::activation::{self, Row};
use qwire_kernels::attention::{self, Element, Queries};
use qwire_kernels::exp::silu;
use qwire_kernels::norm;
use qwire_kernels::rope;
use qwire_kernels::route::route;
use qwire_kernels::tile::{ROWS, TOKENS};
use qwire_model::backend::LOGIT_ROWS;
use qwire_model::{
    Backend, Batch, Layer, Limits, LoadError, PageId, Phase, Poison, Role, Shape, Tap, Weights,
};

use crate::buffers::Buffers;
use crate::kv::{Cache, Layers};
use crate::matrix::{Activations, Bench, Form, Matrix};
use crate::pool::{Bounds, Pool};
use crate::{Cpu, Reserved};

/// A fault as one number whose order is the order of phases.
fn fault_code(layer: usize, phase: Phase) -> u32 {
    (layer as u32) << 3 | phase as u32
}

const PHASES: [Phase; 7] = [
    Phase::Qkv,
    Phase::Attend,
    Phase::Project,
    Phase::Route,
    Phase::Expand,
    Phase::Reduce,
    Phase::Norm,
];

const NO_FAULT: u32 = u32::MAX;

/// What phases share while they run.
struct Floor<'a> {
    pool: &'a Pool,
    isa: Isa,
    benches: &'a [Mutex<Bench>],
    shape: &'a Shape,
    faults: &'a [AtomicU32],
}

impl Floor<'_> {
    fn bench(&self, worker: usize) -> std::sync::MutexGuard<'_, Bench> {
        self.benches[worker].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn fault(&self, row: usize, layer: usize, phase: Phase) {
        self.faults[row].fetch_min(fault_code(layer, phase), Ordering::Relaxed);
    }

    /// h = norm(x) for the first rows, in the forms of `h`.
    fn norm(
        &self,
        x: &[f32],
        weight: &[f32],
        rows: usize,
        h: &mut Activations,
        at: (usize, Phase),
    ) {
        let k = h.k;
        self.pool.chunks(&mut h.floats[..rows * k], k, |_, row, h| {
            if !norm::rms_norm(self.isa, &x[row * k..][..k], weight, self.shape.eps, h) {
                self.fault(row, at.0, at.1);
            }
        });
    }

    /// Fills the quantised forms of the first rows from the floats.
    fn quantise(&self, x: &mut Activations, rows: usize) {
        let (k, floats) = (x.k, &x.floats);
        if !x.narrow.is_empty() {
            self.pool.each(&mut x.narrow[..rows], |_, row, narrow: &mut Row<i8>| {
                activation::quantise(self.isa, &floats[row * k..][..k], narrow);
            });
        }
        if !x.wide.is_empty() {
            self.pool.each(&mut x.wide[..rows], |_, row, wide: &mut Row<i16>| {
                activation::quantise(self.isa, &floats[row * k..][..k], wide);
            });
        }
    }

    /// out [rows, stride] at a matrix's columns: `place(row of out, acc)` for every product.
    fn multiply(
        &self,
        matrix: &Matrix,
        x: &Activations,
        rows: usize,
        out: &mut Output<'_>,
        place: impl Fn(&mut [f32], &[f32], usize) + Sync,
    ) {
        let bounds: Vec<usize> = tiles(matrix.weights.rows).map(|tile| out.at + tile).collect();
        let bounds = Bounds { rows: &[0, rows], columns: &bounds };
        let at = out.at;
        self.pool.grid(out.matrix, out.stride, bounds, |worker, _, _, rect| {
            let bench = &mut *self.bench(worker);
            let columns = rect.columns.start - at..rect.columns.end - at;
            for start in (0..rows).step_by(TOKENS) {
                let tokens = Tokens::range(start..(start + TOKENS).min(rows));
                matrix.tile(self.isa, 0, columns.clone(), x, &tokens, &mut bench.sums);
                for (row, sums) in tokens.iter().zip(&bench.sums) {
                    place(rect.row(*row), &sums[..columns.len()], columns.start);
                }
            }
        });
    }
}

/// Where products go: columns `at..` of a matrix of this stride.
struct Output<'a> {
    matrix: &'a mut [f32],
    stride: usize,
    at: usize,
}

/// Up to sixteen token numbers.
struct Tokens([usize; TOKENS], usize);

impl Tokens {
    fn range(range: Range<usize>) -> Self {
        Self(std::array::from_fn(|i| range.start + i), range.len())
    }
}

impl std::ops::Deref for Tokens {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0[..self.1]
    }
}

/// Bounds of tiles of sixteen: 0, 16, .., n.
fn tiles(n: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(ROWS).chain(std::iter::once(n))
}

impl Cpu {
    fn floor(&mut self) -> (Floor<'_>, &mut Buffers, &mut Cache) {
        let reserved = self.reserved.as_mut().expect("a step follows reserve");
        let floor = Floor {
            pool: &self.pool,
            isa: self.isa,
            benches: &self.benches,
            shape: &reserved.shape,
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
        Ok(Matrix::new(weights, role))
    }

    fn vector(&mut self, values: Vec<f32>) -> Result<Vec<f32>, LoadError> {
        Ok(values)
    }

    fn reserve(&mut self, shape: &Shape, limits: Limits) -> Result<(), LoadError> {
        self.reserved = Some(Reserved {
            cache: Cache::new(shape, limits.pages, limits.kv),
            buffers: Buffers::new(shape, limits),
            faults: (0..limits.rows).map(|_| AtomicU32::new(NO_FAULT)).collect(),
            shape: shape.clone(),
        });
        Ok(())
    }

    fn begin(&mut self, batch: &Batch) {
        let (floor, b, _) = self.floor();
        b.place(batch);
        let rope = floor.shape.rotation.rope();
        let half = rope.pairs();
        let angles = b.cos.chunks_exact_mut(half).zip(b.sin.chunks_exact_mut(half));
        for (position, (cos, sin)) in batch.positions().zip(angles) {
            rope.fill(position, cos, sin);
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
        let (rows, q, kv) = (b.rows, floor.shape.q_dim(), floor.shape.kv_dim());
        floor.norm(&b.x, &layer.attn_norm, rows, &mut b.h, (layer.index, Phase::Qkv));
        floor.quantise(&mut b.h, rows);
        let parts = [(&layer.attn_q, 0), (&layer.attn_k, q), (&layer.attn_v, q + kv)];
        for (part, at) in parts {
            let out = &mut Output { matrix: &mut b.qkv, stride: q + 2 * kv, at };
            floor.multiply(&part.matrix, &b.h, rows, out, |out, sums, first| {
                out.copy_from_slice(sums);
                if let Some(bias) = &part.bias {
                    out.iter_mut().zip(&bias[first..]).for_each(|(out, bias)| *out += bias);
                }
            });
        }
    }

    fn attend(&mut self, layer: &Layer<Self>, batch: &Batch) {
        let _ = batch; // placed by `begin`
        let (floor, b, cache) = self.floor();
        rotate(&floor, b, layer);
        match cache {
            Cache::F16(layers) => attend(&floor, b, layers, layer.index),
            Cache::F32(layers) => attend(&floor, b, layers, layer.index),
        }
    }

    fn project(&mut self, layer: &Layer<Self>) {
        let (floor, b, _) = self.floor();
        let (rows, hidden) = (b.rows, floor.shape.hidden);
        floor.quantise(&mut b.a, rows);
        let out = &mut Output { matrix: &mut b.x, stride: hidden, at: 0 };
        floor.multiply(&layer.attn_output, &b.a, rows, out, |x, sums, _| {
            x.iter_mut().zip(sums).for_each(|(x, acc)| *x += acc);
        });
    }

    fn route(&mut self, layer: &Layer<Self>) {
        let (floor, b, _) = self.floor();
        let rows = b.rows;
        floor.norm(&b.x, &layer.ffn_norm, rows, &mut b.h, (layer.index, Phase::Route));
        floor.quantise(&mut b.h, rows);
        if let Some(router) = &layer.router {
            choose(
                &floor,
                router,
                &b.h,
                &mut b.routes[..rows * floor.shape.routing.used],
                layer.index,
            );
        }
        b.group(floor.shape);
    }

    fn expand(&mut self, layer: &Layer<Self>) {
        let (floor, b, _) = self.floor();
        let (ffn, groups, h) = (floor.shape.ffn, &b.groups, &b.h);
        let columns: Vec<usize> = tiles(ffn).collect();
        let bounds = Bounds { rows: &groups.bounds, columns: &columns };
        floor.pool.grid(&mut b.m.floats, ffn, bounds, |worker, group, _, rect| {
            let bench = &mut *floor.bench(worker);
            let (expert, out) = (groups.experts[group], rect.columns.clone());
            let rows = &groups.rows[rect.rows.clone()];
            for (chunk, tokens) in rows.chunks(TOKENS).enumerate() {
                layer.gate.tile(floor.isa, expert, out.clone(), h, tokens, &mut bench.gates);
                layer.up.tile(floor.isa, expert, out.clone(), h, tokens, &mut bench.sums);
                for i in 0..tokens.len() {
                    let products = bench.gates[i].iter().zip(&bench.sums[i]);
                    for (m, (g, u)) in rect.row(chunk * TOKENS + i).iter_mut().zip(products) {
                        *m = silu(*g) * u;
                    }
                }
            }
        });
    }

    fn reduce(&mut self, layer: &Layer<Self>) {
        let (floor, b, _) = self.floor();
        let (rows, hidden) = (b.rows, floor.shape.hidden);
        floor.quantise(&mut b.m, b.groups.bounds.last().copied().unwrap_or(0));
        let (groups, m) = (&b.groups, &b.m);
        let columns: Vec<usize> = tiles(hidden).collect();
        let bounds = Bounds { rows: &[0, rows], columns: &columns };
        floor.pool.grid(&mut b.x, hidden, bounds, |worker, _, _, rect| {
            let bench = &mut *floor.bench(worker);
            bench.y.clear();
            bench.y.resize(rows * ROWS, 0.0);
            for (group, expert) in groups.experts.iter().enumerate() {
                for start in (groups.bounds[group]..groups.bounds[group + 1]).step_by(TOKENS) {
                    let end = (start + TOKENS).min(groups.bounds[group + 1]);
                    let pairs = Tokens::range(start..end);
                    let columns = rect.columns.clone();
                    layer.down.tile(floor.isa, *expert, columns, m, &pairs, &mut bench.sums);
                    for (pair, sums) in pairs.iter().zip(&bench.sums) {
                        let weight = groups.weights[*pair];
                        let y = &mut bench.y[groups.rows[*pair] * ROWS..][..ROWS];
                        y.iter_mut().zip(sums).for_each(|(y, acc)| *y = weight.mul_add(*acc, *y));
                    }
                }
            }
            for (row, y) in bench.y.chunks_exact(ROWS).enumerate() {
                rect.row(row).iter_mut().zip(y).for_each(|(x, y)| *x += y);
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
        let faults = reserved.faults.iter_mut().enumerate();
        faults
            .filter_map(|(row, code)| {
                let code = std::mem::replace(code.get_mut(), NO_FAULT);
                let phase = *PHASES.get((code & 7) as usize)?;
                Some(Poison { row, layer: (code >> 3) as usize, phase })
            })
            .collect()
    }

    fn logits(&mut self, head: &Matrix, outputs: Range<usize>) -> &[f32] {
        assert!(outputs.len() <= LOGIT_ROWS, "at most {LOGIT_ROWS} rows of logits");
        let (floor, b, _) = self.floor();
        assert!(outputs.end <= b.outputs, "outputs of the last step");
        let (rows, vocab) = (outputs.len(), head.weights.rows);
        b.logits.resize(rows * vocab, 0.0);
        let columns: Vec<usize> = tiles(vocab).collect();
        let bounds = Bounds { rows: &[0, rows], columns: &columns };
        let last = &b.last;
        floor.pool.grid(&mut b.logits, vocab, bounds, |worker, _, _, rect| {
            let bench = &mut *floor.bench(worker);
            for start in (0..rows).step_by(TOKENS) {
                let end = (start + TOKENS).min(rows);
                let tokens = Tokens::range(outputs.start + start..outputs.start + end);
                let columns = rect.columns.clone();
                head.tile(floor.isa, 0, columns, last, &tokens, &mut bench.sums);
                for (row, sums) in (start..end).zip(&bench.sums) {
                    let out = rect.row(row);
                    out.copy_from_slice(&sums[..out.len()]);
                }
            }
        });
        &b.logits[..rows * vocab]
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        let kept = self.kept();
        let hidden = kept.shape.hidden;
        kept.buffers.last.floats[outputs.start * hidden..outputs.end * hidden].to_vec()
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        let (floor, _, cache) = self.floor();
        let head_dim = floor.shape.head_dim;
        cache.copy_page(from, to, head_dim);
    }

    fn read(&self, tap: Tap) -> Vec<f32> {
        let kept = self.kept();
        kept.buffers.read(&kept.shape, tap)
    }

    fn write(&mut self, tap: Tap, values: &[f32]) {
        let (floor, b, _) = self.floor();
        b.write(floor.shape, tap, values);
        if tap == Tap::H {
            let rows = b.rows;
            floor.quantise(&mut b.h, rows);
        }
    }
}

/// Norms, turns and scales the queries and keys of every row, in place.
fn rotate(floor: &Floor<'_>, b: &mut Buffers, layer: &Layer<Cpu>) {
    let shape = floor.shape;
    let (q, kv, d) = (shape.q_dim(), shape.kv_dim(), shape.head_dim);
    let half = shape.rotation.dims / 2;
    let scale = 1.0 / (d as f32).sqrt();
    let (cos, sin) = (&b.cos, &b.sin);
    floor.pool.chunks(&mut b.qkv[..b.rows * (q + 2 * kv)], q + 2 * kv, |_, row, qkv| {
        let (cos, sin) = (&cos[row * half..][..half], &sin[row * half..][..half]);
        for (i, head) in qkv[..q + kv].chunks_exact_mut(d).enumerate() {
            let query = i * d < q;
            if let Some((q_norm, k_norm)) = &layer.head_norms {
                norm::rms_norm_in_place(head, if query { q_norm } else { k_norm }, shape.eps);
            }
            rope::rotate(head, cos, sin);
            if query {
                head.iter_mut().for_each(|q| *q *= scale);
            }
        }
    });
}

/// Stores every row's key and value, then attends.
fn attend<E: Element>(floor: &Floor<'_>, b: &mut Buffers, layers: &mut Layers<E>, layer: usize) {
    let shape = floor.shape;
    let (q, kv, d) = (shape.q_dim(), shape.kv_dim(), shape.head_dim);
    let width = q + 2 * kv;
    let heads = &mut layers.layers[layer];
    let (qkv, slots) = (&b.qkv, &b.slots);
    floor.pool.each(heads, |_, head, cache| {
        for (row, slot) in slots.iter().enumerate() {
            let row = &qkv[row * width..][..width];
            cache.store(*slot, &row[q + head * d..][..d], &row[q + kv + head * d..][..d]);
        }
    });
    let (heads, tables, tiles) = (&*heads, &b.tables, &b.tiles);
    let group = q / kv;
    let columns: Vec<usize> = (0..=shape.kv_heads).map(|head| head * group * d).collect();
    let bounds = Bounds { rows: &tiles.bounds, columns: &columns };
    floor.pool.grid(&mut b.a.floats, q, bounds, |worker, tile, head, rect| {
        let Bench { attention, queries, out, visible, .. } = &mut *floor.bench(worker);
        let (table, pages, position) = tiles.spans[tile];
        queries.clear();
        visible.clear();
        for (i, row) in rect.rows.clone().enumerate() {
            queries.extend_from_slice(&qkv[row * width..][rect.columns.clone()]);
            visible.extend(std::iter::repeat_n(position + i + 1, group));
        }
        out.resize(queries.len(), 0.0);
        let pages = heads[head].head(&tables[table..table + pages]);
        let queries = Queries { q: queries, visible, d };
        attention::attend(floor.isa, queries, pages, attention, out);
        for (i, out) in out.chunks_exact(group * d).enumerate() {
            rect.row(i).copy_from_slice(out);
        }
    });
}

/// Chooses the experts of every row, sixteen rows a task.
fn choose(
    floor: &Floor<'_>,
    router: &Matrix,
    h: &Activations,
    routes: &mut [(u32, f32)],
    layer: usize,
) {
    let (experts, routing) = (floor.shape.experts, floor.shape.routing);
    assert_eq!(router.form, Form::Float, "the router is f32");
    floor.pool.chunks(routes, TOKENS * routing.used, |worker, task, routes| {
        let bench = &mut *floor.bench(worker);
        let rows = routes.len() / routing.used;
        let tokens = Tokens::range(task * TOKENS..task * TOKENS + rows);
        bench.y.clear();
        bench.y.resize(rows * experts, 0.0);
        for first in (0..experts).step_by(ROWS) {
            let columns = first..(first + ROWS).min(experts);
            router.tile(floor.isa, 0, columns.clone(), h, &tokens, &mut bench.sums);
            for (logits, sums) in bench.y.chunks_exact_mut(experts).zip(&bench.sums) {
                logits[columns.clone()].copy_from_slice(&sums[..columns.len()]);
            }
        }
        let rows = bench.y.chunks_exact(experts).zip(routes.chunks_exact_mut(routing.used));
        for ((logits, routes), row) in rows.zip(tokens.iter()) {
            if !route(logits, routing, &mut bench.choice) {
                floor.fault(*row, layer, Phase::Route);
            }
            routes.copy_from_slice(&bench.choice);
        }
    });
}
