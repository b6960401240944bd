//! IQ4_XS, 136 bytes: `d:f16 | scale tops:u16 | scale nibbles[4] | nibbles[128]`,
//! s = d * (ls - 32), w = s * level[q].

use super::super::plain::nibbles;
use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_scale};
use super::{IQ4_LEVELS, IQ4_RAISED as RAISED};

/// IQ4_XS.
pub struct Iq4Xs;

impl QuantFormat for Iq4Xs {
    const NAME: &'static str = "IQ4_XS";
    const ID: u32 = 23;
    const BLOCK: usize = 256;
    const BYTES: usize = 136;
    const GROUP: usize = 32;
    const BIASED: bool = false;

    const FIELDS: &'static [Field] =
        &[Field::block(0, 2, 2), Field::block(4, 4, 1), Field::block(8, 32, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        let d = f16_at(block, 0);
        let high = u16::from_le_bytes([block[2], block[3]]);
        for g in 0..8 {
            let low = block[4 + g / 2] >> (4 * (g % 2)) & 0x0f;
            let scale = low | ((high >> (2 * g) & 3) as u8) << 4;
            out.scale[g] = d * f32::from(scale as i8 - 32);
            let codes = &mut out.codes[32 * g..32 * g + 32];
            nibbles(&block[8 + 16 * g..], codes, |q| IQ4_LEVELS[q as usize]);
        }
    }

    fn tame(block: &mut [u8], std: f32) {
        put_scale(block, 0, std / (69.0 * 18.47));
    }
}

kernels! { Iq4Xs, bits 8, zero Some(7), direct 0, |head, block, G| {
        let indices = nibble_vectors(block, 128 + 256 * G);
        let codes = each!(|j| lookup(&RAISED, indices[j]));
        let low = and(shr(bytes(block, 64 + 16 * (G / 2)), 4 * (G % 2)), 15);
        let high = and(shr(words(block, 32), 2 * G), 3);
        let scale = mul(halves(block, 0), number(sub(or(low, shl(high, 4)), int(32))));
        Group { codes, scale: [scale], bias: [] }
} }
