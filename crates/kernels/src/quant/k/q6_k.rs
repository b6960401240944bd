//! Q6_K, 210 bytes: `low nibbles[128] | high pairs[64] | scales:i8[16] | d:f16`, s = d * sc,
//! zero point 32.

use super::super::{Block, Encode, Field, Kernels, QuantFormat, f16_at, kernels, put_scale};
use crate::half;
use crate::quant::fit;

/// Q6_K.
pub struct Q6K;

impl QuantFormat for Q6K {
    const NAME: &'static str = "Q6_K";
    const ID: u32 = 14;
    const BLOCK: usize = 256;
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const BIASED: bool = false;

    const FIELDS: &'static [Field] = &[
        Field::head(208, 1, 2),
        Field::block(192, 16, 1),
        Field::block(128, 8, 4),
        Field::block(0, 16, 4),
        Field::block(160, 8, 4),
        Field::block(64, 16, 4),
    ];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        let d = f16_at(block, 208);
        for (s, sc) in out.scale.iter_mut().zip(&block[192..208]) {
            *s = d * f32::from(*sc as i8);
        }
        let halves = block[..128].chunks_exact(64).zip(block[128..192].chunks_exact(32));
        for ((low, high), codes) in halves.zip(out.codes.chunks_exact_mut(128)) {
            for l in 0..32 {
                let (a, b, h) = (low[l], low[l + 32], high[l]);
                codes[l] = (a & 0x0f | (h & 3) << 4) as i8 - 32;
                codes[l + 32] = (b & 0x0f | (h >> 2 & 3) << 4) as i8 - 32;
                codes[l + 64] = (a >> 4 | (h >> 4 & 3) << 4) as i8 - 32;
                codes[l + 96] = (b >> 4 | (h >> 6) << 4) as i8 - 32;
            }
        }
    }

    fn tame(block: &mut [u8], std: f32) {
        for sc in &mut block[192..208] {
            *sc = (*sc as i8 | 64) as u8; // magnitude at least 32, either sign
        }
        put_scale(block, 208, std / (18.47 * 73.0));
    }
}

impl Encode for Q6K {
    fn encode(values: &[f32], block: &mut [u8]) {
        let mut scales = [0.0; 16];
        for (scale, group) in scales.iter_mut().zip(values.chunks_exact(16)) {
            *scale = fit::scale(group, -32.0, 31.0);
        }
        // The largest scale has the code -128, whatever its sign.
        let d = half::f32_to_f16(fit::extreme(&scales) / -128.0);
        block[208..].copy_from_slice(&d.to_le_bytes());
        let d = half::f16_to_f32(d);
        let mut codes = [0; 256];
        for (j, scale) in scales.into_iter().enumerate() {
            let sc = fit::code(scale, fit::inverse(d), -128.0, 127.0);
            block[192 + j] = sc as i8 as u8;
            let inverse = fit::inverse(d * sc);
            for i in 16 * j..16 * (j + 1) {
                codes[i] = (fit::code(values[i], inverse, -32.0, 31.0) + 32.0) as u8;
            }
        }
        let (low, high) = block[..192].split_at_mut(128);
        let halves = low.chunks_exact_mut(64).zip(high.chunks_exact_mut(32));
        for ((low, high), codes) in halves.zip(codes.chunks_exact(128)) {
            for l in 0..32 {
                let [a, b, c, d] = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
                low[l] = a & 0x0f | c << 4;
                low[l + 32] = b & 0x0f | d << 4;
                high[l] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
            }
        }
    }
}

kernels! { Q6K, bits 6, zero Some(5), direct 2, |head, block, G| {
        let (half, plane) = (G / 4, G % 4);
        let codes = each!(|j| {
            let at = 256 + 64 * (24 * half + j);
            let (high, low) = (load(block, at), load(block, at + 512 * (plane % 2 + 1)));
            let high = if plane < 2 { shl(high, 4 - 2 * plane) } else { shr(high, 2 * plane - 4) };
            or(and(shr(low, 4 * (plane / 2)), 0x0f0f_0f0f), and(high, 0x3030_3030))
        });
        let d = halves(head, 0);
        let scale = both!([0, 16], |at| mul(d, number(signed(block, 32 * G + at))));
        Group { codes, scale, bias: [] }
} }
