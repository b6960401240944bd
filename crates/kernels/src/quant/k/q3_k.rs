//! Q3_K, 110 bytes: `high bits[32] | 2-bit codes[64] | 6-bit scales[12] | d:f16`,
//! s = d * (sc - 32), zero point 4.

use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_scale};

/// Q3_K.
pub struct Q3K;

impl QuantFormat for Q3K {
    const NAME: &'static str = "Q3_K";
    const ID: u32 = 11;
    const BLOCK: usize = 256;
    const BYTES: usize = 110;
    const GROUP: usize = 16;
    const BIASED: bool = false;

    const FIELDS: &'static [Field] = &[
        Field::head(108, 1, 2),
        Field::block(96, 12, 1),
        Field::block(0, 8, 4),
        Field::block(32, 16, 4),
    ];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        let d = f16_at(block, 108);
        let packed = &block[96..108];
        for (j, s) in out.scale.iter_mut().enumerate() {
            let low = if j < 8 { packed[j] & 0x0f } else { packed[j - 8] >> 4 };
            let high = packed[8 + j % 4] >> (2 * (j / 4)) & 3;
            *s = d * f32::from((low | high << 4) as i8 - 32);
        }
        let (high, low) = (&block[..32], &block[32..96]);
        for (i, code) in out.codes.iter_mut().enumerate() {
            let (half, plane, l) = (i / 128, i % 128 / 32, i % 32);
            let top = high[l] >> (4 * half + plane) & 1;
            *code = (low[32 * half + l] >> (2 * plane) & 3 | top << 2) as i8 - 4;
        }
    }

    fn tame(block: &mut [u8], std: f32) {
        // The codes lean to -0.5; scales of both signs keep the mean at zero.
        put_scale(block, 108, std / (2.345 * 18.47));
    }
}

kernels! { Q3K, bits 3, zero Some(2), direct 0, |head, block, G| {
        let (half, plane) = (G / 4, G % 4);
        let codes = each!(|j| {
            let low = and(shr(load(block, 704 + 64 * (8 * half + j)), 2 * plane), 0x0303_0303);
            let high = and(shr(load(block, 192 + 64 * j), G), 0x0101_0101);
            or(low, shl(high, 2))
        });
        let d = halves(head, 0);
        let scale = both!([2 * G, 2 * G + 1], |i| {
            let low = and(shr(bytes(block, 16 * (i % 8)), 4 * (i / 8)), 15);
            let high = and(shr(bytes(block, 16 * (8 + i % 4)), 2 * (i / 4)), 3);
            mul(d, number(sub(or(low, shl(high, 4)), int(32))))
        });
        Group { codes, scale, bias: [] }
} }
