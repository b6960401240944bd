//! Q5_1, 24 bytes: `d:f16 | m:f16 | high bits:u32 | nibbles[16]`, w = d * q + m.

use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_scale};
use super::five_bits;

/// Q5_1.
pub struct Q5_1;

impl QuantFormat for Q5_1 {
    const NAME: &'static str = "Q5_1";
    const ID: u32 = 7;
    const BLOCK: usize = 32;
    const BYTES: usize = 24;
    const GROUP: usize = 32;
    const BIASED: bool = true;

    const FIELDS: &'static [Field] =
        &[Field::block(0, 2, 2), Field::block(4, 1, 4), Field::block(8, 4, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        out.scale[0] = f16_at(block, 0);
        out.bias[0] = f16_at(block, 2);
        five_bits(&block[4..8], &block[8..], &mut out.codes, 0);
    }

    fn tame(block: &mut [u8], std: f32) {
        put_scale(block, 0, std / 9.23);
        put_scale(block, 2, -15.5 * std / 9.23);
    }
}

kernels! { Q5_1, bits 5, zero None, direct 0, |head, block, G| {
        let codes = five_bit_vectors(block, 64);
        Group { codes, scale: [halves(block, 0)], bias: [halves(block, 32)] }
} }
