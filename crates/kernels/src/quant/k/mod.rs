//! Formats of 256 values with two levels of scales: the K family.

mod q2_k;
mod q3_k;
mod q4_k;
mod q5_k;
mod q6_k;

pub use q2_k::Q2K;
pub use q3_k::Q3K;
pub use q4_k::Q4K;
pub use q5_k::Q5K;
pub use q6_k::Q6K;

use super::{Block, f16_at, fit, put_scale};
use crate::half;

/// The eight 6-bit scales and minima of Q4_K and Q5_K, packed in twelve bytes.
///
/// ```text
/// bytes 0..4   scale 0..4 (6 bits) | top two bits of scale 4..8
/// bytes 4..8   min   0..4 (6 bits) | top two bits of min   4..8
/// bytes 8..12  low nibble scale 4..8, high nibble min 4..8
/// ```
#[inline(always)]
fn scale_and_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            (packed[j + 4] & 0x0f) | (packed[j - 4] >> 6) << 4,
            (packed[j + 4] >> 4) | (packed[j] >> 6) << 4,
        )
    }
}

/// The head shared by Q4_K and Q5_K, `d:f16 | dmin:f16 | scales[12]`: s = d * sc, b = -(dmin * m).
#[inline(always)]
fn scales_and_biases(block: &[u8], out: &mut Block) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for j in 0..8 {
        let (scale, min) = scale_and_min(&block[4..16], j);
        out.scale[j] = d * f32::from(scale);
        out.bias[j] = -(dmin * f32::from(min));
    }
}

/// The bytes that [`scale_and_min`] reads.
fn put_scales_and_mins(packed: &mut [u8], scales: [u8; 8], mins: [u8; 8]) {
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        packed[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        packed[j + 8] = (scales[j + 4] & 0x0f) | (mins[j + 4] & 0x0f) << 4;
    }
}

/// Fits eight groups of 32 values, writes the head that Q4_K and Q5_K share, and gives the codes.
fn encode_groups(values: &[f32], high: f32, block: &mut [u8]) -> [u8; 256] {
    let [mut scales, mut mins] = [[0.0; 8]; 2];
    for (j, group) in values.chunks_exact(32).enumerate() {
        (scales[j], mins[j]) = fit::scale_and_min(group, high);
    }
    let units = [scales, mins].map(|row| half::f32_to_f16(fit::extreme(&row) / 63.0));
    let [d, dmin] = units.map(half::f16_to_f32);
    let six_bits = |row: [f32; 8], unit: f32| {
        let inverse = fit::inverse(unit);
        row.map(|x| fit::code(x, inverse, 0.0, 63.0) as u8)
    };
    let (scales, mins) = (six_bits(scales, d), six_bits(mins, dmin));
    block[..2].copy_from_slice(&units[0].to_le_bytes());
    block[2..4].copy_from_slice(&units[1].to_le_bytes());
    put_scales_and_mins(&mut block[4..16], scales, mins);
    let mut codes = [0; 256];
    for (i, (x, out)) in values.iter().zip(&mut codes).enumerate() {
        let (scale, min) = (d * f32::from(scales[i / 32]), dmin * f32::from(mins[i / 32]));
        *out = fit::code(x + min, fit::inverse(scale), 0.0, high) as u8;
    }
    codes
}

/// Random scales in 32..64 with equal minima, so that `middle` is the code of weight zero.
fn tame_scales(block: &mut [u8], std: f32, code_std: f32, middle: f32) {
    let d = std / (code_std * 48.0);
    block[2] = block[0];
    put_scale(block, 0, d);
    put_scale(block, 2, d * middle);
    for j in 0..4 {
        // Bit 5 set in every scale: bytes 0..4 hold it at bit 5 and, for 4..8, at bit 7.
        let byte = block[4 + j] | 0b1010_0000;
        block[4 + j] = byte;
        block[8 + j] = byte;
        let low = block[12 + j] & 0x0f;
        block[12 + j] = low | low << 4;
    }
}
