//! Q4_0, 18 bytes: `d:f16 | nibbles[16]`, w = d * (q - 8).

use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_signed_scale};
use super::nibbles;

/// Q4_0.
pub struct Q4_0;

impl QuantFormat for Q4_0 {
    const NAME: &'static str = "Q4_0";
    const ID: u32 = 2;
    const BLOCK: usize = 32;
    const BYTES: usize = 18;
    const GROUP: usize = 32;
    const BIASED: bool = false;

    const FIELDS: &'static [Field] = &[Field::head(0, 1, 2), Field::block(2, 4, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        out.scale[0] = f16_at(block, 0);
        nibbles(&block[2..], &mut out.codes, |q| q as i8 - 8);
    }

    fn tame(block: &mut [u8], std: f32) {
        put_signed_scale(block, 0, std / 4.61);
    }
}

kernels! { Q4_0, bits 4, zero Some(3), direct 2, |head, block, G| {
        let codes = nibble_vectors(block, 0);
        Group { codes, scale: [halves(head, 0)], bias: [] }
} }
