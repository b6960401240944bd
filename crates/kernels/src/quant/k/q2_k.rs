//! Q2_K, 84 bytes: `scales[16] | 2-bit codes[64] | d:f16 | dmin:f16`, s = d * sc, b = -(dmin * m).

use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_scale};

/// Q2_K.
pub struct Q2K;

impl QuantFormat for Q2K {
    const NAME: &'static str = "Q2_K";
    const ID: u32 = 10;
    const BLOCK: usize = 256;
    const BYTES: usize = 84;
    const GROUP: usize = 16;
    const BIASED: bool = true;

    const FIELDS: &'static [Field] =
        &[Field::block(80, 2, 2), Field::block(0, 16, 1), Field::block(16, 16, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
        for (j, packed) in block[..16].iter().enumerate() {
            out.scale[j] = d * f32::from(packed & 0x0f);
            out.bias[j] = -(dmin * f32::from(packed >> 4));
        }
        let bytes = &block[16..80];
        for (i, code) in out.codes.iter_mut().enumerate() {
            let (half, shift, l) = (i / 128, i % 128 / 32 * 2, i % 32);
            *code = (bytes[32 * half + l] >> shift & 3) as i8;
        }
    }

    fn tame(block: &mut [u8], std: f32) {
        for packed in &mut block[..16] {
            let scale = *packed & 0x0f | 8;
            *packed = scale | scale << 4;
        }
        let d = std / (1.118 * 11.7);
        block[82] = block[80];
        put_scale(block, 80, d);
        put_scale(block, 82, 1.5 * d);
    }
}

kernels! { Q2K, bits 2, zero None, direct 0, |head, block, G| {
        let (half, plane) = (G / 4, G % 4);
        let codes = each!(|j| {
            and(shr(load(block, 320 + 64 * (8 * half + j)), 2 * plane), 0x0303_0303)
        });
        let (d, dmin) = (halves(block, 0), halves(block, 32));
        let packed = [bytes(block, 64 + 32 * G), bytes(block, 80 + 32 * G)];
        let scale = both!(packed, |packed| mul(d, number(and(packed, 15))));
        let bias = both!(packed, |packed| negate(mul(dmin, number(shr(packed, 4)))));
        Group { codes, scale, bias }
} }
