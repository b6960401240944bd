//! Traffic: bytes that a launch reads and writes if it reads nothing twice. Told beside times, as a
//! share of what memory gives; no kernel is told.
//!
//! Activations and what a step is told of its rows count, as they go through the same memory.

use qwire_model::{Experts, KvType, Shape};

use crate::matrix::Matrix;
use crate::workspace::{Acts, Workspace};

const FLOAT: usize = 4;

/// y = norm(x) w
pub(crate) fn norm(y: Acts, rows: usize) -> usize {
    (rows + 1) * y.k * FLOAT + y.bytes(rows)
}

/// One matrix, and its products with so many columns; they are added to what is there, or not.
pub(crate) fn product(matrix: &Matrix, columns: usize, add: bool) -> usize {
    matrix.bytes + columns * matrix.rows * FLOAT * if add { 2 } else { 1 }
}

/// Queries, keys and values of a row, and where they go.
pub(crate) fn rotate(shape: &Shape, kv: KvType, rows: usize) -> usize {
    let (q, width) = (shape.q_dim(), 2 * shape.kv_dim());
    rows * ((q + width) * FLOAT + q * FLOAT) + stored(shape, kv, rows)
}

/// Keys and values of so many positions of a layer.
fn stored(shape: &Shape, kv: KvType, positions: usize) -> usize {
    positions * 2 * shape.kv_heads * kv.head_bytes(shape.head_dim)
}

/// Keys and values of all positions that are seen, queries, and what comes of them.
pub(crate) fn attend(shape: &Shape, kv: KvType, rows: usize, visible: usize) -> usize {
    stored(shape, kv, visible) + 2 * rows * shape.q_dim() * FLOAT
}

/// Splits of each head, folded.
pub(crate) fn gather(shape: &Shape, a: Acts, rows: usize, splits: usize) -> usize {
    rows * shape.heads * splits * (shape.head_dim + 2) * FLOAT + a.bytes(rows)
}

/// Scores of all experts, and the choice.
pub(crate) fn route(shape: &Shape, rows: usize) -> usize {
    rows * (shape.experts + 2 * shape.routing.used) * FLOAT
}

/// Experts that so many rows visit, where each is as likely as the next.
fn visited(used: usize, experts: usize, rows: usize) -> f64 {
    let spared = 1.0 - used as f64 / experts as f64;
    experts as f64 * (1.0 - (0..rows).fold(1.0, |all, _| all * spared))
}

fn experts(shape: &Shape, rows: usize, bytes: usize) -> usize {
    (visited(shape.routing.used, shape.experts, rows) * bytes as f64) as usize
}

/// Gate and up of the experts that are visited.
pub(crate) fn expand(of: &Experts<Matrix>, space: &Workspace, shape: &Shape, rows: usize) -> usize {
    let weights = experts(shape, rows, of.gate.bytes + of.up.bytes);
    weights + space.h.code_bytes(rows) + space.m.bytes(rows * shape.routing.used)
}

/// Down of the same.
pub(crate) fn down(of: &Experts<Matrix>, space: &Workspace, shape: &Shape, rows: usize) -> usize {
    experts(shape, rows, of.down.bytes) + space.m.code_bytes(rows * shape.routing.used)
}

/// Its products with so many visits.
pub(crate) fn products(hidden: usize, visits: usize) -> usize {
    visits * hidden * FLOAT
}

/// Rows to which something is added.
pub(crate) fn sums(hidden: usize, rows: usize) -> usize {
    2 * rows * hidden * FLOAT
}

/// So many logits or candidates of which the best are kept.
pub(crate) fn best(count: usize) -> usize {
    count * FLOAT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_share_experts() {
        for (used, experts, rows, expected) in
            [(8, 128, 1, 8.0), (8, 128, 2, 15.5), (1, 1, 5, 1.0), (2, 8, 1000, 8.0)]
        {
            let found = visited(used, experts, rows);
            assert!((found - expected).abs() < 1e-9, "{used} of {experts}, {rows}: {found}");
        }
    }
}
