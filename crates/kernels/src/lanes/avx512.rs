//! Sixteen rows as one 512-bit vector: AVX-512 with VNNI.
#![allow(unsafe_code)] // vector loads and stores on checked slices

use std::arch::asm;
use std::arch::x86_64::{
    __m512, __m512i, _CMP_GE_OQ, _MM_HINT_T1, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_prefetch,
    _mm_storeu_si128, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_max_epu32, _mm512_mul_ps, _mm512_mullo_epi32, _mm512_or_si512,
    _mm512_reduce_add_epi32, _mm512_reduce_max_epu32, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4,
    _mm512_sll_epi32, _mm512_slli_epi32, _mm512_srai_epi32, _mm512_srl_epi32, _mm512_storeu_ps,
    _mm512_storeu_si512, _mm512_sub_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::heads::{ANY, USUAL};
use crate::activation::{OUTLIER, ROUNDER, Row, TOO_LARGE, TOO_SMALL, largest};
use crate::attention::{BLOCK, Element, F16, GROUP, PAGE, Page, Stored, TILE, scales};
use crate::tile::ROWS;

/// Sixteen i32, or sixteen times four bytes.
pub(crate) type I = __m512i;
/// Sixteen f32.
pub(crate) type F = __m512;

/// Declares operations that need the instruction set and are safe where it is enabled.
macro_rules! operations {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty $body:block)*) => {
        $($(#[$doc])*
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        #[inline]
        pub(crate) fn $name($($arg: $ty),*) -> $ret $body)*
    };
}

operations! {
    /// Zeros.
    fn none() -> I { _mm512_setzero_si512() }
    /// Zeros.
    fn zero() -> F { _mm512_setzero_ps() }
    /// The same integer in every lane.
    fn int(x: i32) -> I { _mm512_set1_epi32(x) }
    /// The same number in every lane.
    fn float(x: f32) -> F { _mm512_set1_ps(x) }
    /// Four bytes in every lane.
    fn dword(bytes: &[u8]) -> I {
        let dword = bytes.first_chunk().expect("four bytes");
        _mm512_set1_epi32(i32::from_le_bytes(*dword))
    }
    /// 64 bytes.
    fn load(block: &[u8], at: usize) -> I {
        let bytes: &[u8] = &block[at..at + 64];
        // SAFETY: 64 readable bytes; the load needs no alignment.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }
    /// A byte per lane, without sign.
    fn bytes(block: &[u8], at: usize) -> I {
        let bytes: &[u8] = &block[at..at + 16];
        // SAFETY: 16 readable bytes; the load needs no alignment.
        _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }
    /// A byte per lane, with sign.
    fn signed(block: &[u8], at: usize) -> I {
        let bytes: &[u8] = &block[at..at + 16];
        // SAFETY: 16 readable bytes; the load needs no alignment.
        _mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }
    /// Two bytes per lane, without sign.
    fn words(block: &[u8], at: usize) -> I {
        let bytes: &[u8] = &block[at..at + 32];
        // SAFETY: 32 readable bytes; the load needs no alignment.
        _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
    }
    /// An f16 per lane.
    fn halves(block: &[u8], at: usize) -> F {
        let bytes: &[u8] = &block[at..at + 32];
        // SAFETY: 32 readable bytes; the load needs no alignment.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
    }
    /// x & mask in every lane.
    fn and(x: I, mask: u32) -> I { _mm512_and_si512(x, _mm512_set1_epi32(mask as i32)) }
    /// x | y
    fn or(x: I, y: I) -> I { _mm512_or_si512(x, y) }
    /// x ^ mask in every lane.
    fn xor(x: I, mask: u32) -> I { _mm512_xor_si512(x, _mm512_set1_epi32(mask as i32)) }
    /// x >> n, zeros coming in.
    fn shr(x: I, n: usize) -> I { _mm512_srl_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    /// x << n
    fn shl(x: I, n: usize) -> I { _mm512_sll_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    /// x + y
    fn add(x: I, y: I) -> I { _mm512_add_epi32(x, y) }
    /// x - y
    fn sub(x: I, y: I) -> I { _mm512_sub_epi32(x, y) }
    /// x * y, the low half
    fn times(x: I, y: i32) -> I { _mm512_mullo_epi32(x, _mm512_set1_epi32(y)) }
    /// table[byte] for every byte below 16.
    fn lookup(table: &[u8; 16], x: I) -> I {
        // SAFETY: 16 readable bytes; the load needs no alignment.
        let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
        _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), x)
    }
    /// The nearest f32 of every lane.
    fn number(x: I) -> F { _mm512_cvtepi32_ps(x) }
    /// The lanes' bits as f32.
    fn bits(x: I) -> F { _mm512_castsi512_ps(x) }
    /// x * y
    fn mul(x: F, y: F) -> F { _mm512_mul_ps(x, y) }
    /// x + y
    fn plus(x: F, y: F) -> F { _mm512_add_ps(x, y) }
    /// x * y + z, rounded once
    fn fma(x: F, y: F, z: F) -> F { _mm512_fmadd_ps(x, y, z) }
    /// -x
    fn negate(x: F) -> F { bits(xor(_mm512_castps_si512(x), 0x8000_0000)) }
    /// Sixteen numbers.
    fn numbers(lanes: &[f32; ROWS]) -> F {
        // SAFETY: 64 readable bytes; the load needs no alignment.
        unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
    }
    /// Sixteen numbers, stored in half. From memory: from a register it takes a shuffle as well,
    /// and a compiler loads them into one.
    fn half_numbers(lanes: &[F16; ROWS]) -> F {
        let numbers;
        // SAFETY: 32 readable bytes, which it reads and nothing else.
        unsafe {
            asm!(
                "vcvtph2ps {numbers}, ymmword ptr [{lanes}]",
                numbers = lateout(zmm_reg) numbers,
                lanes = in(reg) lanes.as_ptr(),
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        numbers
    }
    /// Sixteen codes.
    fn code_numbers(lanes: &[i8; ROWS]) -> F {
        // SAFETY: 16 readable bytes; the load needs no alignment.
        let codes = unsafe { _mm_loadu_si128(lanes.as_ptr().cast()) };
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))
    }
    /// The lanes.
    fn store(x: F) -> [f32; ROWS] {
        let mut lanes = [0.0; ROWS];
        // SAFETY: 64 writable bytes; the store needs no alignment.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), x) };
        lanes
    }
}

super::floats! { "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c", [8 4 2 1] }
super::heads! {
    "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c",
    score [8 x 2 4 x 4 2 x 4 1 x 4], weigh [8 x 2 4 x 4 2 x 4 1 x 8]
}
super::shared_parts! { "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c" }
super::tiles! {
    "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c",
    [16 => 16 / 8, 4 8 => 8 / 8, 4 4 => 4 / 4, 4 2 => 2 / 2, 2 1 => 1 / 1, 1]
}

/// Codes of 8 bits are multiplied as they are, without sign.
pub(crate) const CENTRED: bool = false;

/// All codes are alike to `multiply`.
pub(crate) const fn dot_class(_bits: usize) -> usize {
    8
}

/// Planes are bytes, however many tokens there are.
pub(crate) const WORDS: bool = false;

/// The class of codes in words, of which there are none.
const WORD: usize = 8;

/// Products that a part holds exactly.
pub(crate) const fn exact(_bits: usize) -> usize {
    8
}

/// Whether sums are kept beside their parts.
const fn is_long(planes: usize, _bits: usize, scales: usize) -> bool {
    planes == 2 || scales == 2
}

/// A part of a sum, to which products are added: here the sum itself.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn open<const BITS: usize>(sum: I) -> I {
    sum
}

/// The sum with its part.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn close<const BITS: usize>(_sum: I, part: I) -> I {
    part
}

/// part + the four products of bytes, codes without and x with sign.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn multiply<const BITS: usize>(part: I, codes: I, x: I) -> I {
    _mm512_dpbusd_epi32(part, codes, x)
}

/// A sum has no halves.
pub(crate) use multiply as multiply_in_step;

/// Fills a row of activations. What is no ordinary block is left to the definition.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(crate) fn quantise<const P: usize>(x: &[f32], row: &mut Row<P>) {
    for (at, block) in row.begin(x).iter().enumerate() {
        let [low, high] = block.as_chunks::<ROWS>().0 else { unreachable!("two vectors") };
        let x = [numbers(low), numbers(high)];
        let mut sizes = [none(); 2];
        for half in 0..2 {
            sizes[half] = and(_mm512_castps_si512(x[half]), 0x7fff_ffff);
        }
        let top = _mm512_reduce_max_epu32(_mm512_max_epu32(sizes[0], sizes[1]));
        let mut ordinary = (TOO_SMALL.to_bits()..TOO_LARGE.to_bits()).contains(&top);
        let amax = f32::from_bits(top);
        if P == 1 {
            let mut rivals = 0;
            for size in sizes {
                let size = mul(float(OUTLIER), bits(size));
                rivals += _mm512_cmp_ps_mask::<_CMP_GE_OQ>(size, float(amax)).count_ones();
            }
            ordinary &= rivals != 1;
        }
        if !ordinary {
            row.fill_block(at, block);
            continue;
        }
        let inverse = float(largest(P) / amax);
        row.d[at] = amax / largest(P);
        for (half, x) in x.into_iter().enumerate() {
            let rounded = plus(mul(x, inverse), float(ROUNDER));
            let code = sub(_mm512_castps_si512(rounded), int(ROUNDER.to_bits() as i32));
            row.sums[2 * at + half] = _mm512_reduce_add_epi32(code);
            let mut parts = [code; P];
            if P == 2 {
                parts[0] = _mm512_srai_epi32::<7>(add(code, int(64)));
                parts[1] = sub(code, _mm512_slli_epi32::<7>(parts[0]));
            }
            for (plane, part) in row.planes.iter_mut().zip(parts) {
                let plane = &mut plane.as_chunks_mut::<ROWS>().0[2 * at + half];
                let bytes = _mm512_cvtepi32_epi8(part);
                // SAFETY: 16 writable bytes; the store needs no alignment.
                unsafe { _mm_storeu_si128(plane.as_mut_ptr().cast(), bytes) };
            }
        }
    }
}

/// Dwords of sixteen rows side by side, [dwords, 16], a cache line of each at a time; returns how
/// many dwords that were.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(crate) fn interleave(rows: &[&[u8]; ROWS], to: &mut [u8]) -> usize {
    let lines = to.as_chunks_mut::<64>().0.as_chunks_mut::<ROWS>().0;
    let whole = lines.len();
    for (i, lines) in lines.iter_mut().enumerate() {
        let mut x = [none(); ROWS];
        for (x, row) in x.iter_mut().zip(rows) {
            *x = load(row, 64 * i);
        }
        // Dwords of two rows, pairs of them of four, and quarters of vectors of all.
        let mut pairs = [none(); ROWS];
        for r in (0..ROWS).step_by(2) {
            pairs[r] = _mm512_unpacklo_epi32(x[r], x[r + 1]);
            pairs[r + 1] = _mm512_unpackhi_epi32(x[r], x[r + 1]);
        }
        for r in (0..ROWS).step_by(4) {
            for half in 0..2 {
                let (first, second) = (pairs[r + half], pairs[r + 2 + half]);
                x[r + 2 * half] = _mm512_unpacklo_epi64(first, second);
                x[r + 2 * half + 1] = _mm512_unpackhi_epi64(first, second);
            }
        }
        for c in 0..4 {
            let low = _mm512_shuffle_i32x4::<0x44>(x[c], x[c + 4]);
            let high = _mm512_shuffle_i32x4::<0xee>(x[c], x[c + 4]);
            let next_low = _mm512_shuffle_i32x4::<0x44>(x[c + 8], x[c + 12]);
            let next_high = _mm512_shuffle_i32x4::<0xee>(x[c + 8], x[c + 12]);
            for (quarter, column) in [
                _mm512_shuffle_i32x4::<0x88>(low, next_low),
                _mm512_shuffle_i32x4::<0xdd>(low, next_low),
                _mm512_shuffle_i32x4::<0x88>(high, next_high),
                _mm512_shuffle_i32x4::<0xdd>(high, next_high),
            ]
            .into_iter()
            .enumerate()
            {
                // SAFETY: 64 writable bytes; the store needs no alignment.
                unsafe { _mm512_storeu_si512(lines[4 * quarter + c].as_mut_ptr().cast(), column) };
            }
        }
    }
    whole * ROWS
}

/// Most tokens that are multiplied abreast.
pub(crate) const ABREAST: usize = 8;

/// `products!("c0", "x0": "p0" "0", ..)`: products of one vector of codes with dwords so far behind
/// `x0`.
macro_rules! products {
    ($codes:literal, $at:literal: $($part:literal $place:literal),*) => {
        concat!($(
            "vpdpbusd {", $part, "}, {", $codes, "}, dword ptr [{x} + {", $at, "} + ", $place,
            "]{{1to16}}\n",
        )*)
    };
}

/// Declares the products of four vectors of codes with some of the T tokens that lie side by side,
/// in this order and from one register: a compiler finishes token after token, each a chain of
/// products that wait for one another, and is slower by a third.
macro_rules! abreast {
    ($name:ident, $tokens:literal: $($part:ident $label:literal $place:literal),*) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        #[inline]
        fn $name<const T: usize>(parts: &mut [I; $tokens], codes: &[I; 4], x: &[u8]) {
            assert!(x.len() >= 4 * (3 * T + $tokens), "four dwords of each token");
            let ([$($part),*], [c0, c1, c2, c3]) = (parts, codes);
            // SAFETY: it reads no further than was asserted, and changes nothing but the parts.
            unsafe {
                asm!(
                    products!("c0", "x0": $($label $place),*),
                    products!("c1", "x1": $($label $place),*),
                    products!("c2", "x2": $($label $place),*),
                    products!("c3", "x3": $($label $place),*),
                    $($part = inout(zmm_reg) *$part,)*
                    c0 = in(zmm_reg) *c0,
                    c1 = in(zmm_reg) *c1,
                    c2 = in(zmm_reg) *c2,
                    c3 = in(zmm_reg) *c3,
                    x = in(reg) x.as_ptr(),
                    x0 = const 0,
                    x1 = const 4 * T,
                    x2 = const 8 * T,
                    x3 = const 12 * T,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
        }
    };
}
abreast! {
    multiply_four, 4: p0 "p0" "0", p1 "p1" "4", p2 "p2" "8", p3 "p3" "12"
}
abreast! {
    multiply_eight, 8: p0 "p0" "0", p1 "p1" "4", p2 "p2" "8", p3 "p3" "12",
    p4 "p4" "16", p5 "p5" "20", p6 "p6" "24", p7 "p7" "28"
}

/// Adds the products of four vectors of codes with four or eight of the T tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn multiply_abreast<const T: usize>(parts: &mut [I], codes: &[I; 4], x: &[u8]) {
    match parts.len() {
        8 => multiply_eight::<T>(parts.first_chunk_mut().expect("eight"), codes, x),
        _ => multiply_four::<T>(parts.first_chunk_mut().expect("four"), codes, x),
    }
}

/// The same block: there are enough registers for what several groups read.
#[inline(always)]
pub(crate) fn unread<const BYTES: usize>(block: &[u8; BYTES]) -> &[u8; BYTES] {
    block
}

/// Codes as words, of which there are none.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn widen(_codes: &[I; 8], _zero: Option<usize>) -> [I; 16] {
    unreachable!("planes are bytes")
}

/// Whether a tile with more tokens than run side by side loops over as many as it has.
const LOOPED: bool = false;

/// Most tokens that are multiplied while weights unpack, of one plane and of two.
pub(crate) const DIRECT_MOST: [usize; 2] = [4, 4];
