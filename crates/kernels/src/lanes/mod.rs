//! Panel kernels: the products of sixteen rows, written once over vectors whose lanes are rows.
//!
//! Each instruction set has a module with the same few operations on `I` (sixteen i32, or sixteen
//! times four bytes) and `F` (sixteen f32). [`kernels!`] compiles a format's way of unpacking a
//! group of 32 codes, and the loop around it, against each of them.
//!
//! A few tokens are multiplied while weights of a common format unpack. More of them share what is
//! unpacked: a slab of eight groups, which then meets every token of the tile. Slabs look the same
//! for every format, so that the loop over tokens, in `tiles.rs`, is compiled once for all of them.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx_vnni;
mod floats;
mod heads;
mod parts;
mod tiles;

use std::slice;

use crate::Isa;
use crate::activation::Row;
use crate::isa::Level;
use crate::quant::FloatFormat;
use crate::tile::pack::Pack;
use crate::tile::{self, Panel, Sums};

pub(crate) use heads::{read, score, weigh};
pub(crate) use tiles::add_group;
use {floats::floats, heads::heads};
#[cfg(target_arch = "x86_64")]
use {parts::shared_parts, tiles::tiles};

/// Most tokens that AVX2 multiplies in two planes of bytes while weights unpack; more are words.
pub(crate) const PLANES_MOST: usize = 2;

/// A kernel: panel, tiles of tokens, the sums of each.
pub(crate) type Kernel<const P: usize> = fn(Panel<'_>, &[Pack<P>], &mut [Sums]);

/// Kernels for narrow and for wide activations.
pub(crate) type Pair = (Kernel<1>, Kernel<2>);

/// A format's kernels, by instruction set. Without one, the definition runs.
#[derive(Clone, Copy)]
pub struct Kernels(pub(crate) &'static [(Level, Pair)]);

impl Kernels {
    /// Those of one instruction set.
    pub(crate) fn of(&self, level: Level) -> Option<Pair> {
        self.0.iter().find(|(known, _)| *known == level).map(|(_, pair)| *pair)
    }
}

/// Fills a row of activations, where the instruction set has a kernel for that.
#[allow(unsafe_code)]
pub(crate) fn quantise<const P: usize>(isa: Isa, x: &[f32], row: &mut Row<P>) -> bool {
    #[cfg(target_arch = "x86_64")]
    if isa.level() == Level::Avx512 {
        // SAFETY: this Isa exists only on processors with these features.
        unsafe { avx512::quantise(x, row) };
        return true;
    }
    let _ = (isa, x, row);
    false
}

/// Numbers whose bytes may be anything.
pub(crate) trait Plain: Copy {}
impl Plain for i8 {}
impl Plain for i32 {}
impl Plain for f32 {}

/// Their bytes.
#[allow(unsafe_code)]
pub(crate) fn bytes<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: as many bytes, which need no alignment; they have no padding.
    unsafe { slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// Their bytes, to be written.
#[allow(unsafe_code)]
pub(crate) fn bytes_mut<T: Plain>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: as above; whatever is written is a number.
    unsafe { slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// Dwords of some rows side by side: [dwords, rows].
#[allow(unsafe_code)]
pub(crate) fn interleave(isa: Isa, rows: &[&[u8]], to: &mut [u8]) {
    if let [row] = rows {
        return to.copy_from_slice(row);
    }
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if let (Level::Avx512, Some(rows)) = (isa.level(), rows.first_chunk()) {
        // SAFETY: this Isa exists only on processors with these features.
        done = unsafe { avx512::interleave(rows, to) };
    }
    let _ = isa;
    let dwords = to.chunks_exact_mut(4 * rows.len().max(1)).enumerate().skip(done);
    for (i, dwords) in dwords {
        for (to, row) in dwords.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            to.copy_from_slice(&row[4 * i..4 * i + 4]);
        }
    }
}

/// Float weights with float activations.
#[allow(unsafe_code)]
pub(crate) fn float_tile<W: FloatFormat>(
    isa: Isa,
    panel: Panel<'_>,
    tokens: &[&[f32]],
    sums: &mut Sums,
) {
    match isa.level() {
        Level::Scalar => tile::float_definition::<W>(panel, tokens, sums),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this Isa exists only on processors with these features.
        Level::Avx512 => unsafe { avx512::float_panel::<W>(panel, tokens, sums) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        _ => unsafe { avx2::float_panel::<W>(panel, tokens, sums) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("it is not on this processor"),
    }
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
            const $g: usize = if $n < $count { $n } else { 0 };
            $body
        })*
    };
}
pub(crate) use unrolled;

/// The kernels of a format from its group. `bits`: the width of its codes; `zero`: the logarithm of
/// the zero point, `direct` the most tokens that are worth a loop of their own, without a slab.
macro_rules! kernels {
    ($format:ident, bits $bits:literal, zero $zero:expr, direct $direct:literal,
     |$head:ident, $block:ident, $g:ident| $body:block) => {
        $crate::lanes::kernels! { @
            [avx2 Avx2 "avx2,fma,f16c"]
            [avx_vnni AvxVnni "avxvnni,avx2,fma,f16c"]
            [avx512 Avx512 "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c"]
            $format, $bits, $zero, $direct, |$head, $block, $g| $body
        }
    };
    (@ $([$isa:ident $level:ident $features:literal])*
     $format:ident, $bits:literal, $zero:expr, $direct:literal,
     |$head:ident, $block:ident, $g:ident| $body:block) => {
        $(#[cfg(target_arch = "x86_64")]
        mod $isa {
            use super::*;
            #[allow(clippy::wildcard_imports)]
            use $crate::lanes::$isa::*;
            $crate::lanes::kernel_body! {
                $features, $format, $bits, $zero, $direct, |$head, $block, $g| $body
            }
        })*

        const KERNELS: $crate::lanes::Kernels = $crate::lanes::Kernels(&[
            $(#[cfg(target_arch = "x86_64")]
            ($crate::isa::Level::$level, ($isa::narrow, $isa::wide)),)*
        ]);
    };
}
pub(crate) use kernels;

/// What [`kernels!`] puts into the module of one instruction set.
macro_rules! kernel_body {
    ($features:literal, $format:ident, $bits:literal, $zero:expr, $direct:literal,
     |$head:ident, $block:ident, $g:ident| $body:block) => {
        #[allow(unused_imports)] // not every format needs both
        use $crate::lanes::{both, each};
        use $crate::tile::pack::{Pack, View};
        use $crate::quant::QuantFormat;
        use $crate::quant::layout::layout;
        use $crate::tile::ahead::{LINE, gathers};
        use $crate::tile::{Panel, Sums};

        const HEAD: usize = layout::<$format>().part(true);
        const BLOCK: usize = layout::<$format>().part(false);
        const SCALES: usize = 32 / $format::GROUP;
        const BIASES: usize = if $format::BIASED { SCALES } else { 0 };
        const GROUPS: usize = $format::BLOCK / 32;
        const BITS: usize = dot_class($bits);
        /// Most tokens without a slab.
        const fn direct_most(planes: usize) -> usize {
            let most = DIRECT_MOST[planes - 1];
            if $direct < most { $direct } else { most }
        }
        const ZERO: Option<usize> = $zero;
        /// Codes of 8 bits may be multiplied without their zero point.
        const FIRST: Option<usize> = if CENTRED && BITS == 8 { None } else { ZERO };

        /// Lines of a block and its share of the head.
        const LINES: usize = (HEAD + BLOCK).div_ceil(LINE);

        /// How many lines of what lies ahead a group asks for, where the first of every so many
        /// asks for all of them: those of a block for as many as the block has.
        const fn asks(group: usize, every: usize) -> usize {
            if group.is_multiple_of(every) {
                LINES * (group + every) / GROUPS - LINES * group / GROUPS
            } else {
                0
            }
        }

        /// Groups whose lines are some thirty, which [`gathers`] wants asked for at once.
        const GATHERED: usize = {
            let mut groups = GROUPS;
            while groups.is_multiple_of(2) && LINES * groups / GROUPS > 40 {
                groups /= 2;
            }
            groups
        };

        type Group = Unpacked<SCALES, BIASES>;

        #[target_feature(enable = $features)]
        #[inline]
        #[allow(unused_variables)] // not every format has a head, or groups that differ
        fn group<const $g: usize>($head: &[u8; HEAD], $block: &[u8; BLOCK]) -> Group $body

        /// One block's share of the head, and the block.
        #[inline]
        fn part(panel: &[u8], k: usize, block: usize) -> (&[u8; HEAD], &[u8; BLOCK]) {
            let (heads, blocks) = panel.split_at(layout::<$format>().head_bytes(k));
            let head = heads[block * HEAD..].first_chunk().expect("a head per block");
            (head, &blocks.as_chunks::<BLOCK>().0[block])
        }

        /// The eight groups from `at` on; those beyond the last are any.
        #[target_feature(enable = $features)]
        fn slab(panel: &[u8], k: usize, at: usize, slab: &mut [Group; 8]) {
            let last = k / $format::BLOCK - 1;
            for (i, groups) in slab.chunks_exact_mut(GROUPS).enumerate() {
                let (head, block) = part(panel, k, (at / GROUPS + i).min(last));
                $crate::lanes::unrolled!(GROUPS, G => { groups[G] = group::<G>(head, block) });
            }
        }

        /// T tokens, multiplied while the weights unpack; every so many groups ask for what lies
        /// ahead.
        #[target_feature(enable = $features)]
        fn direct<const T: usize, const P: usize, const EVERY: usize>(
            panel: Panel<'_>,
            x: View<'_, P>,
            sums: &mut Sums,
        ) {
            let (heads, blocks) = panel.bytes.split_at(layout::<$format>().head_bytes(panel.k));
            let (mut acc, groups, mut ahead) = ([zero(); T], x.groups(SCALES), panel.ahead);
            for (b, block) in blocks.as_chunks::<BLOCK>().0.iter().enumerate() {
                let head = heads[b * HEAD..].first_chunk::<HEAD>().expect("a head per block");
                let x = groups.cut(T, SCALES, b * GROUPS, GROUPS);
                $crate::lanes::unrolled!(GROUPS, G => {
                    ahead.ask(const { asks(G, EVERY) });
                    let (group, x) = (group::<G>(head, unread(block)), x.cut(T, SCALES, G, 1));
                    $crate::lanes::add_group!(
                        multiply_in_step, T / T, P, SCALES, BIASES, BITS, &group, FIRST, x, acc
                    )
                });
            }
            sums.iter_mut().zip(acc).for_each(|(sums, acc)| *sums = store(acc));
        }

        /// acc = fma(w, x, acc) for every outlier, w exact.
        #[target_feature(enable = $features)]
        fn add_outliers<const P: usize>(panel: &[u8], k: usize, x: View<'_, P>, sums: &mut Sums) {
            for outlier in x.outliers {
                let (head, block) = part(panel, k, outlier.index / $format::BLOCK);
                let mut w = zero();
                $crate::lanes::unrolled!(GROUPS, G => {
                    if outlier.index % $format::BLOCK / 32 == G {
                        w = weight(&group::<G>(head, block), outlier.index % 32, ZERO);
                    }
                });
                let sums = &mut sums[outlier.token];
                *sums = store(fma(w, float(outlier.x), numbers(sums)));
            }
        }

        #[allow(unsafe_code)]
        fn run<const P: usize>(panel: Panel<'_>, tiles: &[Pack<P>], sums: &mut [Sums]) {
            let most = const { direct_most(P) };
            let alone = if let [pack] = tiles { pack.view().tokens } else { 0 };
            // SAFETY: kernels are reached only through an `Isa` that this processor has.
            unsafe {
                match alone {
                    1 if most >= 1 && gathers() => {
                        direct::<1, P, GATHERED>(panel, tiles[0].view(), &mut sums[0]);
                    }
                    1 if most >= 1 => direct::<1, P, 1>(panel, tiles[0].view(), &mut sums[0]),
                    2 if most >= 2 => direct::<2, P, 1>(panel, tiles[0].view(), &mut sums[0]),
                    4 if most >= 4 => direct::<4, P, 1>(panel, tiles[0].view(), &mut sums[0]),
                    _ => many::<P, SCALES, BIASES, BITS>(slab, ZERO, panel, tiles, sums),
                }
                for (pack, sums) in tiles.iter().zip(sums) {
                    if !pack.view().outliers.is_empty() {
                        add_outliers(panel.bytes, panel.k, pack.view(), sums);
                    }
                }
            }
        }

        pub(super) fn narrow(panel: Panel<'_>, tiles: &[Pack<1>], sums: &mut [Sums]) {
            run(panel, tiles, sums);
        }

        pub(super) fn wide(panel: Panel<'_>, tiles: &[Pack<2>], sums: &mut [Sums]) {
            run(panel, tiles, sums);
        }
    };
}
pub(crate) use kernel_body;
