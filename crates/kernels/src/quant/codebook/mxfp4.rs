//! MXFP4, 17 bytes: `e:u8 | nibbles[16]`, w = 2^(e - 128) * level[q]; levels are twice E2M1's.

use super::super::plain::nibbles;
use super::super::{Block, Field, Kernels, QuantFormat, kernels};

const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

const RAISED: [u8; 16] = super::raised(LEVELS, 16);

/// MXFP4.
pub struct Mxfp4;

impl QuantFormat for Mxfp4 {
    const NAME: &'static str = "MXFP4";
    const ID: u32 = 39;
    const BLOCK: usize = 32;
    const BYTES: usize = 17;
    const GROUP: usize = 32;
    const BIASED: bool = false;

    const FIELDS: &'static [Field] = &[Field::head(0, 1, 1), Field::block(1, 4, 4)];
    const KERNELS: Kernels = KERNELS;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        // 2^(e - 128): subnormal for e < 2.
        let e = u32::from(block[0]);
        out.scale[0] = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
        nibbles(&block[1..], &mut out.codes, |q| LEVELS[q as usize]);
    }

    fn tame(block: &mut [u8], std: f32) {
        // The power of two at or below std / 5.5, the deviation of the levels.
        block[0] = (((std / 5.5).to_bits() >> 23) + 1) as u8;
    }
}

kernels! { Mxfp4, bits 5, zero Some(4), direct 0, |head, block, G| {
        let indices = nibble_vectors(block, 0);
        // 2^(e - 128) as two powers, each normal where their product may not be.
        let e = bytes(head, 0);
        let first = shr(e, 1);
        let half = both!([first, sub(e, first)], |e| bits(shl(add(e, int(63)), 23)));
        let power = mul(half[0], half[1]);
        let codes = each!(|j| lookup(&RAISED, indices[j]));
        Group { codes, scale: [power], bias: [] }
} }
