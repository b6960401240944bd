//! Q4_K, 144 bytes: `d:f16 | dmin:f16 | scales and mins[12] | nibbles[128]`, s = d * sc,
//! b = -(dmin * m). Each 32 bytes of nibbles hold 64 values: low nibbles first, then high.

use super::super::{Block, QuantFormat};
use super::{scales_and_biases, tame_scales};

/// Q4_K.
pub struct Q4K;

impl QuantFormat for Q4K {
    const NAME: &'static str = "Q4_K";
    const ID: u32 = 12;
    const BLOCK: usize = 256;
    const BYTES: usize = 144;
    const GROUP: usize = 32;
    const BIASED: bool = true;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut Block) {
        scales_and_biases(block, out);
        for (bytes, codes) in block[16..144].chunks_exact(32).zip(out.codes.chunks_exact_mut(64)) {
            for (l, byte) in bytes.iter().enumerate() {
                codes[l] = (byte & 0x0f) as i8;
                codes[l + 32] = (byte >> 4) as i8;
            }
        }
    }

    fn tame(block: &mut [u8], std: f32) {
        tame_scales(block, std, 4.61, 7.5);
    }
}
