//! Sixteen rows as two 256-bit vectors: AVX2.
//!
//! It has no dot product of bytes that is exact by itself: pairs of products are summed in 16 bits,
//! which hold as many of them as the width of the codes allows.
#![allow(unsafe_code)] // vector loads and stores on checked slices

use std::arch::asm;
use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T1, _mm_cvtsi32_si128, _mm_loadl_epi64, _mm_loadu_si128,
    _mm_prefetch, _mm_setr_epi32, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_add_ps, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_mullo_epi32, _mm256_or_si256,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_sll_epi32, _mm256_srl_epi32, _mm256_storeu_ps,
    _mm256_sub_epi16, _mm256_sub_epi32, _mm256_xor_si256,
};

use super::heads::{ANY, USUAL};
use crate::attention::{BLOCK, Element, F16, GROUP, PAGE, Page, Stored, TILE, scales};
use crate::tile::ROWS;

/// Sixteen i32, or sixteen times four bytes.
pub(crate) type I = [__m256i; 2];
/// Sixteen f32.
pub(crate) type F = [__m256; 2];

/// `twice!(x, |half| e)`: e for both halves of x. Closures aren't inlined where the instruction set
/// is not enabled, as in `array::map`.
macro_rules! twice {
    ($pair:expr, |$x:ident| $e:expr) => {{
        let pair = $pair;
        let (low, high) = (pair[0], pair[1]);
        [
            {
                let $x = low;
                $e
            },
            {
                let $x = high;
                $e
            },
        ]
    }};
}

/// Declares operations that need the instruction set and are safe where it is enabled.
macro_rules! operations {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty $body:block)*) => {
        $($(#[$doc])*
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline]
        pub(crate) fn $name($($arg: $ty),*) -> $ret $body)*
    };
}

operations! {
    /// Zeros.
    fn none() -> I { [_mm256_setzero_si256(); 2] }
    /// Zeros.
    fn zero() -> F { [_mm256_setzero_ps(); 2] }
    /// The same integer in every lane.
    fn int(x: i32) -> I { [_mm256_set1_epi32(x); 2] }
    /// The same number in every lane.
    fn float(x: f32) -> F { [_mm256_set1_ps(x); 2] }
    /// Four bytes in every lane.
    fn dword(bytes: &[u8]) -> I {
        let dword = bytes.first_chunk().expect("four bytes");
        int(i32::from_le_bytes(*dword))
    }
    /// 64 bytes.
    fn load(block: &[u8], at: usize) -> I {
        let bytes: &[u8] = &block[at..at + 64];
        // SAFETY: twice 32 readable bytes; the load needs no alignment.
        unsafe { twice!([0, 32], |at| _mm256_loadu_si256(bytes.as_ptr().add(at).cast())) }
    }
    /// A byte per lane, without sign.
    fn bytes(block: &[u8], at: usize) -> I {
        let bytes: &[u8] = &block[at..at + 16];
        // SAFETY: twice 8 readable bytes; the load needs no alignment.
        let halves = unsafe { twice!([0, 8], |at| _mm_loadl_epi64(bytes.as_ptr().add(at).cast())) };
        twice!(halves, |half| _mm256_cvtepu8_epi32(half))
    }
    /// A byte per lane, with sign.
    fn signed(block: &[u8], at: usize) -> I {
        let bytes: &[u8] = &block[at..at + 16];
        // SAFETY: twice 8 readable bytes; the load needs no alignment.
        let halves = unsafe { twice!([0, 8], |at| _mm_loadl_epi64(bytes.as_ptr().add(at).cast())) };
        twice!(halves, |half| _mm256_cvtepi8_epi32(half))
    }
    /// Two bytes per lane, without sign.
    fn words(block: &[u8], at: usize) -> I {
        let bytes: &[u8] = &block[at..at + 32];
        // SAFETY: twice 16 readable bytes; the load needs no alignment.
        let halves =
            unsafe { twice!([0, 16], |at| _mm_loadu_si128(bytes.as_ptr().add(at).cast())) };
        twice!(halves, |half| _mm256_cvtepu16_epi32(half))
    }
    /// An f16 per lane.
    fn halves(block: &[u8], at: usize) -> F {
        let bytes: &[u8] = &block[at..at + 32];
        // SAFETY: twice 16 readable bytes; the load needs no alignment.
        let halves =
            unsafe { twice!([0, 16], |at| _mm_loadu_si128(bytes.as_ptr().add(at).cast())) };
        twice!(halves, |half| _mm256_cvtph_ps(half))
    }
    /// x & mask in every lane.
    fn and(x: I, mask: u32) -> I {
        twice!(x, |x| _mm256_and_si256(x, _mm256_set1_epi32(mask as i32)))
    }
    /// x | y
    fn or(x: I, y: I) -> I { [_mm256_or_si256(x[0], y[0]), _mm256_or_si256(x[1], y[1])] }
    /// x ^ mask in every lane.
    fn xor(x: I, mask: u32) -> I {
        twice!(x, |x| _mm256_xor_si256(x, _mm256_set1_epi32(mask as i32)))
    }
    /// x >> n, zeros coming in.
    fn shr(x: I, n: usize) -> I { twice!(x, |x| _mm256_srl_epi32(x, _mm_cvtsi32_si128(n as i32))) }
    /// x << n
    fn shl(x: I, n: usize) -> I { twice!(x, |x| _mm256_sll_epi32(x, _mm_cvtsi32_si128(n as i32))) }
    /// x + y
    fn add(x: I, y: I) -> I { [_mm256_add_epi32(x[0], y[0]), _mm256_add_epi32(x[1], y[1])] }
    /// x - y
    fn sub(x: I, y: I) -> I { [_mm256_sub_epi32(x[0], y[0]), _mm256_sub_epi32(x[1], y[1])] }
    /// x * y, the low half
    fn times(x: I, y: i32) -> I { twice!(x, |x| _mm256_mullo_epi32(x, _mm256_set1_epi32(y))) }
    /// table[byte] for every byte below 16.
    fn lookup(table: &[u8; 16], x: I) -> I {
        // SAFETY: 16 readable bytes; the load needs no alignment.
        let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
        twice!(x, |x| _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), x))
    }
    /// The nearest f32 of every lane.
    fn number(x: I) -> F { twice!(x, |x| _mm256_cvtepi32_ps(x)) }
    /// The lanes' bits as f32.
    fn bits(x: I) -> F { twice!(x, |x| _mm256_castsi256_ps(x)) }
    /// x * y
    fn mul(x: F, y: F) -> F { [_mm256_mul_ps(x[0], y[0]), _mm256_mul_ps(x[1], y[1])] }
    /// x + y
    fn plus(x: F, y: F) -> F { [_mm256_add_ps(x[0], y[0]), _mm256_add_ps(x[1], y[1])] }
    /// x * y + z, rounded once
    fn fma(x: F, y: F, z: F) -> F {
        [_mm256_fmadd_ps(x[0], y[0], z[0]), _mm256_fmadd_ps(x[1], y[1], z[1])]
    }
    /// -x
    fn negate(x: F) -> F { bits(xor(twice!(x, |x| _mm256_castps_si256(x)), 0x8000_0000)) }
    /// Sixteen numbers.
    fn numbers(lanes: &[f32; ROWS]) -> F {
        // SAFETY: twice 8 readable numbers; the load needs no alignment.
        unsafe { twice!([0, 8], |at| _mm256_loadu_ps(lanes.as_ptr().add(at))) }
    }
    /// Sixteen numbers, stored in half.
    fn half_numbers(lanes: &[F16; ROWS]) -> F {
        let at = lanes.as_ptr();
        // SAFETY: twice 16 readable bytes; the load needs no alignment.
        let halves = unsafe { twice!([0, 8], |i| _mm_loadu_si128(at.add(i).cast())) };
        twice!(halves, |half| _mm256_cvtph_ps(half))
    }
    /// Sixteen codes.
    fn code_numbers(lanes: &[i8; ROWS]) -> F {
        let at = lanes.as_ptr();
        // SAFETY: twice 8 readable bytes; the load needs no alignment.
        let codes = unsafe { twice!([0, 8], |i| _mm_loadl_epi64(at.add(i).cast())) };
        twice!(codes, |codes| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)))
    }
    /// The lanes.
    fn store(x: F) -> [f32; ROWS] {
        let mut lanes = [0.0; ROWS];
        for (lanes, x) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(x) {
            // SAFETY: 8 writable numbers; the store needs no alignment.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), x) };
        }
        lanes
    }
    /// Sums of two products of bytes in 16 bits, codes without and x with sign.
    fn pairs(codes: I, x: I) -> I {
        [_mm256_maddubs_epi16(codes[0], x[0]), _mm256_maddubs_epi16(codes[1], x[1])]
    }
    /// x + y in 16 bits
    fn add_pairs(x: I, y: I) -> I { [_mm256_add_epi16(x[0], y[0]), _mm256_add_epi16(x[1], y[1])] }
    /// Sums of two values of 16 bits, with sign.
    fn widened(x: I) -> I { twice!(x, |x| _mm256_madd_epi16(x, _mm256_set1_epi16(1))) }
    /// |x| of every byte
    fn magnitude(x: I) -> I { twice!(x, |x| _mm256_abs_epi8(x)) }
    /// x with the sign of y multiplied in, byte by byte.
    fn signed_by(x: I, y: I) -> I {
        [_mm256_sign_epi8(x[0], y[0]), _mm256_sign_epi8(x[1], y[1])]
    }
}

/// Codes of 8 bits are taken relative to 128: magnitude times x with their sign stays in 16 bits.
pub(crate) const CENTRED: bool = true;

/// How many bits `dots` makes room for.
pub(crate) const fn dot_class(bits: usize) -> usize {
    match bits {
        0..=4 => 4,
        5 => 5,
        6 => 6,
        _ => 8,
    }
}

/// Two planes of several tokens are words, whose products are summed in 32 bits.
pub(crate) const WORDS: bool = true;

/// The class of codes in words.
const WORD: usize = 16;

/// Products that a part holds exactly: its 16 bits have room for 8 * 2 * 15 * 127 = 30,480, for
/// 4 * 2 * 31 * 127 = 31,496, for 2 * 2 * 63 * 127 = 32,004 and for 2 * 128 * 127 = 32,512. Words
/// have no such part.
pub(crate) const fn exact(bits: usize) -> usize {
    match bits {
        4 | WORD => 8,
        5 => 4,
        6 => 2,
        _ => 1,
    }
}

/// Whether sums are kept beside their parts, or those of two scales are computed at a time.
const fn is_long(planes: usize, bits: usize, scales: usize) -> bool {
    if bits == WORD { scales > 1 } else { planes > 1 || exact(bits) < 8 }
}

/// A part of a sum, to which products are added; of words it is the sum itself.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn open<const BITS: usize>(sum: I) -> I {
    if BITS == WORD { sum } else { none() }
}

/// The sum with its part.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn close<const BITS: usize>(sum: I, part: I) -> I {
    if BITS == WORD { part } else { add(sum, widened(part)) }
}

/// Codes of bytes as words less their zero point: of each lane the former two, then the latter.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn widen(codes: &[I; 8], zero: Option<usize>) -> [I; 16] {
    let zero = _mm256_set1_epi16(zero.map_or(0, |log| 1 << log));
    let mut words = [none(); 16];
    for (j, codes) in codes.iter().enumerate() {
        for (form, places) in [0x8001_8000_u32, 0x8003_8002].into_iter().enumerate() {
            // Of each lane's bytes, in each half of the vector.
            let lane = |lane: u32| (places + lane * 0x0004_0004) as i32;
            let places = _mm_setr_epi32(lane(0), lane(1), lane(2), lane(3));
            let places = _mm256_broadcastsi128_si256(places);
            words[8 * form + j] =
                twice!(*codes, |x| _mm256_sub_epi16(_mm256_shuffle_epi8(x, places), zero));
        }
    }
    words
}

/// part + the four products of bytes, codes without and x with sign; no x is -128. Of words, which
/// both have a sign, there are two.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn multiply<const BITS: usize>(part: I, codes: I, x: I) -> I {
    if BITS == WORD {
        let products = [_mm256_madd_epi16(codes[0], x[0]), _mm256_madd_epi16(codes[1], x[1])];
        return add(part, products);
    }
    if BITS < 8 {
        return add_pairs(part, pairs(codes, x));
    }
    let centred = xor(codes, 0x8080_8080);
    add_pairs(part, pairs(magnitude(centred), signed_by(x, centred)))
}

/// `multiply`, both halves of it before anything that needs the sum. A compiler finishes one half
/// of the rows first otherwise, and keeps in memory what the other half needs too.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn multiply_in_step<const BITS: usize>(part: I, codes: I, x: I) -> I {
    in_step(multiply::<BITS>(part, codes, x))
}

/// The same, once both halves are there.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn in_step(x: I) -> I {
    let [mut low, mut high] = x;
    // SAFETY: it has no instruction.
    unsafe {
        asm!("/* {} {} */", inout(ymm_reg) low, inout(ymm_reg) high,
             options(pure, nomem, nostack, preserves_flags));
    }
    [low, high]
}

/// Tokens are multiplied one by one.
pub(crate) const ABREAST: usize = 0;

/// Several tokens at once, which is not for this instruction set.
pub(crate) fn multiply_abreast<const T: usize>(_: &mut [I], _: &[I; 4], _: &[u8]) {
    unreachable!("tokens are multiplied one by one")
}

/// The same block, as if nothing of it had been read. A compiler keeps in memory of its own what
/// several groups read otherwise.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // nothing is read through it
pub(crate) fn unread<const BYTES: usize>(block: &[u8; BYTES]) -> &[u8; BYTES] {
    let mut at = block.as_ptr();
    // SAFETY: it has no instruction, so the address is the block's.
    unsafe {
        asm!("/* {} */", inout(reg) at, options(pure, nomem, nostack, preserves_flags));
        &*at.cast()
    }
}

super::floats! { "avx2,fma,f16c", [4 2 1] }
super::heads! { "avx2,fma,f16c", score [4 x 1 2 x 2 1 x 4], weigh [4 x 1 2 x 2 1 x 4] }
super::shared_parts! { "avx2,fma,f16c" }
super::tiles! { "avx2,fma,f16c", [16 | 8 | 4 => 16 / 4, 2 2 => 2 / 2, 2 1 => 1 / 1, 1] }

/// Whether a tile with more tokens than run side by side loops over as many as it has.
const LOOPED: bool = true;

/// Most tokens that are multiplied while weights unpack, of one plane and of two.
pub(crate) const DIRECT_MOST: [usize; 2] = [4, super::PLANES_MOST];
