//! Attention over what a device has stored: its pages are read, and what it computes from them is
//! held against f64, so that nothing is between the two but sums of floats.

use std::ops::Range;

use qwire_backend_gpu::Gpu;
use qwire_backend_gpu::device::Device;
use qwire_kernels::attention::{GROUP, PAGE, scales};
use qwire_kernels::half::f16_to_f32;
use qwire_model::{Backend, Batch, KvType, Loaded, PageId, Shape, Tap};

use super::models::golden;
use super::whole::{load_with, pages, tokens};

const BOUND: f64 = 1e-5;
/// Past one split of attention; then come a few rows more, and one.
const BEFORE: usize = 288;
const MORE: usize = 12;

/// Keys and values of a head [positions, d], decoded.
struct Stored {
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
}

fn float(bytes: &[u8], at: usize) -> f64 {
    f64::from(f32::from_bits(u32::from_le_bytes(bytes.as_chunks().0[at])))
}

/// One number of a page's keys or values, as `attend.cu` draws them.
fn number(side: &[u8], kv: KvType, d: usize, keys: bool, (slot, c): (usize, usize)) -> f64 {
    let place = |column: usize| {
        if keys { (c / column * PAGE + slot) * column + c % column } else { slot * d + c }
    };
    if kv == KvType::F16 {
        return f16_to_f32(u16::from_le_bytes(side.as_chunks().0[place(8)])).into();
    }
    let scale = float(&side[PAGE * d..], slot * scales(d) + c / GROUP);
    f64::from(side[place(16)] as i8) * scale
}

/// What the first layer's pages hold of a head.
fn stored<D: Device>(
    of: &mut Loaded<Gpu<D>>,
    kv: KvType,
    head: usize,
    table: &[PageId],
    positions: usize,
) -> Stored {
    let shape = of.model.shape.clone();
    let d = shape.head_dim;
    let len = of.backend.page_form().bytes / shape.layers / shape.kv_heads;
    let mut bytes = vec![0; of.backend.page_form().bytes];
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for (i, page) in table.iter().enumerate() {
        of.backend.read_page(*page, &mut bytes);
        let sides = &bytes[head * len..][..len];
        for slot in 0..PAGE.min(positions.saturating_sub(i * PAGE)) {
            let row = |side, is_k| (0..d).map(move |c| number(side, kv, d, is_k, (slot, c)));
            keys.push(row(&sides[..len / 2], true).collect());
            values.push(row(&sides[len / 2..], false).collect());
        }
    }
    Stored { keys, values }
}

/// A query as it meets keys: turned, and scaled.
fn turned(shape: &Shape, q: &[f32], position: usize) -> Vec<f64> {
    let rope = shape.rotation.rope();
    let half = rope.pairs();
    let (mut cos, mut sin) = (vec![0.0; half], vec![0.0; half]);
    rope.fill(position, &mut cos, &mut sin);
    let mut x: Vec<f64> = q.iter().map(|q| f64::from(*q)).collect();
    for i in 0..half {
        let (p, q, c, s) = (x[i], x[half + i], f64::from(cos[i]), f64::from(sin[i]));
        (x[i], x[half + i]) = (p * c - q * s, q * c + p * s);
    }
    let scale = (shape.head_dim as f64).sqrt();
    x.iter().map(|x| x / scale).collect()
}

#[expect(clippy::disallowed_methods, reason = "the truth is asked within a bound, not to the bit")]
fn attended(q: &[f64], Stored { keys, values }: &Stored, seen: usize) -> Vec<f64> {
    let dot = |k: &Vec<f64>| q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
    let scores: Vec<f64> = keys[..seen].iter().map(dot).collect();
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let all: f64 = weights.iter().sum();
    let channel = |c: usize| {
        let sum = weights.iter().zip(values).map(|(weight, v)| weight * v[c]).sum::<f64>();
        sum / all
    };
    (0..q.len()).map(channel).collect()
}

/// Of a model without norms of heads: rows of a chunk, which are turned before, and a row alone,
/// which turns itself and whose splits are folded.
pub fn is_that_of_what_is_stored<D: Device>(device: impl Fn() -> Option<D>) {
    for kv in [KvType::F16, KvType::I8] {
        let Some(device) = device() else { return };
        let file = golden("dense2-f32");
        let all = tokens(&file, 0, BEFORE + MORE + 1);
        let mut of = load_with(&file, Gpu::new(device), all.len(), kv);
        let table = pages(0, all.len());
        let mut step = |range: Range<usize>| {
            let Loaded { backend, model, .. } = &mut of;
            let batch = Batch::single(&all[range.clone()], range.start, table.clone(), false);
            backend.begin(&batch);
            backend.embed(&model.token_embd, &batch);
            backend.qkv(&model.layers[0]);
            let q = backend.read(Tap::Q);
            backend.attend(&model.layers[0], &batch);
            let (a, shape) = (backend.read(Tap::A), model.shape.clone());
            let (d, group) = (shape.head_dim, shape.heads / shape.kv_heads);
            let (mut off, mut size) = (0.0, 0.0);
            let heads = 0..shape.kv_heads;
            let stored: Vec<Stored> =
                heads.map(|head| stored(&mut of, kv, head, &table, range.end)).collect();
            for head in 0..shape.heads {
                let stored = &stored[head / group];
                for (row, position) in range.clone().enumerate() {
                    let at = (row * shape.heads + head) * d;
                    let q = turned(&shape, &q[at..][..d], position);
                    let truth = attended(&q, stored, position + 1);
                    for (a, truth) in a[at..][..d].iter().zip(truth) {
                        let differs = f64::from(*a) - truth;
                        off += differs * differs;
                        size += truth * truth;
                    }
                }
            }
            let error = (off / size).sqrt();
            println!("{}, {range:?}: attend {error:.1e}, allowed {BOUND:.0e}", kv.name());
            assert!(error <= BOUND, "{}, {range:?}: attend is {error:e} off", kv.name());
        };
        (0..BEFORE).step_by(96).for_each(|start| step(start..start + 96));
        step(BEFORE..BEFORE + MORE);
        step(BEFORE + MORE..BEFORE + MORE + 1);
    }
}
