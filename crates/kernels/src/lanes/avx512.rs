//! Sixteen rows as one 512-bit vector: AVX-512 with VNNI.
#![allow(unsafe_code)] // vector loads and stores on checked slices

use std::arch::asm;
use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_prefetch,
    _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_mullo_epi32,
    _mm512_or_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_sll_epi32, _mm512_srl_epi32, _mm512_storeu_ps, _mm512_sub_epi32,
    _mm512_xor_si512,
};
use std::sync::atomic::{Ordering, compiler_fence};

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
    /// Sixteen numbers, stored in half.
    fn half_numbers(lanes: &[F16; ROWS]) -> F {
        // SAFETY: 32 readable bytes; the load needs no alignment.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) })
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
    /// Asks for the bytes some blocks ahead, here and now: requests that a compiler gathers in one
    /// place fill the queue of misses and halve the speed of a stream.
    fn prefetch(block: &[u8]) -> () {
        for line in (0..block.len()).step_by(64) {
            let ahead = block.as_ptr().wrapping_add(line + AHEAD);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        compiler_fence(Ordering::SeqCst);
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
    [16 => 16 / 4, 4 8 => 8 / 4, 4 4 => 4 / 4, 4 2 => 2 / 2, 2 1 => 1 / 1, 1]
}

/// How far ahead of the block in work memory is asked for.
const AHEAD: usize = 8192;

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
const fn is_long(_planes: usize, _bits: usize, _scales: usize) -> bool {
    false
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

/// Four tokens are multiplied abreast.
pub(crate) const ABREAST: bool = true;

/// `with_four!("c0", "x0")`: products of one vector of codes with four tokens' dwords at `x0`.
macro_rules! with_four {
    ($codes:literal, $at:literal) => {
        concat!(
            "vpdpbusd {p0}, {",
            $codes,
            "}, dword ptr [{x} + {",
            $at,
            "}]{{1to16}}\n",
            "vpdpbusd {p1}, {",
            $codes,
            "}, dword ptr [{x} + {",
            $at,
            "} + 4]{{1to16}}\n",
            "vpdpbusd {p2}, {",
            $codes,
            "}, dword ptr [{x} + {",
            $at,
            "} + 8]{{1to16}}\n",
            "vpdpbusd {p3}, {",
            $codes,
            "}, dword ptr [{x} + {",
            $at,
            "} + 12]{{1to16}}\n",
        )
    };
}

/// Adds the products of four vectors of codes with four of the T tokens that lie side by side, in
/// this order and from one register: a compiler finishes token after token, each a chain of
/// products that wait for one another, and is slower by a third.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn multiply_abreast<const T: usize>(parts: &mut [I; 4], codes: &[I; 4], x: &[u8]) {
    assert!(x.len() >= 4 * (3 * T + 4), "four dwords of four tokens");
    let ([p0, p1, p2, p3], [c0, c1, c2, c3]) = (parts, codes);
    // SAFETY: it reads no further than was asserted, and changes nothing but the parts.
    unsafe {
        asm!(
            with_four!("c0", "x0"),
            with_four!("c1", "x1"),
            with_four!("c2", "x2"),
            with_four!("c3", "x3"),
            p0 = inout(zmm_reg) *p0,
            p1 = inout(zmm_reg) *p1,
            p2 = inout(zmm_reg) *p2,
            p3 = inout(zmm_reg) *p3,
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
