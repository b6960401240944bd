//! Sixteen rows as two 256-bit vectors: AVX2 and its dot product of bytes, AVX-VNNI.
#![allow(unsafe_code)] // calls how a format unpacks, compiled for the same features

use std::arch::x86_64::_mm256_dpbusd_avx_epi32;

pub(crate) use super::avx2::{
    F, I, add, and, bits, bytes, dword, float, fma, halves, int, load, lookup, mul, negate, none,
    number, numbers, or, plus, prefetch, shl, shr, signed, store, sub, times, words, xor, zero,
};

/// acc + sum of the four products of bytes, codes without and x with sign.
#[target_feature(enable = "avxvnni,avx2,fma,f16c")]
#[inline]
fn dot(acc: I, codes: I, x: I) -> I {
    [
        _mm256_dpbusd_avx_epi32(acc[0], codes[0], x[0]),
        _mm256_dpbusd_avx_epi32(acc[1], codes[1], x[1]),
    ]
}

super::shared_parts! { "avxvnni,avx2,fma,f16c" }
super::dots_by_dot! { "avxvnni,avx2,fma,f16c" }
super::tiles! { "avxvnni,avx2,fma,f16c", [16 / 4 8 / 4 4 / 4 2 / 2] }
