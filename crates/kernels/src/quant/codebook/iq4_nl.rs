//! IQ4_NL, 18 bytes: `d:f16 | nibbles[16]`, w = d * level[q].

use super::super::plain::nibbles;
use super::super::{Block, Field, Kernels, QuantFormat, f16_at, kernels, put_signed_scale};
use super::{IQ4_LEVELS, IQ4_RAISED as RAISED};

/// IQ4_NL.
pub struct Iq4Nl;

impl QuantFormat for Iq4Nl {
    const NAME: &'static str = "IQ4_NL";
    const ID: u32 = 20;
    const BLOCK: usize = 32;
    const BYTES: usize = 18;
    const GROUP: usize = 32;
    const BIASED: bool = false;

    const FIELDS: &'static [Field] = &[Field::head(0, 1, 2), Field::block(2, 4, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        out.scale[0] = f16_at(block, 0);
        nibbles(&block[2..], &mut out.codes, |q| IQ4_LEVELS[q as usize]);
    }

    fn tame(block: &mut [u8], std: f32) {
        put_signed_scale(block, 0, std / 69.0);
    }
}

kernels! { Iq4Nl, bits 8, zero Some(7), direct 0, |head, block, G| {
        let indices = nibble_vectors(block, 0);
        let codes = each!(|j| lookup(&RAISED, indices[j]));
        Group { codes, scale: [halves(head, 0)], bias: [] }
} }
