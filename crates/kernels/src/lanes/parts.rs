//! Ways of unpacking that several formats share, from the operations of one instruction set.

/// Declares them with the instruction set's features.
macro_rules! shared_parts {
    ($features:literal) => {
        /// Two levels of nibbles: low ones are k = 0 .. 16, high ones 16 .. 32.
        #[target_feature(enable = $features)]
        #[inline]
        pub(crate) fn nibble_vectors(block: &[u8], at: usize) -> [I; 8] {
            $crate::lanes::each!(|j| {
                and(shr(load(block, at + 64 * (j % 4)), j / 4 * 4), 0x0f0f_0f0f)
            })
        }

        /// Nibbles with a fifth bit from each lane's 32 bits at `at`.
        #[target_feature(enable = $features)]
        #[inline]
        pub(crate) fn five_bit_vectors(block: &[u8], at: usize) -> [I; 8] {
            let (low, high) = (nibble_vectors(block, at + 64), load(block, at));
            // Four bits are spread to four bytes by one product.
            $crate::lanes::each!(|j| {
                let spread = times(and(shr(high, 4 * j), 15), 0x0020_4081);
                or(low[j], shl(and(spread, 0x0101_0101), 4))
            })
        }

        /// Scale and bias of one group of Q4_K or Q5_K, from d, dmin and the packed twelve bytes.
        #[target_feature(enable = $features)]
        #[inline]
        pub(crate) fn scale_and_bias<const G: usize>(block: &[u8]) -> (F, F) {
            let packed = |j: usize| bytes(block, 64 + 16 * j);
            let (scale, min) = if G < 4 {
                (and(packed(G), 63), and(packed(G + 4), 63))
            } else {
                let both = packed(G + 4);
                let scale_top = and(shr(packed(G - 4), 2), 48);
                let min_top = and(shr(packed(G), 2), 48);
                (or(and(both, 15), scale_top), or(shr(both, 4), min_top))
            };
            let (d, dmin) = (halves(block, 0), halves(block, 32));
            (mul(d, number(scale)), negate(mul(dmin, number(min))))
        }
    };
}
pub(super) use shared_parts;
