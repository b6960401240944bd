//! Panel kernels: the products of sixteen rows, written once over vectors whose lanes are rows.
//!
//! Each instruction set has a module with the same few operations on `I` (sixteen i32, or sixteen
//! times four bytes) and `F` (sixteen f32). [`kernels!`] compiles a format's way of unpacking a
//! group of 32 codes, and the loop around it, against each of them.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use crate::tile::Sums;
use crate::tile::pack::View;

/// A kernel: panel, k, activations, [token][row] sums.
pub(crate) type Kernel<const P: usize> = fn(&[u8], usize, View<'_, P>, &mut Sums);

/// A format's kernels. An instruction set without one runs the definition.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub(crate) avx512: Option<(Kernel<1>, Kernel<2>)>,
}

/// `each!(|j| e)`: e for j = 0 .. 7, as an array.
macro_rules! each {
    (|$j:ident| $e:expr) => {
        $crate::lanes::each!(@ $j, $e, 0 1 2 3 4 5 6 7)
    };
    (@ $j:ident, $e:expr, $($n:literal)*) => {
        [$({ let $j = $n; $e }),*]
    };
}
pub(crate) use each;

/// `both!([a, b], |x| e)`: e for x = a and x = b, as an array.
macro_rules! both {
    ($pair:expr, |$x:ident| $e:expr) => {{
        let [first, second] = $pair;
        [
            {
                let $x = first;
                $e
            },
            {
                let $x = second;
                $e
            },
        ]
    }};
}
pub(crate) use both;

/// `unrolled!(count, G => body)`: body for G = 0 .. count, each with its own constant G.
macro_rules! unrolled {
    ($count:ident, $g:ident => $body:block) => {
        $crate::lanes::unrolled!(@ $count, $g, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $count:ident, $g:ident, $body:block, $($n:literal)*) => {
        $(if $n < $count {
            const $g: usize = $n % $count;
            $body
        })*
    };
}
pub(crate) use unrolled;

/// The kernels of a format from its group: `zero` is the logarithm of the zero point.
macro_rules! kernels {
    ($format:ident, zero $zero:expr, |$head:ident, $block:ident, $g:ident| $body:block) => {
        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            use super::*;
            #[allow(clippy::wildcard_imports)]
            use $crate::lanes::avx512::*;
            $crate::lanes::kernel_body! {
                "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c",
                $format, $zero, |$head, $block, $g| $body, [16 8 4 2 1]
            }
        }

        const KERNELS: $crate::lanes::Kernels = $crate::lanes::Kernels {
            #[cfg(target_arch = "x86_64")]
            avx512: Some((avx512::narrow, avx512::wide)),
            #[cfg(not(target_arch = "x86_64"))]
            avx512: None,
        };
    };
}
pub(crate) use kernels;

/// Ways of unpacking that several formats share, from the operations of one instruction set.
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
pub(crate) use shared_parts;

/// What [`kernels!`] puts into the module of one instruction set.
macro_rules! kernel_body {
    ($features:literal, $format:ident, $zero:expr,
     |$head:ident, $block:ident, $g:ident| $body:block, [$($tokens:literal)*]) => {
        #[allow(unused_imports)] // not every format needs both
        use $crate::lanes::{both, each};
        use $crate::tile::pack::View;
        use $crate::quant::QuantFormat;
        use $crate::quant::layout::layout;
        use $crate::tile::Sums;

        const HEAD: usize = layout::<$format>().part(true);
        const BLOCK: usize = layout::<$format>().part(false);
        const SCALES: usize = 32 / $format::GROUP;
        const BIASES: usize = if $format::BIASED { SCALES } else { 0 };
        const GROUPS: usize = $format::BLOCK / 32;

        /// 32 codes of sixteen rows: dword j of each lane holds k = 4 j .. 4 j + 4.
        struct Group {
            codes: [I; 8],
            scale: [F; SCALES],
            bias: [F; BIASES],
        }

        #[target_feature(enable = $features)]
        #[inline]
        #[allow(unused_variables)] // not every format has a head, or groups that differ
        fn group<const $g: usize>($head: &[u8; HEAD], $block: &[u8; BLOCK]) -> Group $body

        /// Adds one group to the sums of T tokens.
        #[target_feature(enable = $features)]
        #[inline]
        fn step<const T: usize, const P: usize, const G: usize>(
            head: &[u8; HEAD],
            block: &[u8; BLOCK],
            x: View<'_, P>,
            at: usize,
            acc: &mut [F; T],
        ) {
            let group = group::<G>(head, block);
            let at = at + G;
            let codes: [&[u8]; P] = x.planes.map(|plane| &plane[at * 32 * T..(at + 1) * 32 * T]);
            let d = &x.d[at * T..(at + 1) * T];
            for t in 0..T {
                for s in 0..SCALES {
                    let part = at * SCALES + s;
                    let first = match $zero {
                        Some(log) => shl(int(x.nsum::<SCALES>()[part * T + t]), log),
                        None => none(),
                    };
                    let half = 8 / SCALES;
                    let mut low = [first, none()];
                    let mut high = [none(), none()];
                    for j in s * half..(s + 1) * half {
                        let from = (j * T + t) * 4;
                        let x = |plane: usize| &codes[plane][from..from + 4];
                        low[j % 2] = dot(low[j % 2], group.codes[j], dword(x(P - 1)));
                        if P == 2 {
                            high[j % 2] = dot(high[j % 2], group.codes[j], dword(x(0)));
                        }
                    }
                    let mut sum = add(low[0], low[1]);
                    if P == 2 {
                        sum = add(sum, shl(add(high[0], high[1]), 7));
                    }
                    acc[t] = fma(number(sum), mul(group.scale[s], float(d[t])), acc[t]);
                    if $format::BIASED {
                        let dsum = x.dsum::<SCALES>()[part * T + t];
                        acc[t] = fma(group.bias[s % BIASES.max(1)], float(dsum), acc[t]);
                    }
                }
            }
        }

        #[target_feature(enable = $features)]
        fn tile<const T: usize, const P: usize>(
            panel: &[u8],
            k: usize,
            x: View<'_, P>,
            sums: &mut Sums,
        ) {
            let (heads, blocks) = panel.split_at(layout::<$format>().head_bytes(k));
            let mut acc = [zero(); T];
            for (b, block) in blocks.as_chunks::<BLOCK>().0.iter().enumerate() {
                let head = heads[b * HEAD..].first_chunk::<HEAD>().expect("a head per block");
                if T == 1 {
                    prefetch(block);
                }
                $crate::lanes::unrolled!(GROUPS, G => {
                    step::<T, P, G>(head, block, x, b * GROUPS, &mut acc)
                });
            }
            for outlier in x.outliers {
                let (at, value) = (outlier.index / $format::BLOCK, outlier.x);
                let block = &blocks.as_chunks::<BLOCK>().0[at];
                let head = heads[at * HEAD..].first_chunk::<HEAD>().expect("a head per block");
                let mut w = zero();
                $crate::lanes::unrolled!(GROUPS, G => {
                    if outlier.index % $format::BLOCK / 32 == G {
                        w = weight::<G>(head, block, outlier.index % 32);
                    }
                });
                for (t, acc) in acc.iter_mut().enumerate() {
                    if t == outlier.token {
                        *acc = fma(w, float(value), *acc);
                    }
                }
            }
            for (sums, acc) in sums.iter_mut().zip(acc) {
                *sums = store(acc);
            }
        }

        /// One weight of each row, exact.
        #[target_feature(enable = $features)]
        fn weight<const G: usize>(head: &[u8; HEAD], block: &[u8; BLOCK], i: usize) -> F {
            let group = group::<G>(head, block);
            let code = and(shr(group.codes[i / 4], 8 * (i % 4)), 0xff);
            let zero: Option<usize> = $zero;
            let code = zero.map_or(code, |log| sub(code, int(1 << log)));
            let w = mul(group.scale[i / $format::GROUP], number(code));
            if $format::BIASED {
                plus(w, group.bias[i / $format::GROUP % BIASES.max(1)])
            } else {
                w
            }
        }

        #[allow(unsafe_code)]
        fn run<const P: usize>(panel: &[u8], k: usize, x: View<'_, P>, sums: &mut Sums) {
            match x.tokens {
                // SAFETY: kernels are reached only through an `Isa` that this processor has.
                $($tokens => unsafe { tile::<$tokens, P>(panel, k, x, sums) },)*
                other => panic!("no kernel takes {other} tokens"),
            }
        }

        pub(super) fn narrow(panel: &[u8], k: usize, x: View<'_, 1>, sums: &mut Sums) {
            run(panel, k, x, sums);
        }

        pub(super) fn wide(panel: &[u8], k: usize, x: View<'_, 2>, sums: &mut Sums) {
            run(panel, k, x, sums);
        }
    };
}
pub(crate) use kernel_body;
