//! Float panels: one vector of weights per k, shared by a few tokens.

/// Declares `float_panel` with the instruction set's features, for numbers of tokens that run side
/// by side, the largest first.
macro_rules! floats {
    ($features:literal, [$($n:literal)*]) => {
        use $crate::quant::FloatFormat;

        /// The weights of sixteen rows for one k, exact.
        #[target_feature(enable = $features)]
        #[inline]
        fn values<W: FloatFormat>(bytes: &[u8]) -> F {
            match W::NAME {
                "F32" => bits(load(bytes, 0)),
                "F16" => halves(bytes, 0),
                "BF16" => bits(shl(words(bytes, 0), 16)),
                name => panic!("{name} has no operation"),
            }
        }

        #[target_feature(enable = $features)]
        fn float_tokens<W: FloatFormat, const N: usize>(
            panel: Panel<'_>,
            tokens: &[&[f32]],
            sums: &mut [[f32; ROWS]],
        ) {
            let mut x: [&[f32]; N] = [&[]; N];
            for n in 0..N {
                x[n] = &tokens[n][..panel.k];
            }
            let (mut acc, mut ahead, width) = ([zero(); N], panel.ahead, ROWS * W::BYTES);
            let each = $crate::tile::ahead::LINE / width;
            for (at, weights) in panel.bytes.chunks_exact(width).take(panel.k).enumerate() {
                if at.is_multiple_of(each) {
                    ahead.ask(1);
                }
                let w = values::<W>(weights);
                for n in 0..N {
                    acc[n] = fma(w, float(x[n][at]), acc[n]);
                }
            }
            for n in 0..N {
                sums[n] = store(acc[n]);
            }
        }

        /// acc = fma(w_k, x_k, acc), k ascending, for every token.
        #[target_feature(enable = $features)]
        pub(crate) fn float_panel<W: FloatFormat>(
            panel: Panel<'_>,
            tokens: &[&[f32]],
            sums: &mut [[f32; ROWS]],
        ) {
            let mut done = 0;
            $(while tokens.len() - done >= $n {
                float_tokens::<W, $n>(panel, &tokens[done..], &mut sums[done..]);
                done += $n;
            })*
        }
    };
}
pub(super) use floats;
