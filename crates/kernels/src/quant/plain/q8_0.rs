//! Q8_0, 34 bytes: `d:f16 | i8[32]`, w = d * q.

use super::super::{Block, Encode, Field, Kernels, QuantFormat, f16_at, kernels, put_scale};
use crate::half;
use crate::quant::fit;

/// Q8_0.
pub struct Q8_0;

impl QuantFormat for Q8_0 {
    const NAME: &'static str = "Q8_0";
    const ID: u32 = 8;
    const BLOCK: usize = 32;
    const BYTES: usize = 34;
    const GROUP: usize = 32;
    const BIASED: bool = false;

    const FIELDS: &'static [Field] = &[Field::head(0, 1, 2), Field::block(2, 8, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        out.scale[0] = f16_at(block, 0);
        for (code, byte) in out.codes.iter_mut().zip(&block[2..34]) {
            *code = *byte as i8;
        }
    }

    fn tame(block: &mut [u8], std: f32) {
        put_scale(block, 0, std / 73.9);
    }
}

impl Encode for Q8_0 {
    fn encode(values: &[f32], block: &mut [u8]) {
        let d = half::f32_to_f16(fit::extreme(values).abs() / 127.0);
        block[..2].copy_from_slice(&d.to_le_bytes());
        let inverse = fit::inverse(half::f16_to_f32(d));
        for (x, byte) in values.iter().zip(&mut block[2..]) {
            *byte = fit::code(*x, inverse, -127.0, 127.0) as i8 as u8;
        }
    }
}

kernels! { Q8_0, bits 8, zero Some(7), direct 2, |head, block, G| {
        let codes = each!(|j| xor(load(block, 64 * j), 0x8080_8080));
        Group { codes, scale: [halves(head, 0)], bias: [] }
} }
