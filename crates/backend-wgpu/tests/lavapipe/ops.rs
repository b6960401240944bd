//! Single ops against the definitions of the CPU, whose integers they must hit.

use qwire_backend_gpu::device::{Address, Args, Device, Launch};
use qwire_kernels::half::{f16_to_f32, f32_to_f16};

use crate::device;
use crate::trial::codes::{self, kernel, piece, read};
use crate::trial::{attention, best, products};

#[test]
fn codes_are_those_of_the_cpu() {
    codes::are_those_of_the_cpu(device());
}

#[test]
fn the_best_logits_are_those_of_a_sort() {
    best::shares_are_sorted(device());
}

/// Numbers around every rounding to half precision, and what is beyond it on both sides.
fn edges() -> Vec<f32> {
    let mut all = Vec::new();
    for h in (0_u16..0x7c00).step_by(37).chain(0x3f0..0x410).chain(0..20).chain(0x7bf0..0x7c00) {
        let (low, high) = (f16_to_f32(h), f16_to_f32((h + 1).min(0x7bff)));
        let middle = f32::midpoint(low, high).to_bits();
        all.extend([low.to_bits(), middle, middle + 1, middle.max(1) - 1].map(f32::from_bits));
    }
    // Around the largest half, and half of the smallest: 2^-25.
    all.extend([65519.9, 65520.0, 1e9, f32::INFINITY, f32::NAN, 1e-9, 2.980_232_2e-8, 0.0]);
    all.extend(all.clone().iter().map(|x| -x));
    all.resize(all.len().next_multiple_of(64), 1.0);
    all
}

/// Values are stored as they are, in halves rounded to nearest, ties to even.
#[test]
fn the_cache_holds_the_nearest_halves() {
    const D: usize = 64;
    let Some(mut device) = device() else { return };
    let values = edges();
    let rows = values.len() / D;
    assert!(rows <= 64 * 128, "pages of 64 slots");
    let zeros = [1.0_f32.to_bits(); 2 * D];
    let qkv: Vec<u32> = values
        .chunks_exact(D)
        .flat_map(|v| zeros.iter().copied().chain(v.iter().map(|x| x.to_bits())))
        .collect();
    let len = qkv.len();
    let slots: Vec<u32> = (0..rows as u32).collect();
    let rest = piece(&mut device, &[qkv, slots, vec![0; rows * D]].concat());
    let (slot, q) = (rest.plus(4 * len), rest.plus(4 * (len + rows)));
    let page = 2 * D * 64;
    let pages = rows.div_ceil(64);
    let cache = piece(&mut device, &vec![0; pages * page / 2]);
    let args = Args::default().address(rest).address(Address::NONE).address(Address::NONE);
    let args = args.address(rest).count(1).count(1).count(D).count(0).number(1e-6).number(1.0);
    let args = args.address(slot).address(q).address(cache).count(0).skip(4);
    device.run(&[Launch { kernel: kernel("rotate"), grid: [1, rows as u32, 1], args }]);
    let bytes = read(&mut device, cache, pages * page * 2);
    let found = |i: usize| u16::from_le_bytes(bytes.as_chunks().0[i]);
    for (row, values) in values.chunks_exact(D).enumerate() {
        for (i, value) in values.iter().enumerate() {
            let found = found(row / 64 * page + 64 * D + row % 64 * D + i);
            let expected = f32_to_f16(*value);
            let nan = value.is_nan() && f16_to_f32(found).is_nan();
            assert!(found == expected || nan, "{value:e}: {found:#x}, not {expected:#x}");
        }
    }
}

#[test]
fn products_of_codes_are_those_of_the_reference() {
    let names = ["moe-q8_0", "moe-q4_k_m", "moe-q5_k_m", "dense2-q6_k", "moe-bf16", "moes-f32"];
    for name in names {
        products::are_those_of_the_reference(device(), name);
    }
}

#[test]
fn attention_is_that_of_what_is_stored() {
    attention::is_that_of_what_is_stored(device);
}
