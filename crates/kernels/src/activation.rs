//! Activations in the forms that matrices read: 8-bit codes, or 15-bit codes for the head.
//!
//! Scales stand per 32 values, from the row's own data alone, so a row's codes do not depend on its
//! neighbours in a batch. A block too large for its arithmetic (2^100) becomes NaN, to be reported;
//! one too small (2^-96) becomes zero, which keeps every later product normal.
//!
//! An 8-bit block may have one outlier: a value more than four times as large as any other. It is
//! set aside with its exact value, so that it does not take the resolution of its 31 neighbours.

use crate::isa::{Isa, compiled};
use crate::lanes;

/// Values that share a scale.
pub const BLOCK: usize = 32;
/// Sums of codes are kept per this many values.
pub const SUM: usize = 16;

pub(crate) const TOO_LARGE: f32 = f32::from_bits((100 + 127) << 23); // 2^100
pub(crate) const TOO_SMALL: f32 = f32::from_bits((127 - 96) << 23); // 2^-96

/// The largest code of one plane, or of two.
pub(crate) const fn largest(planes: usize) -> f32 {
    if planes == 1 { 127.0 } else { 16256.0 }
}

/// A value set aside from its block, whose code is 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outlier {
    /// Its place in the row.
    pub index: usize,
    /// Its exact value.
    pub x: f32,
}

/// 1.5 * 2^23
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// An outlier is more than this many times as large as any other of its block.
pub(crate) const OUTLIER: f32 = 4.0;

/// One quantised row, x = d[i / 32] * code[i] or so, in P planes of bytes: one holds the code, two
/// hold 128 * first + second.
#[derive(Clone)]
pub struct Row<const P: usize> {
    /// [k] each
    pub planes: [Box<[i8]>; P],
    /// [k / 32]
    pub d: Box<[f32]>,
    /// [k / 16], exact sums of codes
    pub sums: Box<[i32]>,
    /// By ascending index, at most one per block; only beside one plane.
    pub outliers: Vec<Outlier>,
}

impl<const P: usize> Row<P> {
    /// Room for k values; k is a multiple of 32.
    pub fn new(k: usize) -> Self {
        assert!(k.is_multiple_of(BLOCK), "{k} activations do not fill blocks of {BLOCK}");
        Self {
            planes: std::array::from_fn(|_| vec![0; k].into()),
            d: vec![0.0; k / BLOCK].into(),
            sums: vec![0; k / SUM].into(),
            outliers: Vec::with_capacity(if P == 1 { k / BLOCK } else { 0 }),
        }
    }

    /// The code of one value.
    #[inline(always)]
    pub fn code(&self, i: usize) -> i32 {
        self.planes.iter().fold(0, |code, plane| 128 * code + i32::from(plane[i]))
    }

    /// Two codes as words.
    #[inline(always)]
    pub(crate) fn words(&self, i: usize) -> [u8; 4] {
        let [[a, b], [c, d]] = [i, i + 1].map(|i| (self.code(i) as i16).to_le_bytes());
        [a, b, c, d]
    }
}

/// Fills a row of one plane.
pub fn quantise_narrow(isa: Isa, x: &[f32], row: &mut Row<1>) {
    if !lanes::quantise(isa, x, row) {
        compiled_narrow(isa, x, row);
    }
}

/// Fills a row of two planes.
pub fn quantise_wide(isa: Isa, x: &[f32], row: &mut Row<2>) {
    if !lanes::quantise(isa, x, row) {
        compiled_wide(isa, x, row);
    }
}

compiled! {
    /// The definition, of one plane.
    pub fn compiled_narrow(x: &[f32], row: &mut Row<1>) = definition::<1>
}
compiled! {
    /// The definition, of two planes.
    pub fn compiled_wide(x: &[f32], row: &mut Row<2>) = definition::<2>
}

#[inline(always)]
fn definition<const P: usize>(x: &[f32], row: &mut Row<P>) {
    let blocks = row.begin(x);
    for (at, x) in blocks.iter().enumerate() {
        row.fill_block(at, x);
    }
}

impl<const P: usize> Row<P> {
    /// The blocks that are to fill it.
    #[inline(always)]
    pub(crate) fn begin<'a>(&mut self, x: &'a [f32]) -> &'a [[f32; BLOCK]] {
        assert_eq!(x.len(), self.planes[0].len(), "a row of another length");
        self.outliers.clear();
        x.as_chunks().0
    }

    /// Fills one block.
    #[inline(always)]
    pub(crate) fn fill_block(&mut self, at: usize, x: &[f32; BLOCK]) {
        let mut codes = [0_i32; BLOCK];
        let (d, outlier) = quantise_block::<P>(x, &mut codes);
        self.d[at] = d;
        if let Some(i) = outlier {
            codes[i] = 0;
            self.outliers.push(Outlier { index: at * BLOCK + i, x: x[i] });
        }
        for (i, codes) in codes.chunks_exact(SUM).enumerate() {
            self.sums[at * BLOCK / SUM + i] = codes.iter().sum();
        }
        for (p, plane) in self.planes.iter_mut().enumerate() {
            let plane = &mut plane.as_chunks_mut::<BLOCK>().0[at];
            for (byte, code) in plane.iter_mut().zip(codes) {
                let high = if P == 1 { 0 } else { (code + 64) >> 7 };
                *byte = (if p + 1 == P { code - 128 * high } else { high }) as i8;
            }
        }
    }
}

/// q = rne(x * (MAX / amax)); returns d = amax / MAX, and the place of the outlier. The outlier's
/// own code is meaningless.
#[inline(always)]
fn quantise_block<const P: usize>(
    x: &[f32; BLOCK],
    codes: &mut [i32; BLOCK],
) -> (f32, Option<usize>) {
    // The integer order of magnitudes is the float order, and puts NaN on top.
    let magnitude = |x: &f32| x.to_bits() & 0x7fff_ffff;
    let top = x.iter().map(magnitude).max().unwrap_or(0);
    if top >= TOO_LARGE.to_bits() || top < TOO_SMALL.to_bits() {
        codes.fill(0);
        return (if top < TOO_SMALL.to_bits() { 0.0 } else { f32::NAN }, None);
    }
    let mut amax = f32::from_bits(top);
    let mut outlier = None;
    if P == 1 {
        // Everything above a quarter of the top: the top alone, if it is an outlier.
        let rivals = x.iter().filter(|x| OUTLIER * x.abs() >= amax).count();
        if rivals == 1 {
            outlier = x.iter().position(|x| magnitude(x) == top);
            let others = x.iter().map(magnitude).filter(|magnitude| *magnitude != top);
            amax = f32::from_bits(others.max().unwrap_or(0));
        }
        if amax < TOO_SMALL {
            codes.fill(0);
            return (0.0, outlier);
        }
    }
    let inverse = largest(P) / amax;
    for (code, x) in codes.iter_mut().zip(x) {
        // 1.5 * 2^23 rounds to the nearest integer, ties to even, which is then the low bits. An
        // outlier may overflow.
        *code = (x * inverse + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    }
    (amax / largest(P), outlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(x: &[f32]) -> Vec<Row<1>> {
        let mut rows = vec![Row::new(x.len()); Isa::available().len()];
        let isas = Isa::available().into_iter();
        isas.zip(&mut rows).for_each(|(isa, row)| quantise_narrow(isa, x, row));
        rows
    }

    fn wide(x: &[f32]) -> Vec<Row<2>> {
        let mut rows = vec![Row::new(x.len()); Isa::available().len()];
        let isas = Isa::available().into_iter();
        isas.zip(&mut rows).for_each(|(isa, row)| quantise_wide(isa, x, row));
        rows
    }

    #[test]
    fn codes_are_the_same_on_every_isa_and_close_to_the_values() {
        let x: Vec<f32> = (0..1024).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) * 0.01).collect();
        let (narrow, wide) = (narrow(&x), wide(&x));
        for (one, two) in narrow.iter().zip(&wide) {
            assert_eq!(one.planes, narrow[0].planes);
            assert_eq!(two.planes, wide[0].planes);
            assert!(one.outliers.is_empty());
            for (i, x) in x.iter().enumerate() {
                let (d8, d15) = (one.d[i / 32], two.d[i / 32]);
                assert!((one.code(i) as f32 * d8 - x).abs() <= d8 * 0.501);
                assert!((two.code(i) as f32 * d15 - x).abs() <= d15 * 0.501);
            }
            assert_eq!(one.sums[1], (16..32).map(|i| one.code(i)).sum());
            assert_eq!(two.sums[1], (16..32).map(|i| two.code(i)).sum());
        }
    }

    #[test]
    fn blocks_out_of_range_become_nan_or_zero() {
        for (value, d) in [
            (f32::NAN, f32::NAN),
            (f32::NEG_INFINITY, f32::NAN),
            (TOO_LARGE, f32::NAN),
            (TOO_SMALL.next_down(), 0.0),
            (1e-40, 0.0),
            (0.0, 0.0),
        ] {
            let mut x = [0.0; 64];
            x[5] = value;
            for row in narrow(&x) {
                assert!(row.d[0] == d || d.is_nan() && row.d[0].is_nan(), "{value}");
                assert!(row.planes[0].iter().all(|code| *code == 0));
                assert_eq!((row.d[1], row.outliers.len()), (0.0, 0));
            }
        }
        let row = &narrow(&[TOO_SMALL; 32])[0];
        assert!(row.d[0].is_normal() && row.code(0) == 127);
    }

    #[test]
    fn an_outlier_is_set_aside_exactly() {
        for (rival, large, aside) in
            [(1.0, 4.001, true), (1.0, 4.0, false), (0.0, 1e-3, true), (1e-30, 3.0, true)]
        {
            let mut x = [0.0; 64];
            (x[32 + 3], x[32 + 7]) = (rival, -large);
            for row in narrow(&x) {
                let outlier = Outlier { index: 32 + 7, x: -large };
                assert_eq!(row.outliers, if aside { vec![outlier] } else { vec![] });
                let rest = if rival < 1e-29 { 0 } else { 127 };
                assert_eq!(row.code(32 + 3), if aside { rest } else { 32 });
                assert_eq!(row.code(32 + 7), if aside { 0 } else { -127 });
                assert_eq!(row.sums[2], (32..48).map(|i| row.code(i)).sum());
            }
            assert!(wide(&x)[0].outliers.is_empty(), "15 bits have room");
        }
    }
}
