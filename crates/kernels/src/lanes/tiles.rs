//! The loop over tokens: unpacked weights, of whatever format, against the tokens of a tile.

/// Declares it with the instruction set's features, for `tokens / together` each: how many tokens a
/// tile has, and how many of them run side by side.
macro_rules! tiles {
    ($features:literal, [$($tokens:literal / $together:literal)*]) => {
        use $crate::tile::pack::View;
        use $crate::tile::Sums;

        /// 32 codes of sixteen rows: dword j of each lane holds k = 4 j .. 4 j + 4.
        #[derive(Clone, Copy)]
        pub(crate) struct Unpacked<const SCALES: usize, const BIASES: usize> {
            pub codes: [I; 8],
            pub scale: [F; SCALES],
            pub bias: [F; BIASES],
        }

        /// Adds one group to the sums of T tokens, N of them side by side.
        #[target_feature(enable = $features)]
        #[inline]
        pub(crate) fn add_group<
            const T: usize,
            const N: usize,
            const P: usize,
            const SCALES: usize,
            const BIASES: usize,
            const BITS: usize,
        >(
            group: &Unpacked<SCALES, BIASES>,
            zero: Option<usize>,
            x: View<'_, P>,
            at: usize,
            acc: &mut [F; T],
        ) {
            let codes: [&[u8]; P] = x.planes.map(|plane| &plane[at * 32 * T..][..32 * T]);
            let d = &x.d[at * T..][..T];
            let nsum = &x.nsum::<SCALES>()[at * SCALES * T..][..SCALES * T];
            let dsum = &x.dsum::<SCALES>()[at * SCALES * T..][..SCALES * T];
            let zero = if CENTRED && BITS == 8 { None } else { zero };
            for from in (0..T).step_by(N) {
                for s in 0..SCALES {
                    let half = 8 / SCALES;
                    let weights = &group.codes[s * half..][..half];
                    let x = |plane: usize| &codes[plane][s * half * 4 * T..][..half * 4 * T];
                    let mut sum = [none(); N];
                    if P == 2 {
                        sum = dots::<T, N, BITS>(sum, weights, x(0), from);
                        sum = sum.map(|high| shl(high, 7));
                    }
                    if let (Some(log), 0) = (zero, BIASES) {
                        for (n, sum) in sum.iter_mut().enumerate() {
                            *sum = add(*sum, shl(int(nsum[s * T + from + n]), log));
                        }
                    }
                    sum = dots::<T, N, BITS>(sum, weights, x(P - 1), from);
                    for (n, sum) in sum.into_iter().enumerate() {
                        let acc = &mut acc[from + n];
                        *acc = fma(number(sum), mul(group.scale[s], float(d[from + n])), *acc);
                        if BIASES > 0 {
                            let dsum = float(dsum[s * T + from + n]);
                            *acc = fma(group.bias[s % BIASES.max(1)], dsum, *acc);
                        }
                    }
                }
            }
        }

        /// Unpacks the eight groups from the given one on: panel, k, group.
        type Slab<const SCALES: usize, const BIASES: usize> =
            unsafe fn(&[u8], usize, usize, &mut [Unpacked<SCALES, BIASES>; 8]);

        #[target_feature(enable = $features)]
        fn tile<
            const T: usize,
            const N: usize,
            const P: usize,
            const SCALES: usize,
            const BIASES: usize,
            const BITS: usize,
        >(
            unpack: Slab<SCALES, BIASES>,
            zero_log: Option<usize>,
            panel: &[u8],
            k: usize,
            x: View<'_, P>,
            sums: &mut Sums,
        ) {
            let nothing =
                Unpacked { codes: [none(); 8], scale: [zero(); SCALES], bias: [zero(); BIASES] };
            let (mut slab, mut acc) = ([nothing; 8], [zero(); T]);
            for at in (0..k / 32).step_by(8) {
                // SAFETY: it needs the features that this function has.
                unsafe { unpack(panel, k, at, &mut slab) };
                for (g, group) in slab[..8.min(k / 32 - at)].iter().enumerate() {
                    add_group::<T, N, P, SCALES, BIASES, BITS>(
                        group, zero_log, x, at + g, &mut acc,
                    );
                }
            }
            sums.iter_mut().zip(acc).for_each(|(sums, acc)| *sums = store(acc));
        }

        /// Several tokens.
        #[target_feature(enable = $features)]
        pub(crate) fn many<
            const P: usize,
            const SCALES: usize,
            const BIASES: usize,
            const BITS: usize,
        >(
            unpack: Slab<SCALES, BIASES>,
            zero: Option<usize>,
            panel: &[u8],
            k: usize,
            x: View<'_, P>,
            sums: &mut Sums,
        ) {
            match x.tokens {
                $($tokens => tile::<$tokens, $together, P, SCALES, BIASES, BITS>(
                    unpack, zero, panel, k, x, sums,
                ),)*
                other => panic!("no kernel takes {other} tokens"),
            }
        }

        /// One weight of each row, exact.
        #[target_feature(enable = $features)]
        #[inline]
        pub(crate) fn weight<const SCALES: usize, const BIASES: usize>(
            group: &Unpacked<SCALES, BIASES>,
            i: usize,
            zero: Option<usize>,
        ) -> F {
            let code = and(shr(group.codes[i / 4], 8 * (i % 4)), 0xff);
            let code = zero.map_or(code, |log| sub(code, int(1 << log)));
            let w = mul(group.scale[i * SCALES / 32], number(code));
            if BIASES > 0 { plus(w, group.bias[i * BIASES / 32]) } else { w }
        }
    };
}
pub(super) use tiles;

/// Declares `dots` from `dot`, for instruction sets where one operation adds four products exactly.
macro_rules! dots_by_dot {
    ($features:literal) => {
        /// Codes of 8 bits are taken as they are, without sign.
        pub(crate) const CENTRED: bool = false;

        /// All codes are alike to `dots`.
        pub(crate) const fn dot_class(_bits: usize) -> usize {
            8
        }

        /// first + sum of codes * x for N of T tokens; x is [codes, T, 4 bytes].
        #[target_feature(enable = $features)]
        #[inline]
        fn dots<const T: usize, const N: usize, const BITS: usize>(
            first: [I; N],
            codes: &[I],
            x: &[u8],
            from: usize,
        ) -> [I; N] {
            let mut sums = first;
            for (codes, x) in codes.iter().zip(x.chunks_exact(4 * T)) {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = dot(*sum, *codes, dword(&x[4 * (from + n)..]));
                }
            }
            sums
        }
    };
}
pub(super) use dots_by_dot;
