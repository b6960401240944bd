//! Measures attention of one row: eight query heads over one key/value head of 128 channels, as f16
//! and as codes.

use std::hint::black_box;
use std::time::Instant;

use qwire_kernels::Isa;
use qwire_kernels::attention::{
    Element, F16, Head, PAGE, Queries, Scratch, Slots, attend, scales, store,
};

const D: usize = 128;
const QUERIES: usize = 8;
const HEADS: usize = 4; // of a layer

fn main() {
    for len in [4096, 16384] {
        measure::<F16>("f16", len);
        measure::<i8>("i8", len);
    }
}

fn measure<E: Element>(name: &str, len: usize) {
    let value = |seed: usize| (seed.wrapping_mul(2_654_435_761) >> 9 & 1023) as f32 / 512.0 - 1.0;
    let mut numbers = [(); 2].map(|()| vec![E::default(); len * D]);
    let mut scaled = [(); 2].map(|()| vec![0.0; len * scales(D)]);
    for j in 0..len {
        let k: Vec<f32> = (0..D).map(|c| value(j * D + c)).collect();
        let v: Vec<f32> = (0..D).map(|c| value(j * D + c + 77_777)).collect();
        let ([keys, values], [key_scales, value_scales]) = (&mut numbers, &mut scaled);
        store(Isa::SCALAR, j, &k, &v, &mut Slots { keys, key_scales, values, value_scales });
    }
    let table: Vec<u32> = (0..len as u32 / PAGE as u32).collect();
    let q: Vec<f32> = (0..QUERIES * D).map(|i| value(i * 31) * 0.1).collect();
    for rows in [1, 8] {
        let q = q.repeat(rows);
        let visible = vec![len; QUERIES * rows];
        let mut out = vec![0.0; q.len()];
        let mut scratch = Scratch::default();
        for isa in Isa::available().into_iter().skip(1) {
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let start = Instant::now();
                for _ in 0..HEADS {
                    let ([keys, values], [key_scales, value_scales]) = (&numbers, &scaled);
                    let head = Head { keys, key_scales, values, value_scales, table: &table };
                    let queries = Queries { q: &q, visible: &visible, d: D };
                    attend(isa, queries, head, &mut scratch, black_box(&mut out));
                }
                best = best.min(start.elapsed().as_secs_f64());
            }
            let scales = if E::CODED { 4 * scales(D) } else { 0 };
            let bytes = HEADS * len * 2 * (D * size_of::<E>() + scales);
            println!(
                "{:9} {name} {len:6} positions, {rows} rows: {:.3} ms, {:.1} GB/s, {:.0} Gflop/s",
                isa.name(),
                best * 1e3,
                bytes as f64 / best / 1e9,
                (HEADS * len * D * 4 * QUERIES * rows) as f64 / best / 1e9,
            );
        }
    }
}
