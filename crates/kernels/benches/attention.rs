//! Measures attention of one row, and of eight: eight query heads over one key/value head of 128
//! channels, as f16 and as codes. With `--stream` 24 heads pass once, as in
//! decoding, on all threads together; without, one stays in cache.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use bytemuck::Pod;
use memmap2::{Advice, MmapMut};
use qwire_kernels::Isa;
use qwire_kernels::attention::{
    Element, F16, Head, PAGE, Part, Queries, Scratch, attend, scales, store,
};

const D: usize = 128;
const QUERIES: usize = 8;

fn main() {
    let stream = std::env::args().any(|argument| argument == "--stream");
    let all = thread::available_parallelism().map_or(1, usize::from);
    let (parts, threads) = if stream { (24, all) } else { (1, 1) };
    for len in [4096, 16384] {
        measure::<F16>("f16", len, parts, threads);
        measure::<i8>("i8", len, parts, threads);
    }
}

/// In large pages, as the cache of a backend.
fn memory(bytes: usize) -> MmapMut {
    let memory = MmapMut::map_anon(bytes).expect("memory");
    #[cfg(target_os = "linux")]
    let _ = memory.advise(Advice::HugePage);
    memory
}

fn value(seed: usize) -> f32 {
    (seed.wrapping_mul(2_654_435_761) >> 9 & 1023) as f32 / 512.0 - 1.0
}

fn measure<E: Element + Pod>(name: &str, len: usize, parts: usize, threads: usize) {
    let [width, scaled] = [D, if E::CODED { scales(D) } else { 0 }].map(|width| 2 * PAGE * width);
    let all = len / PAGE * parts;
    let mut numbers = memory(all * width * size_of::<E>());
    let mut scales = memory(all * scaled * size_of::<f32>());
    let numbers: &mut [E] = bytemuck::cast_slice_mut(&mut numbers);
    let scales: &mut [f32] = bytemuck::cast_slice_mut(&mut scales);
    for at in 0..all {
        let numbers = &mut numbers[at * width..][..width];
        let mut part = Part { numbers, scales: &mut scales[at * scaled..][..scaled] };
        for slot in 0..PAGE {
            let row = |from: usize| -> Vec<f32> {
                (0..D).map(|c| value(from + (at * PAGE + slot) * D + c)).collect()
            };
            let (k, v) = (row(0), row(77_777));
            store(Isa::SCALAR, slot, &k, &v, &mut part);
        }
    }
    let (numbers, scales) = (&*numbers, &*scales);
    let table: Vec<u32> = (0..len as u32 / PAGE as u32).collect();
    let q: Vec<f32> = (0..QUERIES * D).map(|i| value(i * 31) * 0.1).collect();
    for rows in [1, 8] {
        let (q, visible) = (q.repeat(rows), vec![len; QUERIES * rows]);
        for isa in Isa::available().into_iter().skip(1) {
            let of_thread = |thread: usize| {
                let (mut out, mut scratch) = (vec![0.0; q.len()], Scratch::default());
                for part in (thread..parts).step_by(threads) {
                    let head = Head { numbers, scales, parts, part, table: &table };
                    let queries = Queries { q: &q, visible: &visible, d: D };
                    attend(isa, queries, head, &mut scratch, black_box(&mut out));
                }
            };
            let mut best = f64::INFINITY;
            for _ in 0..8 {
                let start = Instant::now();
                thread::scope(|scope| {
                    let of_thread = &of_thread;
                    (1..threads).for_each(|thread| _ = scope.spawn(move || of_thread(thread)));
                    of_thread(0);
                });
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!(
                "{:9} {name} {len:6} positions, {rows} rows: {:.3} ms, {:.1} GB/s, {:.0} Gflop/s",
                isa.name(),
                best * 1e3,
                (size_of_val(numbers) + size_of_val(scales)) as f64 / best / 1e9,
                (parts * len * D * 4 * QUERIES * rows) as f64 / best / 1e9,
            );
        }
    }
}
