//! Dot products: a panel of sixteen rows with tiles of up to sixteen tokens.
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

pub mod ahead;
pub mod pack;

use crate::Isa;
use crate::activation;
use crate::lanes;
use crate::quant::{Block, FloatFormat, QuantFormat, layout};
use ahead::Ahead;
use pack::{Pack, View};

/// Rows in a panel.
pub const ROWS: usize = 16;
/// Most tokens in a tile.
pub const TOKENS: usize = 16;

/// Results, [token][row].
pub type Sums = [[f32; ROWS]; TOKENS];

/// Sixteen rows of a matrix, interleaved as its format's layout says.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    /// The panel.
    pub bytes: &'a [u8],
    /// Values per row.
    pub k: usize,
    /// What to ask for while it is read.
    pub ahead: Ahead<'a>,
}

impl<'a> Panel<'a> {
    /// A panel of which nobody knows what is read after it.
    pub fn alone(bytes: &'a [u8], k: usize) -> Self {
        Self { bytes, k, ahead: Ahead::new(bytes, 0) }
    }

    /// The panels of a run in order, each of `size` bytes and with k values a row, before the run
    /// that is read `next`.
    pub fn run(size: usize, k: usize, run: &'a [u8], next: &'a [u8]) -> impl Iterator<Item = Self> {
        let aheads = ahead::each(size, run, next);
        run.chunks_exact(size).zip(aheads).map(move |(bytes, ahead)| Self { bytes, k, ahead })
    }
}

/// Activations of some tiles of tokens, in the form that the matrix reads.
#[derive(Clone, Copy)]
pub enum Acts<'a> {
    /// For float weights: one tile, rows of k values.
    Float(&'a [&'a [f32]]),
    /// For quantised weights.
    Narrow(&'a [Pack<1>]),
    /// For quantised weights that write into the residual stream, or the head.
    Wide(&'a [Pack<2>]),
}

/// How many of `left` tokens a tile takes next: kernels exist for these sizes.
pub fn next_tokens(left: usize) -> usize {
    [16, 8, 4, 2, 1].into_iter().find(|size| *size <= left).unwrap_or(1)
}

/// One quantised format against either form of quantised activations.
pub(crate) fn quantised<F: QuantFormat>(
    isa: Isa,
    panel: Panel<'_>,
    acts: Acts<'_>,
    sums: &mut [Sums],
) {
    assert_eq!(panel.bytes.len(), layout::layout::<F>().panel_bytes(panel.k), "a whole panel");
    let kernels = F::KERNELS.of(isa.level());
    let (narrow, wide) = kernels.unwrap_or((definition::<F, 1>, definition::<F, 2>));
    match acts {
        Acts::Narrow(x) => narrow(panel, x, sums),
        Acts::Wide(x) => wide(panel, x, sums),
        Acts::Float(_) => panic!("{} weights read quantised activations", F::NAME),
    }
}

/// One float format.
pub(crate) fn float<F: FloatFormat>(isa: Isa, panel: Panel<'_>, acts: Acts<'_>, sums: &mut [Sums]) {
    match acts {
        Acts::Float(tokens) => lanes::float_tile::<F>(isa, panel, tokens, &mut sums[0]),
        _ => panic!("{} weights read float activations", F::NAME),
    }
}

/// The definition, row by row.
fn definition<F: QuantFormat, const P: usize>(
    panel: Panel<'_>,
    tiles: &[Pack<P>],
    sums: &mut [Sums],
) {
    let mut row = vec![0; panel.k / F::BLOCK * F::BYTES];
    for lane in 0..ROWS {
        layout::layout::<F>().unpack(panel.bytes, panel.k, lane, &mut row);
        for (pack, sums) in tiles.iter().zip(&mut *sums) {
            let x = pack.view();
            for (t, sums) in sums[..x.tokens].iter_mut().enumerate() {
                sums[lane] = dot::<F, P>(&row, x, t);
            }
        }
    }
}

/// One row of weights with one token.
fn dot<F: QuantFormat, const P: usize>(row: &[u8], x: View<'_, P>, t: usize) -> f32 {
    let mut block = Block::ZERO;
    let mut acc = 0.0_f32;
    for (b, bytes) in row.chunks_exact(F::BYTES).enumerate() {
        F::unpack(bytes, &mut block);
        for g in 0..F::BLOCK / F::GROUP {
            let at = b * F::BLOCK + g * F::GROUP;
            let d = x.d[at / activation::BLOCK * x.tokens + t];
            let codes = &block.codes[g * F::GROUP..][..F::GROUP];
            let x_code = |i: usize| x.code(t, at + i);
            let dot: i32 = codes.iter().enumerate().map(|(i, w)| i32::from(*w) * x_code(i)).sum();
            acc = (dot as f32).mul_add(block.scale[g] * d, acc);
            if F::BIASED {
                let sum: i32 = (0..F::GROUP).map(x_code).sum();
                acc = block.bias[g].mul_add(d * sum as f32, acc);
            }
        }
    }
    let outliers = x.outliers.iter().filter(|outlier| outlier.token == t);
    outliers.fold(acc, |acc, at| weight::<F>(row, at.index).mul_add(at.x, acc))
}

/// One weight of a row, exact.
fn weight<F: QuantFormat>(row: &[u8], index: usize) -> f32 {
    let mut block = Block::ZERO;
    F::unpack(&row[index / F::BLOCK * F::BYTES..][..F::BYTES], &mut block);
    let i = index % F::BLOCK;
    let w = block.scale[i / F::GROUP] * f32::from(block.codes[i]);
    if F::BIASED { w + block.bias[i / F::GROUP] } else { w }
}

/// Float weights with float activations, token by token.
pub(crate) fn float_definition<F: FloatFormat>(
    panel: Panel<'_>,
    tokens: &[&[f32]],
    sums: &mut Sums,
) {
    for (x, sums) in tokens.iter().zip(sums) {
        *sums = [0.0; ROWS];
        for (x, weights) in x[..panel.k].iter().zip(panel.bytes.chunks_exact(ROWS * F::BYTES)) {
            for (acc, bytes) in sums.iter_mut().zip(weights.chunks_exact(F::BYTES)) {
                *acc = F::value(bytes).mul_add(*x, *acc);
            }
        }
    }
}

#[cfg(test)]
mod tests;
