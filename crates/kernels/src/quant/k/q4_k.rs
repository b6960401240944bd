//! Q4_K, 144 bytes: `d:f16 | dmin:f16 | scales and mins[12] | nibbles[128]`, s = d * sc,
//! b = -(dmin * m). Each 32 bytes of nibbles hold 64 values: low nibbles first, then high.

use super::super::{Block, Encode, Field, Kernels, QuantFormat, kernels};
use super::{encode_groups, scales_and_biases, tame_scales};

/// Q4_K.
pub struct Q4K;

impl QuantFormat for Q4K {
    const NAME: &'static str = "Q4_K";
    const ID: u32 = 12;
    const BLOCK: usize = 256;
    const BYTES: usize = 144;
    const GROUP: usize = 32;
    const BIASED: bool = true;

    const FIELDS: &'static [Field] =
        &[Field::block(0, 2, 2), Field::block(4, 12, 1), Field::block(16, 32, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        scales_and_biases(block, out);
        for (bytes, codes) in block[16..144].chunks_exact(32).zip(out.codes.chunks_exact_mut(64)) {
            for (l, byte) in bytes.iter().enumerate() {
                codes[l] = (byte & 0x0f) as i8;
                codes[l + 32] = (byte >> 4) as i8;
            }
        }
    }

    fn tame(block: &mut [u8], std: f32) {
        tame_scales(block, std, 4.61, 7.5);
    }
}

impl Encode for Q4K {
    fn encode(values: &[f32], block: &mut [u8]) {
        let codes = encode_groups(values, 15.0, block);
        for (bytes, codes) in block[16..].chunks_exact_mut(32).zip(codes.chunks_exact(64)) {
            for (l, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[l] | codes[l + 32] << 4;
            }
        }
    }
}

kernels! { Q4K, bits 4, zero None, direct 4, |head, block, G| {
        let shift = 4 * (G % 2);
        let codes = each!(|j| {
            and(shr(load(block, 256 + 64 * (8 * (G / 2) + j)), shift), 0x0f0f_0f0f)
        });
        let (scale, bias) = scale_and_bias::<G>(block);
        Group { codes, scale: [scale], bias: [bias] }
} }
