//! Sixteen rows as two 256-bit vectors: AVX2 and its dot product of bytes, AVX-VNNI.
#![allow(unsafe_code)] // calls how a format unpacks, compiled for the same features

use std::arch::x86_64::_mm256_dpbusd_avx_epi32;

pub(crate) use super::avx2::{
    ABREAST, F, I, add, and, bits, bytes, dword, float, fma, halves, in_step, int, load, lookup,
    mul, multiply_abreast, negate, none, number, numbers, or, plus, shl, shr, signed, store, sub,
    times, unread, words, xor, zero,
};

/// part + the four products of bytes, codes without and x with sign.
#[target_feature(enable = "avxvnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn multiply<const BITS: usize>(part: I, codes: I, x: I) -> I {
    [
        _mm256_dpbusd_avx_epi32(part[0], codes[0], x[0]),
        _mm256_dpbusd_avx_epi32(part[1], codes[1], x[1]),
    ]
}

/// `multiply`, both halves of it before anything that needs the sum.
#[target_feature(enable = "avxvnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn multiply_in_step<const BITS: usize>(part: I, codes: I, x: I) -> I {
    in_step(multiply::<BITS>(part, codes, x))
}

super::shared_parts! { "avxvnni,avx2,fma,f16c" }
super::tiles! { "avxvnni,avx2,fma,f16c", [16 | 8 | 4 => 16 / 4, 4 2 => 2 / 2, 2 1 => 1 / 1, 1] }

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
#[target_feature(enable = "avxvnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn open<const BITS: usize>(sum: I) -> I {
    sum
}

/// The sum with its part.
#[target_feature(enable = "avxvnni,avx2,fma,f16c")]
#[inline]
pub(crate) fn close<const BITS: usize>(_sum: I, part: I) -> I {
    part
}

/// Codes as words, of which there are none.
#[target_feature(enable = "avxvnni,avx2,fma,f16c")]
fn widen(_codes: &[I; 8], _zero: Option<usize>) -> [I; 16] {
    unreachable!("planes are bytes")
}

/// Whether a tile with more tokens than run side by side loops over as many as it has.
const LOOPED: bool = true;

/// Most tokens that are multiplied while weights unpack, of one plane and of two.
pub(crate) const DIRECT_MOST: [usize; 2] = [4, 2];
