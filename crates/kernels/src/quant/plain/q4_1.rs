//! Q4_1, 20 bytes: `d:f16 | m:f16 | nibbles[16]`, w = d * q + m.

use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_scale};
use super::nibbles;

/// Q4_1.
pub struct Q4_1;

impl QuantFormat for Q4_1 {
    const NAME: &'static str = "Q4_1";
    const ID: u32 = 3;
    const BLOCK: usize = 32;
    const BYTES: usize = 20;
    const GROUP: usize = 32;
    const BIASED: bool = true;

    const FIELDS: &'static [Field] = &[Field::block(0, 2, 2), Field::block(4, 4, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        out.scale[0] = f16_at(block, 0);
        out.bias[0] = f16_at(block, 2);
        nibbles(&block[4..], &mut out.codes, |q| q as i8);
    }

    fn tame(block: &mut [u8], std: f32) {
        put_scale(block, 0, std / 4.61);
        put_scale(block, 2, -7.5 * std / 4.61);
    }
}

kernels! { Q4_1, bits 4, zero None, direct 0, |head, block, G| {
        let codes = nibble_vectors(block, 64);
        Group { codes, scale: [halves(block, 0)], bias: [halves(block, 32)] }
} }
