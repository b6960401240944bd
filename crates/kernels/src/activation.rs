//! Activations in the forms that matrices read: 8-bit codes, or 15-bit codes for the head.
//!
//! Scales stand per 32 values, from the row's own data alone, so a row's codes do not depend on its
//! neighbours in a batch. A block too large for its arithmetic (2^100) becomes NaN, to be reported;
//! one too small (2^-96) becomes zero, which keeps every later product normal.
//!
//! An 8-bit block may have one outlier: a value more than four times as large as any other. It is
//! set aside with its exact value, so that it does not take the resolution of its 31 neighbours.

use crate::isa::compiled;

/// Values that share a scale.
pub const BLOCK: usize = 32;
/// Sums of codes are kept per this many values.
pub const SUM: usize = 16;

const TOO_LARGE: f32 = f32::from_bits((100 + 127) << 23); // 2^100
const TOO_SMALL: f32 = f32::from_bits((127 - 96) << 23); // 2^-96

/// A code: i8 in [-127, 127], or i16 in [-16256, 16256].
pub trait Code: Copy + Default + Send + Sync + 'static {
    /// The largest code.
    const MAX: f32;
    /// Whether a block's outlier is set aside.
    const OUTLIERS: bool;
    /// From a float that holds an integer in range.
    fn from_whole(x: f32) -> Self;
    /// Widened.
    fn wide(self) -> i32;
}

impl Code for i8 {
    const MAX: f32 = 127.0;
    const OUTLIERS: bool = true;
    #[inline(always)]
    fn from_whole(x: f32) -> Self {
        x as i8
    }
    #[inline(always)]
    fn wide(self) -> i32 {
        i32::from(self)
    }
}

impl Code for i16 {
    const MAX: f32 = 16256.0;
    const OUTLIERS: bool = false;
    #[inline(always)]
    fn from_whole(x: f32) -> Self {
        x as i16
    }
    #[inline(always)]
    fn wide(self) -> i32 {
        i32::from(self)
    }
}

/// A value set aside from its block, whose code is 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outlier {
    /// Its place in the row.
    pub index: usize,
    /// Its exact value.
    pub x: f32,
}

/// An outlier is more than this many times as large as any other of its block.
const OUTLIER: f32 = 4.0;

/// One quantised row: x is about d[i / 32] * code[i], or an outlier.
#[derive(Clone)]
pub struct Row<C> {
    /// [k]
    pub codes: Box<[C]>,
    /// [k / 32]
    pub d: Box<[f32]>,
    /// [k / 16], exact sums of codes
    pub sums: Box<[i32]>,
    /// By ascending index, at most one per block.
    pub outliers: Vec<Outlier>,
}

impl<C: Code> Row<C> {
    /// Room for k values; k is a multiple of 32.
    pub fn new(k: usize) -> Self {
        assert!(k.is_multiple_of(BLOCK), "{k} activations do not fill blocks of {BLOCK}");
        Self {
            codes: vec![C::default(); k].into(),
            d: vec![0.0; k / BLOCK].into(),
            sums: vec![0; k / SUM].into(),
            outliers: Vec::with_capacity(if C::OUTLIERS { k / BLOCK } else { 0 }),
        }
    }
}

compiled! {
    /// Fills a row from k values.
    pub fn quantise<C: Code>(x: &[f32], row: &mut Row<C>) = definition::<C>
}

#[inline(always)]
fn definition<C: Code>(x: &[f32], row: &mut Row<C>) {
    assert_eq!(x.len(), row.codes.len(), "a row of another length");
    row.outliers.clear();
    let blocks = x.chunks_exact(BLOCK).zip(row.codes.chunks_exact_mut(BLOCK));
    let scales = row.d.iter_mut().zip(row.sums.chunks_exact_mut(BLOCK / SUM));
    for (at, ((x, codes), (d, sums))) in blocks.zip(scales).enumerate() {
        let outlier;
        (*d, outlier) = quantise_block(x, codes);
        if let Some(i) = outlier {
            codes[i] = C::default();
            row.outliers.push(Outlier { index: at * BLOCK + i, x: x[i] });
        }
        for (sum, codes) in sums.iter_mut().zip(codes.chunks_exact(SUM)) {
            *sum = codes.iter().map(|code| code.wide()).sum();
        }
    }
}

/// q = rne(x * (MAX / amax)); returns d = amax / MAX, and the place of the outlier. The outlier's
/// own code is meaningless.
#[inline(always)]
fn quantise_block<C: Code>(x: &[f32], codes: &mut [C]) -> (f32, Option<usize>) {
    // The integer order of magnitudes is the float order, and puts NaN on top.
    let magnitude = |x: &f32| x.to_bits() & 0x7fff_ffff;
    let top = x.iter().map(magnitude).max().unwrap_or(0);
    if top >= TOO_LARGE.to_bits() || top < TOO_SMALL.to_bits() {
        codes.fill(C::default());
        return (if top < TOO_SMALL.to_bits() { 0.0 } else { f32::NAN }, None);
    }
    let mut amax = f32::from_bits(top);
    let mut outlier = None;
    if C::OUTLIERS {
        // Everything above a quarter of the top: the top alone, if it is an outlier.
        let rivals = x.iter().filter(|x| OUTLIER * x.abs() >= amax).count();
        if rivals == 1 {
            outlier = x.iter().position(|x| magnitude(x) == top);
            let others = x.iter().map(magnitude).filter(|magnitude| *magnitude != top);
            amax = f32::from_bits(others.max().unwrap_or(0));
        }
        if amax < TOO_SMALL {
            codes.fill(C::default());
            return (0.0, outlier);
        }
    }
    let inverse = C::MAX / amax;
    for (code, x) in codes.iter_mut().zip(x) {
        // 1.5 * 2^23 rounds to the nearest integer, ties to even. An outlier may overflow.
        *code = C::from_whole((x * inverse + 12_582_912.0) - 12_582_912.0);
    }
    (amax / C::MAX, outlier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    fn rows<C: Code>(x: &[f32]) -> Vec<Row<C>> {
        let every = Isa::available().into_iter();
        every
            .map(|isa| {
                let mut row = Row::new(x.len());
                quantise(isa, x, &mut row);
                row
            })
            .collect()
    }

    #[test]
    fn codes_are_the_same_on_every_isa_and_close_to_the_values() {
        let x: Vec<f32> = (0..1024).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) * 0.01).collect();
        let (narrow, wide) = (rows::<i8>(&x), rows::<i16>(&x));
        for (narrow, wide) in narrow.iter().zip(&wide) {
            assert_eq!(narrow.codes, rows::<i8>(&x)[0].codes);
            assert_eq!(wide.codes, rows::<i16>(&x)[0].codes);
            assert!(narrow.outliers.is_empty());
            for (i, x) in x.iter().enumerate() {
                let (d8, d15) = (narrow.d[i / 32], wide.d[i / 32]);
                assert!((f32::from(narrow.codes[i]) * d8 - x).abs() <= d8 * 0.501);
                assert!((f32::from(wide.codes[i]) * d15 - x).abs() <= d15 * 0.501);
            }
            let sum: i32 = narrow.codes[16..32].iter().map(|code| i32::from(*code)).sum();
            assert_eq!(narrow.sums[1], sum);
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
            for row in rows::<i8>(&x) {
                assert!(row.d[0] == d || d.is_nan() && row.d[0].is_nan(), "{value}");
                assert!(row.codes.iter().all(|code| *code == 0));
                assert_eq!((row.d[1], row.outliers.len()), (0.0, 0));
            }
        }
        let row = &rows::<i8>(&[TOO_SMALL; 32])[0];
        assert!(row.d[0].is_normal() && row.codes[0] == 127);
    }

    #[test]
    fn an_outlier_is_set_aside_exactly() {
        for (rival, large, aside) in
            [(1.0, 4.001, true), (1.0, 4.0, false), (0.0, 1e-3, true), (1e-30, 3.0, true)]
        {
            let mut x = [0.0; 64];
            (x[32 + 3], x[32 + 7]) = (rival, -large);
            for row in rows::<i8>(&x) {
                let outlier = Outlier { index: 32 + 7, x: -large };
                assert_eq!(row.outliers, if aside { vec![outlier] } else { vec![] });
                let rest = if rival < 1e-29 { 0 } else { 127 };
                assert_eq!(row.codes[32 + 3], if aside { rest } else { 32 });
                assert_eq!(row.codes[32 + 7], if aside { 0 } else { -127 });
                assert_eq!(row.sums[2], row.codes[32..48].iter().map(|c| i32::from(*c)).sum());
            }
            assert!(rows::<i16>(&x)[0].outliers.is_empty(), "15 bits have room");
        }
    }
}
