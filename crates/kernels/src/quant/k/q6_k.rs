//! Q6_K, 210 bytes: `low nibbles[128] | high pairs[64] | scales:i8[16] | d:f16`, s = d * sc,
//! zero point 32.

use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_scale};

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
