//! Q5_0, 22 bytes: `d:f16 | high bits:u32 | nibbles[16]`, w = d * (q - 16).

use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_signed_scale};
use super::five_bits;

/// Q5_0.
pub struct Q5_0;

impl QuantFormat for Q5_0 {
    const NAME: &'static str = "Q5_0";
    const ID: u32 = 6;
    const BLOCK: usize = 32;
    const BYTES: usize = 22;
    const GROUP: usize = 32;
    const BIASED: bool = false;

    const FIELDS: &'static [Field] =
        &[Field::head(0, 1, 2), Field::block(2, 1, 4), Field::block(6, 4, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        out.scale[0] = f16_at(block, 0);
        five_bits(&block[2..6], &block[6..], &mut out.codes, 16);
    }

    fn tame(block: &mut [u8], std: f32) {
        put_signed_scale(block, 0, std / 9.23);
    }
}

kernels! { Q5_0, bits 5, zero Some(4), direct 0, |head, block, G| {
        let codes = five_bit_vectors(block, 0);
        Group { codes, scale: [halves(head, 0)], bias: [] }
} }
