//! Attention over the pages of a batch's sequences.

use bytemuck::Pod;
use qwire_kernels::attention::{self, Element, PAGE, Queries};
use qwire_kernels::{norm, rope};
use qwire_model::Layer;

use super::Floor;
use crate::Cpu;
use crate::bench::Bench;
use crate::buffers::Buffers;
use crate::kv::Cache;
use crate::pool::Bounds;

/// Stores every row's key and value, then attends.
pub(super) fn attend<E: Element + Pod>(
    floor: &Floor<'_>,
    b: &mut Buffers,
    layer: &Layer<Cpu>,
    cache: &mut Cache,
) {
    let shape = floor.shape;
    let (q, kv, d) = (shape.q_dim(), shape.kv_dim(), shape.head_dim);
    let (width, group, half) = (q + 2 * kv, q / kv, shape.rotation.dims / 2);
    let (qkv, slots) = (&b.qkv, &b.slots);
    let (cos, sin) = (&b.cos, &b.sin);
    // Norms and turns a head of a row.
    let turn = |row: usize, norm: Option<&Vec<f32>>, head: &mut [f32]| {
        if let Some(weight) = norm {
            norm::rms_norm_in_place(floor.isa, head, weight, shape.eps);
        }
        rope::rotate(floor.isa, head, &cos[row * half..][..half], &sin[row * half..][..half]);
    };
    let (q_norm, k_norm) = layer.head_norms.as_ref().map(|(q, k)| (q, k)).unzip();
    // Rows that share a page follow one another.
    let pages: Vec<&[usize]> =
        b.by_slot.chunk_by(|a, b| slots[*a] / PAGE == slots[*b] / PAGE).collect();
    let mut parts = cache.parts::<E>(layer.index, pages.iter().map(|rows| slots[rows[0]] / PAGE));
    let most = pages.iter().map(|rows| rows.len()).max().unwrap_or(0);
    floor.each(&mut parts, most * d, |worker, i, part| {
        let (rows, head) = (pages[i / shape.kv_heads], i % shape.kv_heads);
        let k = &mut floor.bench(worker).queries;
        for row in rows {
            let row_qkv = &qkv[row * width..][..width];
            k.clear();
            k.extend_from_slice(&row_qkv[q + head * d..][..d]);
            turn(*row, k_norm, k);
            attention::store(
                floor.isa,
                slots[*row] % PAGE,
                k,
                &row_qkv[q + kv + head * d..][..d],
                part,
            );
        }
    });
    let (cache, tables, tiles) = (&*cache, &b.tables, &b.tiles);
    let columns: Vec<usize> = (0..=shape.kv_heads).map(|head| head * group * d).collect();
    let bounds = Bounds { rows: &tiles.bounds, columns: &columns };
    let scale = 1.0 / (d as f32).sqrt();
    floor.pool.grid(&mut b.a.floats, q, bounds, |worker, tile, head, rect| {
        let Bench { attention, queries, out, visible, .. } = &mut *floor.bench(worker);
        let (table, pages, position) = tiles.spans[tile];
        queries.clear();
        visible.clear();
        for (i, row) in rect.rows().enumerate() {
            let start = queries.len();
            queries.extend_from_slice(&qkv[row * width..][rect.columns()]);
            for head in queries[start..].chunks_exact_mut(d) {
                turn(row, q_norm, head);
                head.iter_mut().for_each(|q| *q *= scale);
            }
            visible.extend(std::iter::repeat_n(position + i + 1, group));
        }
        out.resize(queries.len(), 0.0);
        let pages = cache.head::<E>((layer.index, head), &tables[table..table + pages]);
        let queries = Queries { q: queries, visible, d };
        attention::attend(floor.isa, queries, pages, attention, out);
        for (i, out) in out.chunks_exact(group * d).enumerate() {
            rect.row(i).copy_from_slice(out);
        }
    });
}
