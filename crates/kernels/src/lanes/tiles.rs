//! The loop over tokens: unpacked weights, of whatever format, against the tokens of a tile.

/// Adds one group to the sums of T tokens, N of them side by side. A macro, for a function of this
/// size is not inlined, and loops, for a closure given to `array::map` is not inlined either: what
/// passes between functions passes through memory. `x`: the group's part of the activations.
macro_rules! add_group {
    ($t:tt / $n:tt, $p:tt, $scales:tt, $biases:tt, $bits:tt,
     $group:expr, $zero:expr, $x:expr, $acc:expr) => {{
        const HALF: [usize; 3] = [0, 8, 4];
        let (group, x) = ($group, $x);
        for from in (0..$t).step_by($n) {
            // Cut once, so that nothing is checked inside.
            let acc = &mut $acc[from..from + $n];
            let d = &x.d[from..from + $n];
            for s in 0..$scales {
                let half = HALF[$scales];
                let sums = s * $t + from..s * $t + from + $n;
                let mut planes = [[none(); $n]; $p];
                for first in (s * half..(s + 1) * half).step_by(exact($bits).min(half)) {
                    let mut parts = [[none(); $n]; $p];
                    for plane in 0..$p {
                        for n in 0..$n {
                            parts[plane][n] = open(planes[plane][n]);
                        }
                    }
                    for j in first..first + exact($bits).min(half) {
                        for plane in 0..$p {
                            let dwords = &x.planes[plane][4 * (j * $t + from)..][..4 * $n];
                            for n in 0..$n {
                                let x = dword(&dwords[4 * n..]);
                                parts[plane][n] =
                                    multiply::<$bits>(parts[plane][n], group.codes[j], x);
                            }
                        }
                    }
                    for plane in 0..$p {
                        for n in 0..$n {
                            planes[plane][n] = close(planes[plane][n], parts[plane][n]);
                        }
                    }
                }
                let mut sum = planes[0];
                for plane in 1..$p {
                    for n in 0..$n {
                        sum[n] = add(shl(sum[n], 7), planes[plane][n]);
                    }
                }
                if let (Some(log), 0) = ($zero, $biases) {
                    let nsum = &x.nsum[sums.clone()];
                    for n in 0..$n {
                        sum[n] = add(sum[n], shl(int(nsum[n]), log));
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
/// fewer, where parts of sums take registers of their own all the while (`is_long`). A tile with
/// just its most tokens keeps their sums in registers, and a smaller one loops over them.
macro_rules! tiles {
    ($features:literal,
     [$($($tokens:literal)|+ => $most:literal / $together:literal, $fewer:literal)*]) => {
        use $crate::tile::pack::{Pack, View};
        use $crate::tile::{ROWS as TILE_ROWS, Sums, TOKENS};

        /// 32 codes of sixteen rows: dword j of each lane holds k = 4 j .. 4 j + 4.
        #[derive(Clone, Copy)]
        pub(crate) struct Unpacked<const SCALES: usize, const BIASES: usize> {
            pub codes: [I; 8],
            pub scale: [F; SCALES],
            pub bias: [F; BIASES],
        }

        /// Unpacks the eight groups from the given one on: panel, k, group.
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        type Slab<const SCALES: usize, const BIASES: usize> =
            unsafe fn(&[u8], usize, usize, &mut [Unpacked<SCALES, BIASES>; 8]);

        /// Adds `groups` of the slab, the first of them at `at`, to the sums of one tile. Asks for
        /// what lies ahead of these bytes, a share with each group.
        #[target_feature(enable = $features)]
        fn add_slab<
            const T: usize,
            const N: usize,
            const P: usize,
            const SCALES: usize,
            const BIASES: usize,
            const BITS: usize,
        >(
            groups: &[Unpacked<SCALES, BIASES>],
            zero_log: Option<usize>,
            at: usize,
            x: View<'_, P>,
            bytes: &[u8],
            sums: &mut Sums,
        ) {
            // Codes of 8 bits may be multiplied without their zero point.
            let tokens = if LOOPED && T > N { x.tokens } else { T };
            let zero_log = if CENTRED && BITS == 8 { None } else { zero_log };
            let x = x.groups(SCALES);
            let mut acc = [zero(); T];
            acc[..tokens].iter_mut().zip(&*sums).for_each(|(acc, sums)| *acc = numbers(sums));
            for (g, group) in groups.iter().enumerate() {
                let share = |g: usize| bytes.len() * g / groups.len();
                prefetch(&bytes[share(g)..share(g + 1)]);
                let x = x.cut(tokens, SCALES, at + g, 1);
                $crate::lanes::add_group!(
                    tokens / N, P, SCALES, BIASES, BITS, group, zero_log, x, acc
                );
            }
            sums.iter_mut().zip(&acc[..tokens]).for_each(|(sums, acc)| *sums = store(*acc));
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
            panel: &[u8],
            k: usize,
            tiles: &[Pack<P>],
            sums: &mut [Sums],
        ) {
            let nothing =
                Unpacked { codes: [none(); 8], scale: [zero(); SCALES], bias: [zero(); BIASES] };
            let mut slab = [nothing; 8];
            let sums = &mut sums[..tiles.len()];
            sums.iter_mut().for_each(|sums| *sums = [[0.0; TILE_ROWS]; TOKENS]);
            for at in (0..k / 32).step_by(8) {
                // SAFETY: it needs the features that this function has.
                unsafe { unpack(panel, k, at, &mut slab) };
                let slab = &slab[..8.min(k / 32 - at)];
                let place = |group: usize| panel.len() * group / (k / 32);
                let mut bytes = &panel[place(at)..place(at + slab.len())];
                for (pack, sums) in tiles.iter().zip(&mut *sums) {
                    let x = pack.view();
                    match x.tokens {
                        $($($tokens)|+ if is_long(P, BITS) => {
                            add_slab::<$most, $fewer, P, SCALES, BIASES, BITS>(
                                slab, zero_log, at, x, bytes, sums,
                            );
                        }
                        $($tokens)|+ => add_slab::<$most, $together, P, SCALES, BIASES, BITS>(
                            slab, zero_log, at, x, bytes, sums,
                        ),)*
                        other => panic!("no kernel takes {other} tokens"),
                    }
                    bytes = &[];
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
