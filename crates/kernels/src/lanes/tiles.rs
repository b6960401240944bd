//! The loop over tokens: unpacked weights, of whatever format, against the tokens of a tile.

/// Adds one group to the sums of T tokens, N of them side by side. A macro, for a function of this
/// size is not inlined, and loops, for a closure given to `array::map` is not inlined either: what
/// passes between functions passes through memory. `x`: the group's part of the activations. Planes
/// of bytes have a sum each and meet the same codes; of words they share a sum, with codes of their
/// own. Four of the tile's T tokens are multiplied abreast where the instruction set has that.
macro_rules! add_group {
    ($multiply:ident, $t:tt / $n:tt, $p:tt, $scales:tt, $biases:tt, $bits:tt,
     $group:expr, $zero:expr, $x:expr, $acc:expr) => {{
        const HALF: [usize; 3] = [0, 8, 4];
        let (group, x) = ($group, $x);
        let forms = group.codes.len() / 8;
        for from in (0..$t).step_by($n) {
            // Cut once, so that nothing is checked inside.
            let acc = &mut $acc[from..from + $n];
            let d = &x.d[from..from + $n];
            for s in 0..$scales {
                let half = HALF[$scales];
                let sums = s * $t + from..s * $t + from + $n;
                let mut planes = [[none(); $n]; $p];
                if let (Some(log), 0) = ($zero, $biases) {
                    let nsum = &x.nsum[sums.clone()];
                    for n in 0..$n {
                        planes[$p / forms - 1][n] = shl(int(nsum[n]), log);
                    }
                }
                for first in (s * half..(s + 1) * half).step_by(exact($bits).min(half)) {
                    let mut parts = [[none(); $n]; $p];
                    for plane in 0..$p / forms {
                        for n in 0..$n {
                            parts[plane][n] = open::<$bits>(planes[plane][n]);
                        }
                    }
                    if ABREAST > 0 && ($n == 4 || $n == ABREAST) {
                        for j in (first..first + half).step_by(4) {
                            let codes = group.codes[j..].first_chunk().expect("four");
                            for plane in 0..$p {
                                let x = &x.planes[plane][4 * (j * T + from)..];
                                multiply_abreast::<T>(&mut parts[plane], codes, x);
                            }
                        }
                    } else {
                        for j in first..first + exact($bits).min(half) {
                            for plane in 0..$p {
                                let dwords = &x.planes[plane][4 * (j * $t + from)..][..4 * $n];
                                for n in 0..$n {
                                    let x = dword(&dwords[4 * n..]);
                                    let part = &mut parts[plane / forms][n];
                                    let codes = group.codes[plane % forms * 8 + j];
                                    *part = $multiply::<$bits>(*part, codes, x);
                                }
                            }
                        }
                    }
                    for plane in 0..$p / forms {
                        for n in 0..$n {
                            planes[plane][n] = close::<$bits>(planes[plane][n], parts[plane][n]);
                        }
                    }
                }
                let mut sum = planes[0];
                for plane in 1..$p / forms {
                    for n in 0..$n {
                        sum[n] = add(shl(sum[n], 7), planes[plane][n]);
                    }
                }
                for n in 0..$n {
                    acc[n] = fma(number(sum[n]), mul(group.scale[s], float(d[n])), acc[n]);
                }
                if $biases > 0 {
                    let bias = group.bias[s % group.bias.len().max(1)];
                    let dsum = &x.dsum[sums];
                    for n in 0..$n {
                        acc[n] = fma(bias, float(dsum[n]), acc[n]);
                    }
                }
            }
        }
    }};
}
pub(crate) use add_group;

/// Declares it with the instruction set's features, for each `tokens => most / together, fewer`:
/// how many tokens are in a tile, for how many it has room, and how many of them run side by side;
/// fewer, where their sums take more registers (`is_long`). A tile with
/// just its most tokens keeps their sums in registers, and a smaller one loops over them.
macro_rules! tiles {
    ($features:literal,
     [$($($tokens:literal)|+ => $most:literal / $together:literal, $fewer:literal)*]) => {
        use $crate::tile::pack::{Pack, View};
        use $crate::tile::ahead::{Ahead, LINE};
        use $crate::tile::{Panel, ROWS as TILE_ROWS, Sums, TOKENS};

        /// 32 codes of sixteen rows. In bytes dword j of each lane holds k = 4 j .. 4 j + 4; in
        /// words it holds the former two of them, and dword 8 + j the latter.
        #[derive(Clone, Copy)]
        pub(crate) struct Unpacked<
            const SCALES: usize,
            const BIASES: usize,
            const DWORDS: usize = 8,
        > {
            pub codes: [I; DWORDS],
            pub scale: [F; SCALES],
            pub bias: [F; BIASES],
        }

        /// Unpacks the eight groups from the given one on: panel, k, group.
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        type Slab<const SCALES: usize, const BIASES: usize> =
            unsafe fn(&[u8], usize, usize, &mut [Unpacked<SCALES, BIASES>; 8]);

        /// Adds `groups` of the slab, the first of them at `at`, to the sums of one tile. Each of
        /// them `asks` for some lines of what lies ahead.
        #[target_feature(enable = $features)]
        fn add_slab<
            const T: usize,
            const N: usize,
            const P: usize,
            const DWORDS: usize,
            const SCALES: usize,
            const BIASES: usize,
            const BITS: usize,
        >(
            groups: &[Unpacked<SCALES, BIASES, DWORDS>],
            zero_log: Option<usize>,
            at: usize,
            x: View<'_, P>,
            (ahead, asks): (&mut Ahead<'_>, usize),
            sums: &mut Sums,
        ) {
            // Codes of 8 bits may be multiplied without their zero point.
            let tokens = if LOOPED && T > N { x.tokens } else { T };
            let zero_log = if CENTRED && BITS == 8 { None } else { zero_log };
            let mut x = x.groups(SCALES).cut(tokens, SCALES, at, groups.len());
            // What zero points begin with, shifted for all tokens at once.
            let mut starts = [0; 8 * 2 * TOKENS];
            if let (Some(log), 0) = (zero_log, BIASES) {
                starts.iter_mut().zip(x.nsum).for_each(|(start, nsum)| *start = *nsum << log);
                x.nsum = &starts[..x.nsum.len()];
            }
            let shifted = zero_log.map(|_| 0);
            let mut acc = [zero(); T];
            acc[..tokens].iter_mut().zip(&*sums).for_each(|(acc, sums)| *acc = numbers(sums));
            for (g, group) in groups.iter().enumerate() {
                ahead.ask(asks);
                let x = x.cut(tokens, SCALES, g, 1);
                $crate::lanes::add_group!(
                    multiply, tokens / N, P, SCALES, BIASES, BITS, group, shifted, x, acc
                );
            }
            sums.iter_mut().zip(&acc[..tokens]).for_each(|(sums, acc)| *sums = store(*acc));
        }

        /// Adds a slab to the sums of one tile, by the kernel for its number of tokens.
        #[target_feature(enable = $features)]
        fn add_tile<
            const P: usize,
            const DWORDS: usize,
            const SCALES: usize,
            const BIASES: usize,
            const BITS: usize,
        >(
            slab: &[Unpacked<SCALES, BIASES, DWORDS>],
            zero_log: Option<usize>,
            at: usize,
            x: View<'_, P>,
            ahead: (&mut Ahead<'_>, usize),
            sums: &mut Sums,
        ) {
            match x.tokens {
                $($($tokens)|+ if is_long(P, BITS, SCALES) => {
                    add_slab::<$most, $fewer, P, DWORDS, SCALES, BIASES, BITS>(
                        slab, zero_log, at, x, ahead, sums,
                    );
                }
                $($tokens)|+ => add_slab::<$most, $together, P, DWORDS, SCALES, BIASES, BITS>(
                    slab, zero_log, at, x, ahead, sums,
                ),)*
                other => panic!("no kernel takes {other} tokens"),
            }
        }

        /// Several tokens: each slab is unpacked once and meets every tile.
        #[target_feature(enable = $features)]
        pub(crate) fn many<
            const P: usize,
            const SCALES: usize,
            const BIASES: usize,
            const BITS: usize,
        >(
            unpack: Slab<SCALES, BIASES>,
            zero_log: Option<usize>,
            panel: Panel<'_>,
            tiles: &[Pack<P>],
            sums: &mut [Sums],
        ) {
            let Panel { bytes: panel, k, mut ahead } = panel;
            let (scale, bias) = ([zero(); SCALES], [zero(); BIASES]);
            let mut slab = [Unpacked { codes: [none(); 8], scale, bias }; 8];
            let mut words = [Unpacked { codes: [none(); 16], scale, bias }; 8];
            let in_words = WORDS && P == 2 && tiles.iter().any(|pack| pack.view().words);
            let sums = &mut sums[..tiles.len()];
            sums.iter_mut().for_each(|sums| *sums = [[0.0; TILE_ROWS]; TOKENS]);
            for at in (0..k / 32).step_by(8) {
                // SAFETY: it needs the features that this function has.
                unsafe { unpack(panel, k, at, &mut slab) };
                let groups = 8.min(k / 32 - at);
                if in_words {
                    for (words, group) in words[..groups].iter_mut().zip(&slab) {
                        let (scale, bias) = (group.scale, group.bias);
                        *words = Unpacked { codes: widen(&group.codes, zero_log), scale, bias };
                    }
                }
                let (slab, words) = (&slab[..groups], &words[..groups]);
                let mut asks = (panel.len() / LINE).div_ceil(k / 32); // of the first tile alone
                for (pack, sums) in tiles.iter().zip(&mut *sums) {
                    let x = pack.view();
                    let ahead = (&mut ahead, std::mem::take(&mut asks));
                    if in_words && x.words {
                        add_tile::<P, 16, SCALES, BIASES, WORD>(words, None, at, x, ahead, sums);
                    } else {
                        add_tile::<P, 8, SCALES, BIASES, BITS>(slab, zero_log, at, x, ahead, sums);
                    }
                }
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
