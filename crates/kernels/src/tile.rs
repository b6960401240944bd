//! Dot products: up to sixteen rows of a matrix with up to sixteen tokens.
//!
//! ```text
//! acc = +0
//! for each group g, ascending:
//!     dot = sum of code * x_code over g            i32, exact, so its order is free
//!     acc = fma(f32(dot), s * d_x, acc)
//!     acc = fma(b, d_x * f32(sum of x_code), acc)  where the format has a bias
//! for each outlier i of the token, ascending:
//!     acc = fma(w_i, x_i, acc)                     w_i exactly dequantised
//! ```
//! Float formats read unquantised activations: acc = fma(w_k, x_k, acc), k ascending.

use crate::Isa;
use crate::activation::{self, Code, Row};
use crate::isa::compiled;
use crate::quant::{Block, FloatFormat, QuantFormat};

/// Rows in a tile.
pub const ROWS: usize = 16;
/// Tokens in a tile.
pub const TOKENS: usize = 16;

/// Results, [token][row].
pub type Sums = [[f32; ROWS]; TOKENS];

/// Up to sixteen consecutive rows of a matrix.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    /// The rows' bytes, one after the other.
    pub bytes: &'a [u8],
    /// Values per row.
    pub k: usize,
}

/// Up to sixteen tokens' activations, in the form that the matrix reads.
#[derive(Clone, Copy)]
pub enum Acts<'a> {
    /// For float weights.
    Float(&'a [&'a [f32]]),
    /// For quantised weights.
    Narrow(&'a [&'a Row<i8>]),
    /// For a quantised head.
    Wide(&'a [&'a Row<i16>]),
}

/// One quantised format against either form of quantised activations.
pub(crate) fn quantised<F: QuantFormat>(isa: Isa, tile: Tile<'_>, acts: Acts<'_>, sums: &mut Sums) {
    match acts {
        Acts::Narrow(tokens) => narrow::<F>(isa, tile, tokens, sums),
        Acts::Wide(tokens) => wide::<F>(isa, tile, tokens, sums),
        Acts::Float(_) => panic!("{} weights read quantised activations", F::NAME),
    }
}

/// One float format.
pub(crate) fn float<F: FloatFormat>(isa: Isa, tile: Tile<'_>, acts: Acts<'_>, sums: &mut Sums) {
    match acts {
        Acts::Float(tokens) => plain::<F>(isa, tile, tokens, sums),
        _ => panic!("{} weights read float activations", F::NAME),
    }
}

compiled! {
    /// Quantised weights, 8-bit activations.
    pub fn narrow<F: QuantFormat>(tile: Tile<'_>, tokens: &[&Row<i8>], sums: &mut Sums)
        = quantised_definition::<F, i8>
}
compiled! {
    /// Quantised weights, 15-bit activations.
    pub fn wide<F: QuantFormat>(tile: Tile<'_>, tokens: &[&Row<i16>], sums: &mut Sums)
        = quantised_definition::<F, i16>
}
compiled! {
    /// Float weights and activations.
    pub fn plain<F: FloatFormat>(tile: Tile<'_>, tokens: &[&[f32]], sums: &mut Sums)
        = float_definition::<F>
}

#[inline(always)]
fn quantised_definition<F: QuantFormat, C: Code>(
    tile: Tile<'_>,
    tokens: &[&Row<C>],
    sums: &mut Sums,
) {
    let row_bytes = tile.k / F::BLOCK * F::BYTES;
    let mut block = Block::ZERO;
    for (r, row) in tile.bytes.chunks_exact(row_bytes).enumerate() {
        let mut acc = [0.0_f32; TOKENS];
        for (at, bytes) in row.chunks_exact(F::BYTES).enumerate() {
            F::unpack(bytes, &mut block);
            for (acc, token) in acc.iter_mut().zip(tokens) {
                *acc = add_block::<F, C>(&block, token, at * F::BLOCK, *acc);
            }
        }
        for ((sums, acc), token) in sums.iter_mut().zip(acc).zip(tokens) {
            let outliers = token.outliers.iter();
            sums[r] = outliers.fold(acc, |acc, at| weight::<F>(row, at.index).mul_add(at.x, acc));
        }
    }
}

/// One weight of a row, exact.
#[inline(always)]
fn weight<F: QuantFormat>(row: &[u8], index: usize) -> f32 {
    let mut block = Block::ZERO;
    F::unpack(&row[index / F::BLOCK * F::BYTES..][..F::BYTES], &mut block);
    let i = index % F::BLOCK;
    let w = block.scale[i / F::GROUP] * f32::from(block.codes[i]);
    if F::BIASED { w + block.bias[i / F::GROUP] } else { w }
}

/// The groups of one block, in order.
#[inline(always)]
fn add_block<F: QuantFormat, C: Code>(block: &Block, x: &Row<C>, k: usize, acc: f32) -> f32 {
    let mut acc = acc;
    let codes = block.codes[..F::BLOCK].chunks_exact(F::GROUP);
    let x_codes = x.codes[k..k + F::BLOCK].chunks_exact(F::GROUP);
    for (g, (codes, x_codes)) in codes.zip(x_codes).enumerate() {
        let at = k + g * F::GROUP;
        let d = x.d[at / activation::BLOCK];
        let products = codes.iter().zip(x_codes).map(|(w, x)| i32::from(*w) * x.wide());
        let dot: i32 = products.sum();
        acc = (dot as f32).mul_add(block.scale[g] * d, acc);
        if F::BIASED {
            let sums = &x.sums[at / activation::SUM..][..F::GROUP / activation::SUM];
            let sum: i32 = sums.iter().sum();
            acc = block.bias[g].mul_add(d * sum as f32, acc);
        }
    }
    acc
}

/// Rows are lanes, so that sixteen chains of fma run side by side.
#[inline(always)]
fn float_definition<F: FloatFormat>(tile: Tile<'_>, tokens: &[&[f32]], sums: &mut Sums) {
    const CHUNK: usize = 32;
    let row_bytes = tile.k * F::BYTES;
    let rows = tile.bytes.len() / row_bytes;
    let mut weights = [[0.0_f32; ROWS]; CHUNK];
    for sums in &mut sums[..tokens.len()] {
        sums.fill(0.0);
    }
    for start in (0..tile.k).step_by(CHUNK) {
        let len = CHUNK.min(tile.k - start);
        for r in 0..rows {
            let bytes = &tile.bytes[r * row_bytes + start * F::BYTES..][..len * F::BYTES];
            for (weights, bytes) in weights.iter_mut().zip(bytes.chunks_exact(F::BYTES)) {
                weights[r] = F::value(bytes);
            }
        }
        for (sums, token) in sums.iter_mut().zip(tokens) {
            let mut acc = *sums;
            for (weights, x) in weights.iter().zip(&token[start..start + len]) {
                for (acc, w) in acc.iter_mut().zip(weights) {
                    *acc = w.mul_add(*x, *acc);
                }
            }
            *sums = acc;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{FORMATS, Format};

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x1405_7b7e);
            (self.0 >> 33) as u32
        }
        fn float(&mut self) -> f32 {
            self.next() as f32 / 1_073_741_824.0 - 1.0
        }
        fn bytes(&mut self, n: usize) -> Vec<u8> {
            (0..n).map(|_| (self.next() >> 8) as u8).collect()
        }
    }

    fn run(isa: Isa, format: &Format, tile: Tile<'_>, x: &[Vec<f32>], wide: bool) -> Sums {
        let mut sums = [[f32::NAN; ROWS]; TOKENS];
        if !format.quantised {
            let tokens: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
            format.tile(isa, tile, Acts::Float(&tokens), &mut sums);
        } else if wide {
            let rows: Vec<Row<i16>> = x.iter().map(|x| quantise(isa, x)).collect();
            format.tile(isa, tile, Acts::Wide(&rows.iter().collect::<Vec<_>>()), &mut sums);
        } else {
            let rows: Vec<Row<i8>> = x.iter().map(|x| quantise(isa, x)).collect();
            format.tile(isa, tile, Acts::Narrow(&rows.iter().collect::<Vec<_>>()), &mut sums);
        }
        sums
    }

    fn quantise<C: Code>(isa: Isa, x: &[f32]) -> Row<C> {
        let mut row = Row::new(x.len());
        activation::quantise(isa, x, &mut row);
        row
    }

    /// All bits of all results, on every instruction set, in company and alone, for valid blocks
    /// and for wild ones (random bytes: NaN, infinite and subnormal scales).
    #[test]
    fn every_isa_and_every_batch_gives_the_bits_of_the_definition() {
        let mut random = Random(7);
        let k = 1024;
        for format in &FORMATS {
            for (rows, tokens, valid) in
                [(16, 16, true), (16, 1, true), (5, 3, true), (16, 2, false)]
            {
                let mut bytes = random.bytes(format.row_bytes(k) * rows);
                if valid {
                    format.tame(&mut bytes, 0.03);
                }
                let tile = Tile { bytes: &bytes, k };
                let mut x: Vec<Vec<f32>> =
                    (0..tokens).map(|_| (0..k).map(|_| random.float() * 3.0).collect()).collect();
                x[0][k / 3] = 1e4; // an outlier
                for wide in [false, true] {
                    let expected = run(Isa::SCALAR, format, tile, &x, wide);
                    for isa in Isa::available() {
                        let all = run(isa, format, tile, &x, wide);
                        for (t, x) in x.iter().enumerate() {
                            let alone = run(isa, format, tile, std::slice::from_ref(x), wide);
                            for r in 0..rows {
                                let bits = canonical(expected[t][r]);
                                assert_eq!(canonical(all[t][r]), bits, "{format:?} {isa:?}");
                                assert_eq!(canonical(alone[0][r]), bits, "{format:?} {isa:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    fn canonical(x: f32) -> u32 {
        if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
    }

    /// Against exact weights and activations in f64: the error is that of quantising activations.
    #[test]
    fn dot_products_are_right() {
        let mut random = Random(3);
        let k = 2048;
        for format in &FORMATS {
            let mut bytes = random.bytes(format.row_bytes(k) * ROWS);
            format.tame(&mut bytes, 1.0);
            let x: Vec<f32> = (0..k).map(|_| random.float()).collect();
            let mut weights = vec![0.0; k * ROWS];
            format.dequantise(&bytes, &mut weights);
            for (wide, bound) in [(false, 0.5), (true, 0.004)] {
                let tile = Tile { bytes: &bytes, k };
                let sums = run(Isa::SCALAR, format, tile, std::slice::from_ref(&x), wide);
                for (r, weights) in weights.chunks_exact(k).enumerate() {
                    let products =
                        weights.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let truth: f64 = products.sum();
                    let error = (f64::from(sums[0][r]) - truth).abs();
                    assert!(error < bound, "{format:?} row {r}: {} is not {truth}", sums[0][r]);
                }
            }
        }
    }
}
