//! Q5_K, 176 bytes: `d:f16 | dmin:f16 | scales and mins[12] | high bits[32] | nibbles[128]`,
//! s = d * sc, b = -(dmin * m). Bit g of a high byte belongs to group g.

use super::super::{Block, Encode, Field, Kernels, QuantFormat, kernels};
use super::{encode_groups, scales_and_biases, tame_scales};

/// Q5_K.
pub struct Q5K;

impl QuantFormat for Q5K {
    const NAME: &'static str = "Q5_K";
    const ID: u32 = 13;
    const BLOCK: usize = 256;
    const BYTES: usize = 176;
    const GROUP: usize = 32;
    const BIASED: bool = true;

    const FIELDS: &'static [Field] = &[
        Field::block(0, 2, 2),
        Field::block(4, 12, 1),
        Field::block(16, 8, 4),
        Field::block(48, 32, 4),
    ];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        scales_and_biases(block, out);
        let (high, low) = (&block[16..48], &block[48..176]);
        for (chunk, codes) in out.codes.chunks_exact_mut(64).enumerate() {
            for l in 0..32 {
                let (byte, bits) = (low[32 * chunk + l], high[l] >> (2 * chunk));
                codes[l] = (byte & 0x0f | (bits & 1) << 4) as i8;
                codes[l + 32] = (byte >> 4 | (bits >> 1 & 1) << 4) as i8;
            }
        }
    }

    fn tame(block: &mut [u8], std: f32) {
        tame_scales(block, std, 9.23, 15.5);
    }
}

impl Encode for Q5K {
    fn encode(values: &[f32], block: &mut [u8]) {
        let codes = encode_groups(values, 31.0, block);
        let (high, low) = block[16..].split_at_mut(32);
        high.fill(0);
        for (i, code) in codes.iter().enumerate() {
            high[i % 32] |= (code >> 4) << (i / 32);
        }
        for (bytes, codes) in low.chunks_exact_mut(32).zip(codes.chunks_exact(64)) {
            for (l, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[l] & 0x0f | codes[l + 32] << 4;
            }
        }
    }
}

kernels! { Q5K, bits 5, zero None, direct 2, |head, block, G| {
        let shift = 4 * (G % 2);
        let codes = each!(|j| {
            let low = and(shr(load(block, 768 + 64 * (8 * (G / 2) + j)), shift), 0x0f0f_0f0f);
            or(low, shl(and(shr(load(block, 256 + 64 * j), G), 0x0101_0101), 4))
        });
        let (scale, bias) = scale_and_bias::<G>(block);
        Group { codes, scale: [scale], bias: [bias] }
} }
