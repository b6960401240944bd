//! The definition of the six phases, naively, in f64: what every backend is judged against.
//!
//! ```text
//! qkv      h = norm(x);  q, k, v = Wq h, Wk h, Wv h (+ bias)
//! attend   q, k = rope(norm_head(q, k)); store k, v; a = softmax(q K / sqrt d) V
//! project  x += Wo a
//! route    h = norm(x);  p = softmax(Wr h); top k, ties to the lower id, renormalised
//! expand   m_e = silu(gate_e h) * up_e h          for each routed expert
//! reduce   x += sum p_e down_e m_e
//! ```
//! Weights are the file's, exactly dequantised; activations are never rounded. It is slow, and has
//! no other virtue than being right.

use std::ops::Range;

use qwire_kernels::attention::PAGE;
use qwire_kernels::rope::Rope;

use crate::backend::{Backend, LOGIT_ROWS, Limits, PageForm, Phase, Poison, Role, Tap};
use crate::batch::{Batch, PageId};
use crate::model::{Experts, Layer, Projection};
use crate::shape::Shape;
use crate::weights::{LoadError, Weights};

/// The reference device.
#[derive(Default)]
pub struct Reference {
    size: Option<Sizes>,
    keys: Vec<Vec<f64>>,            // [layers][slots, kv_dim]
    values: Vec<Vec<f64>>,          // [layers][slots, kv_dim]
    x: Vec<f64>,                    // [rows, hidden]
    aside: Vec<f64>,                // [rows, hidden] of a parked batch
    h: Vec<f64>,                    // [rows, hidden]
    q: Vec<f64>,                    // [rows, q_dim]
    k: Vec<f64>,                    // [rows, kv_dim]
    v: Vec<f64>,                    // [rows, kv_dim]
    a: Vec<f64>,                    // [rows, q_dim]
    routes: Vec<Vec<(usize, f64)>>, // [rows][used] (expert, weight), ids ascending
    m: Vec<f64>,                    // [rows, used, ffn]
    outputs: Vec<f64>,              // [outputs, hidden]
    logits: Vec<f32>,               // [outputs, vocab]
    faults: Vec<Poison>,
}

/// What `reserve` learned.
struct Sizes {
    shape: Shape,
    rope: Rope,
}

impl Reference {
    fn shape(&self) -> &Shape {
        &self.size.as_ref().expect("reserved").shape
    }

    fn rows(&self) -> usize {
        self.x.len() / self.shape().hidden
    }

    /// y = norm(x) * w, row by row; a row that is not finite is a fault of `phase`.
    fn norm(&mut self, weight: &[f32], layer: usize, phase: Phase) -> Vec<f64> {
        let (hidden, eps) = (self.shape().hidden, f64::from(self.shape().eps));
        let mut y = self.x.clone();
        for (row, y) in y.chunks_exact_mut(hidden).enumerate() {
            norm(y, weight, eps);
            if y.iter().any(|y| !y.is_finite()) {
                self.fault(row, layer, phase);
            }
        }
        y
    }

    fn fault(&mut self, row: usize, layer: usize, phase: Phase) {
        if self.faults.iter().all(|fault| fault.row != row) {
            self.faults.push(Poison { row, layer, phase });
        }
    }

    /// Queries and keys of one layer, normed and turned, in place.
    fn rotate(&mut self, layer: &Layer<Self>, batch: &Batch) {
        let size = self.size.as_ref().expect("reserved");
        let (shape, rope) = (&size.shape, &size.rope);
        let eps = f64::from(shape.eps);
        let norms = layer.head_norms.as_ref().map(|(q, k)| (q.as_slice(), k.as_slice())).unzip();
        let sides = [(&mut self.q, shape.q_dim(), norms.0), (&mut self.k, shape.kv_dim(), norms.1)];
        for (side, width, weight) in sides {
            for (row, position) in side.chunks_exact_mut(width).zip(batch.positions()) {
                for head in row.chunks_exact_mut(shape.head_dim) {
                    if let Some(weight) = weight {
                        norm(head, weight, eps);
                    }
                    let (a, b) = head.split_at_mut(rope.pairs());
                    for (((cos, sin), a), b) in rope.turns(position).zip(a).zip(b) {
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            }
        }
    }

    /// One head of one row over everything it may see.
    fn attend_head(&self, layer: usize, row: usize, head: usize, slots: &[usize]) -> Vec<f64> {
        let shape = self.shape();
        let (d, width) = (shape.head_dim, shape.kv_dim());
        let q = &self.q[row * shape.q_dim() + head * d..][..d];
        let at = head / (shape.heads / shape.kv_heads) * d;
        let scale = 1.0 / (d as f64).sqrt();
        let scores: Vec<f64> = slots
            .iter()
            .map(|slot| dot(q, &self.keys[layer][slot * width + at..][..d]) * scale)
            .collect();
        let mut weights = scores;
        soften(&mut weights);
        let mut out = vec![0.0; d];
        for (slot, weight) in slots.iter().zip(&weights) {
            let value = &self.values[layer][slot * width + at..][..d];
            out.iter_mut().zip(value).for_each(|(out, v)| *out += weight * v);
        }
        out
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a, b) = (a.chunks(8), b.chunks(8));
    for (a, b) in a.zip(b) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    lanes.iter().sum()
}

fn norm(x: &mut [f64], weight: &[f32], eps: f64) {
    let mean = dot(x, x) / x.len() as f64;
    let r = 1.0 / (mean + eps).sqrt();
    x.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * r * f64::from(*w));
}

fn soften(x: &mut [f64]) {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter_mut().for_each(|x| *x = libm::exp(*x - top));
    let sum: f64 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

/// y [tokens, rows] = rows of matrix `index` times the chosen rows of x.
fn multiply(weights: &Weights, index: usize, x: &[f64], tokens: &[usize]) -> Vec<f64> {
    let mut y = vec![0.0; tokens.len() * weights.rows];
    let (mut row, mut wide) = (vec![0.0; weights.k], vec![0.0; weights.k]);
    for r in 0..weights.rows {
        weights.row(index * weights.rows + r, &mut row);
        wide.iter_mut().zip(&row).for_each(|(wide, w)| *wide = f64::from(*w));
        for (i, token) in tokens.iter().enumerate() {
            y[i * weights.rows + r] = dot(&wide, &x[token * weights.k..][..weights.k]);
        }
    }
    y
}

fn project(projection: &Projection<Reference>, x: &[f64]) -> Vec<f64> {
    let matrix = &projection.matrix;
    let every: Vec<usize> = (0..x.len() / matrix.k).collect();
    let mut y = multiply(matrix, 0, x, &every);
    if let Some(bias) = &projection.bias {
        for y in y.chunks_exact_mut(bias.len()) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += f64::from(*b));
        }
    }
    y
}

impl Backend for Reference {
    type Matrix = Weights;
    type Vector = Vec<f32>;

    fn matrix(&mut self, weights: Weights, _: Role) -> Result<Weights, LoadError> {
        Ok(weights)
    }

    fn vector(&mut self, values: Vec<f32>) -> Result<Vec<f32>, LoadError> {
        Ok(values)
    }

    fn reserve(&mut self, shape: &Shape, limits: Limits) -> Result<(), LoadError> {
        let slots = vec![0.0; limits.pages * PAGE * shape.kv_dim()];
        self.keys = vec![slots; shape.layers];
        self.values = self.keys.clone();
        self.size = Some(Sizes { shape: shape.clone(), rope: shape.rotation.rope() });
        Ok(())
    }

    fn begin(&mut self, batch: &Batch) {
        let (rows, shape) = (batch.rows(), self.shape());
        let (hidden, q_dim, kv_dim) = (shape.hidden, shape.q_dim(), shape.kv_dim());
        let m = rows * shape.routing.used * shape.ffn;
        self.faults.clear();
        self.x.resize(rows * hidden, 0.0);
        self.h.resize(rows * hidden, 0.0);
        self.q.resize(rows * q_dim, 0.0);
        self.k.resize(rows * kv_dim, 0.0);
        self.v.resize(rows * kv_dim, 0.0);
        self.a.resize(rows * q_dim, 0.0);
        self.m.resize(m, 0.0);
        self.routes.resize(rows, Vec::new());
    }

    fn embed(&mut self, table: &Weights, batch: &Batch) {
        let mut values = vec![0.0; table.k];
        for (x, token) in self.x.chunks_exact_mut(table.k).zip(&batch.tokens) {
            table.row(token.0 as usize, &mut values);
            x.iter_mut().zip(&values).for_each(|(x, value)| *x = f64::from(*value));
        }
    }

    fn qkv(&mut self, layer: &Layer<Self>) {
        self.h = self.norm(&layer.attn_norm, layer.index, Phase::Qkv);
        self.q = project(&layer.attn_q, &self.h);
        self.k = project(&layer.attn_k, &self.h);
        self.v = project(&layer.attn_v, &self.h);
    }

    fn attend(&mut self, layer: &Layer<Self>, batch: &Batch) {
        self.rotate(layer, batch);
        let (index, width) = (layer.index, self.shape().kv_dim());
        for (row, slot) in batch.slots().enumerate() {
            let (from, to) = (row * width..(row + 1) * width, slot * width..(slot + 1) * width);
            self.keys[index][to.clone()].copy_from_slice(&self.k[from.clone()]);
            self.values[index][to].copy_from_slice(&self.v[from]);
        }
        let (heads, d) = (self.shape().heads, self.shape().head_dim);
        let mut row = 0;
        for span in &batch.spans {
            let slot = |at: usize| span.pages[at / PAGE].0 as usize * PAGE + at % PAGE;
            let slots: Vec<usize> = (0..span.start + span.len).map(slot).collect();
            for position in span.start..span.start + span.len {
                for head in 0..heads {
                    let out = self.attend_head(index, row, head, &slots[..=position]);
                    self.a[(row * heads + head) * d..][..d].copy_from_slice(&out);
                }
                row += 1;
            }
        }
    }

    fn project(&mut self, layer: &Layer<Self>) {
        let every: Vec<usize> = (0..self.rows()).collect();
        let y = multiply(&layer.attn_output, 0, &self.a, &every);
        self.x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    }

    fn route(&mut self, layer: &Layer<Self>) {
        self.h = self.norm(&layer.ffn_norm, layer.index, Phase::Route);
        let (routing, every) = (self.shape().routing, (0..self.rows()).collect::<Vec<_>>());
        let Some(router) = &layer.router else {
            self.routes.fill(vec![(0, 1.0)]);
            return;
        };
        let logits = multiply(router, 0, &self.h, &every);
        for (row, logits) in logits.chunks_exact(router.rows).enumerate() {
            let mut order: Vec<usize> = (0..logits.len()).collect();
            // A stable sort keeps ties at the lower id; NaN goes last.
            let key = |id: &usize| if logits[*id].is_nan() { f64::INFINITY } else { -logits[*id] };
            order.sort_by(|a, b| key(a).total_cmp(&key(b)));
            let top = logits[order[0]];
            let weigh = |id: &usize| libm::exp(logits[*id] - top);
            let all: f64 = order.iter().map(weigh).sum();
            order.truncate(routing.used);
            let chosen: f64 = order.iter().map(weigh).sum();
            order.sort_unstable();
            let sum = if routing.normalised { chosen } else { all };
            let scale = f64::from(routing.scale);
            self.routes[row] = order.iter().map(|id| (*id, weigh(id) / sum * scale)).collect();
            let damaged = logits.iter().any(|logit| logit.is_nan());
            if damaged || self.routes[row].iter().any(|(_, weight)| !weight.is_finite()) {
                self.fault(row, layer.index, Phase::Route);
            }
        }
    }

    fn expand(&mut self, experts: &Experts<Weights>) {
        let (used, ffn) = (self.shape().routing.used, self.shape().ffn);
        for expert in 0..self.shape().experts {
            let (tokens, places) = self.visitors(expert);
            let gate = multiply(&experts.gate, expert, &self.h, &tokens);
            let up = multiply(&experts.up, expert, &self.h, &tokens);
            for (i, (token, place)) in tokens.iter().zip(&places).enumerate() {
                let m = &mut self.m[(token * used + place) * ffn..][..ffn];
                for (r, m) in m.iter_mut().enumerate() {
                    let (g, u) = (gate[i * ffn + r], up[i * ffn + r]);
                    *m = g / (1.0 + libm::exp(-g)) * u;
                }
            }
        }
    }

    fn reduce(&mut self, experts: &Experts<Weights>) {
        let (used, hidden) = (self.shape().routing.used, self.shape().hidden);
        for expert in 0..self.shape().experts {
            let (tokens, places) = self.visitors(expert);
            let rows: Vec<_> =
                tokens.iter().zip(&places).map(|(t, place)| t * used + place).collect();
            let y = multiply(&experts.down, expert, &self.m, &rows);
            for (i, (token, place)) in tokens.iter().zip(&places).enumerate() {
                let weight = self.routes[*token][*place].1;
                let x = &mut self.x[token * hidden..][..hidden];
                let y = &y[i * hidden..][..hidden];
                x.iter_mut().zip(y).for_each(|(x, y)| *x += weight * y);
            }
        }
    }

    fn close(&mut self, norm: &Vec<f32>, batch: &Batch) {
        let (hidden, layers) = (self.shape().hidden, self.shape().layers);
        let normed = self.norm(norm, layers, Phase::Norm);
        let rows = batch.outputs.iter().flat_map(|row| &normed[row * hidden..][..hidden]);
        self.outputs = rows.copied().collect();
    }

    fn finish(&mut self) -> Vec<Poison> {
        std::mem::take(&mut self.faults)
    }

    fn logits(&mut self, head: &Weights, outputs: Range<usize>) -> &[f32] {
        assert!(outputs.len() <= LOGIT_ROWS);
        let rows: Vec<usize> = outputs.collect();
        let logits = multiply(head, 0, &self.outputs, &rows);
        self.logits = logits.iter().map(|logit| *logit as f32).collect();
        &self.logits
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        let hidden = self.shape().hidden;
        let rows = &self.outputs[outputs.start * hidden..outputs.end * hidden];
        rows.iter().map(|x| *x as f32).collect()
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        let len = PAGE * self.shape().kv_dim();
        let (from, to) = (from.0 as usize * len, to.0 as usize * len);
        for slots in self.keys.iter_mut().chain(&mut self.values) {
            slots.copy_within(from..from + len, to);
        }
    }

    fn page_form(&self) -> PageForm {
        let len = PAGE * self.shape().kv_dim();
        let bytes = (self.keys.len() + self.values.len()) * len * size_of::<f64>();
        let layout = "f64: keys by layer, values by layer";
        PageForm { bytes, layout, numbers: "reference", host_layers: 0 }
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        let len = PAGE * self.shape().kv_dim();
        let slots = self.keys.iter().chain(&self.values);
        let slots = slots.flat_map(|slots| &slots[page.0 as usize * len..][..len]);
        for (x, bytes) in slots.zip(bytes.as_chunks_mut().0) {
            *bytes = x.to_le_bytes();
        }
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        let len = PAGE * self.shape().kv_dim();
        let slots = self.keys.iter_mut().chain(&mut self.values);
        let slots = slots.flat_map(|slots| &mut slots[page.0 as usize * len..][..len]);
        for (x, bytes) in slots.zip(bytes.as_chunks().0) {
            *x = f64::from_le_bytes(*bytes);
        }
    }

    fn exchange(&mut self) {
        std::mem::swap(&mut self.x, &mut self.aside);
    }

    fn read(&self, tap: Tap) -> Vec<f32> {
        if tap == Tap::Route {
            let mut dense = vec![0.0; self.rows() * self.shape().experts];
            for (routes, dense) in
                self.routes.iter().zip(dense.chunks_exact_mut(self.shape().experts))
            {
                routes.iter().for_each(|(id, weight)| dense[*id] = *weight as f32);
            }
            return dense;
        }
        let buffer = match tap {
            Tap::X => &self.x,
            Tap::Q => &self.q,
            Tap::K => &self.k,
            Tap::V => &self.v,
            Tap::A => &self.a,
            Tap::H | Tap::Route => &self.h,
            Tap::M => &self.m,
        };
        buffer.iter().map(|x| *x as f32).collect()
    }

    fn write(&mut self, tap: Tap, values: &[f32]) {
        if tap == Tap::Route {
            let experts = self.shape().experts;
            for (routes, dense) in self.routes.iter_mut().zip(values.chunks_exact(experts)) {
                let ids = dense.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
                *routes = ids.map(|(id, weight)| (id, f64::from(*weight))).collect();
            }
            return;
        }
        let buffer = match tap {
            Tap::X => &mut self.x,
            Tap::Q => &mut self.q,
            Tap::K => &mut self.k,
            Tap::V => &mut self.v,
            Tap::A => &mut self.a,
            Tap::H | Tap::Route => &mut self.h,
            Tap::M => &mut self.m,
        };
        assert_eq!(buffer.len(), values.len(), "{tap:?} of this batch");
        buffer.iter_mut().zip(values).for_each(|(x, value)| *x = f64::from(*value));
    }
}

impl Reference {
    /// Rows routed to an expert, and which of their places it has.
    fn visitors(&self, expert: usize) -> (Vec<usize>, Vec<usize>) {
        let place = |routes: &Vec<(usize, f64)>| routes.iter().position(|(id, _)| *id == expert);
        let rows = self.routes.iter().enumerate();
        rows.filter_map(|(row, routes)| place(routes).map(|place| (row, place))).unzip()
    }
}
