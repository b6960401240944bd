//! Activations of a few tokens side by side, in the order in which panels read them.
//!
//! ```text
//! planes  [k / 4][tokens][4 bytes]        d  [k / 32][tokens]
//! nsum    minus the sum of codes,  dsum   d * f32(sum):  [k / 32 or 16][tokens]
//! ```
//! Two planes hold the first and the second byte of codes, or words: then the first plane has codes
//! 4 i and 4 i + 1, the second 4 i + 2 and 4 i + 3.

use crate::activation::{BLOCK, Row, SUM};
use crate::isa::{Isa, Level, compiled};
use crate::lanes::{self, PLANES_MOST, bytes, bytes_mut};
use crate::tile::TOKENS;

/// An outlier of one of the tokens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outlier {
    /// Which token.
    pub token: usize,
    /// Its place in the row.
    pub index: usize,
    /// Its exact value.
    pub x: f32,
}

/// Rows of some tokens, interleaved.
#[derive(Clone, Debug)]
pub struct Pack<const P: usize> {
    tokens: usize,
    words: bool,
    planes: [Vec<u8>; P],
    d: Vec<f32>,
    nsum: [Vec<i32>; 2], // per 32, per 16
    dsum: [Vec<f32>; 2], // per 32, per 16
    outliers: Vec<Outlier>,
}

/// A pack as kernels see it.
#[derive(Clone, Copy)]
pub struct View<'a, const P: usize> {
    /// Tokens side by side.
    pub tokens: usize,
    /// Whether two planes are words.
    pub words: bool,
    /// [k / 4, tokens, 4] each
    pub planes: [&'a [u8]; P],
    /// [k / 32, tokens]
    pub d: &'a [f32],
    nsum: [&'a [i32]; 2],
    dsum: [&'a [f32]; 2],
    /// Of each token by ascending index.
    pub outliers: &'a [Outlier],
}

/// The part of a view that belongs to some groups of 32 values.
#[derive(Clone, Copy)]
pub struct Groups<'a, const P: usize> {
    /// [k / 4, tokens, 4] each
    pub planes: [&'a [u8]; P],
    /// [k / 32, tokens]
    pub d: &'a [f32],
    /// Minus the sums of codes, [k / 32 * scales, tokens]
    pub nsum: &'a [i32],
    /// d times the sums of codes, [k / 32 * scales, tokens]
    pub dsum: &'a [f32],
}

impl<const P: usize> Groups<'_, P> {
    /// `count` groups from the given one on, of so many tokens and scales per group. Cut first with
    /// a constant count, then at constant places, it needs no checks.
    #[inline(always)]
    pub fn cut(&self, tokens: usize, scales: usize, from: usize, count: usize) -> Self {
        let sums = (from * scales * tokens, count * scales * tokens);
        let mut planes = self.planes;
        for plane in &mut planes {
            *plane = &plane[from * BLOCK * tokens..][..count * BLOCK * tokens];
        }
        Self {
            planes,
            d: &self.d[from * tokens..][..count * tokens],
            nsum: &self.nsum[sums.0..][..sums.1],
            dsum: &self.dsum[sums.0..][..sums.1],
        }
    }
}

impl<'a, const P: usize> View<'a, P> {
    /// All groups, with the sums that formats of one scale per 32 values or of two read.
    #[inline(always)]
    pub fn groups(&self, scales: usize) -> Groups<'a, P> {
        Groups {
            planes: self.planes,
            d: self.d,
            nsum: self.nsum[scales - 1],
            dsum: self.dsum[scales - 1],
        }
    }

    /// The code of value i of a token.
    #[inline(always)]
    pub fn code(&self, token: usize, i: usize) -> i32 {
        let at = (i / 4 * self.tokens + token) * 4;
        if self.words {
            let word = &self.planes[i % 4 / 2][at + 2 * (i % 2)..][..2];
            return i32::from(i16::from_le_bytes([word[0], word[1]]));
        }
        let bytes = self.planes.iter().map(|plane| i32::from(plane[at + i % 4] as i8));
        bytes.fold(0, |code, byte| 128 * code + byte)
    }
}

compiled! {
    /// From the sums of codes per 16, which lie where they will be negated, all other sums.
    pub fn scale_sums(tokens: usize, d: &[f32], nsum: &mut [Vec<i32>; 2], dsum: &mut [Vec<f32>; 2])
        = definition
}

#[inline(always)]
fn definition(tokens: usize, d: &[f32], nsum: &mut [Vec<i32>; 2], dsum: &mut [Vec<f32>; 2]) {
    match tokens {
        0 => {}
        1 => scale::<1>(d, nsum, dsum),
        2 => scale::<2>(d, nsum, dsum),
        4 => scale::<4>(d, nsum, dsum),
        8 => scale::<8>(d, nsum, dsum),
        TOKENS => scale::<TOKENS>(d, nsum, dsum),
        other => panic!("no kernel takes {other} tokens"),
    }
}

#[inline(always)]
fn scale<const T: usize>(d: &[f32], nsum: &mut [Vec<i32>; 2], dsum: &mut [Vec<f32>; 2]) {
    let ([whole, halves], [whole_d, halves_d]) = (nsum, dsum);
    let whole = whole.as_chunks_mut::<T>().0.iter_mut().zip(whole_d.as_chunks_mut::<T>().0);
    let halves = halves.as_chunks_mut::<T>().0.as_chunks_mut::<2>().0.iter_mut();
    let halves = halves.zip(halves_d.as_chunks_mut::<T>().0.as_chunks_mut::<2>().0);
    for ((d, (whole, whole_d)), (halves, halves_d)) in
        d.as_chunks::<T>().0.iter().zip(whole).zip(halves)
    {
        for t in 0..T {
            let sum = halves[0][t] + halves[1][t];
            (whole[t], whole_d[t]) = (-sum, d[t] * sum as f32);
            for half in 0..2 {
                halves_d[half][t] = d[t] * halves[half][t] as f32;
                halves[half][t] = -halves[half][t];
            }
        }
    }
}

impl<const P: usize> Default for Pack<P> {
    fn default() -> Self {
        Self {
            tokens: 0,
            words: false,
            planes: std::array::from_fn(|_| Vec::new()),
            d: Vec::new(),
            nsum: Default::default(),
            dsum: Default::default(),
            outliers: Vec::new(),
        }
    }
}

impl<const P: usize> Pack<P> {
    /// Takes the rows of some tokens, in the form that an instruction set multiplies. Memory of
    /// earlier tokens is used again.
    pub fn gather<'a>(
        &mut self,
        isa: Isa,
        rows: impl ExactSizeIterator<Item = &'a Row<P>> + Clone,
    ) {
        let tokens = rows.len();
        // It has no product of bytes with a sum of 32 bits.
        self.words = P == 2 && isa.level() == Level::Avx2 && tokens > PLANES_MOST;
        let k = rows.clone().next().map_or(0, |row| row.planes[0].len());
        self.tokens = tokens;
        self.planes.iter_mut().for_each(|plane| plane.resize(k * tokens, 0));
        self.d.resize(k / BLOCK * tokens, 0.0);
        for (i, size) in [BLOCK, SUM].into_iter().enumerate() {
            self.nsum[i].resize(k / size * tokens, 0);
            self.dsum[i].resize(k / size * tokens, 0.0);
        }
        self.outliers.clear();
        let interleave = |part: &dyn Fn(&'a Row<P>) -> &'a [u8], to: &mut [u8]| {
            let mut parts: [&[u8]; TOKENS] = [&[]; TOKENS];
            parts.iter_mut().zip(rows.clone()).for_each(|(to, row)| *to = part(row));
            lanes::interleave(isa, &parts[..tokens], to);
        };
        for (p, plane) in self.planes.iter_mut().enumerate() {
            if self.words {
                for (i, dwords) in plane.chunks_exact_mut(4 * tokens).enumerate() {
                    let words = rows.clone().map(|row| row.words(4 * i + 2 * p));
                    dwords.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, x)| *to = x);
                }
            } else {
                interleave(&|row| bytes(&row.planes[p]), plane);
            }
        }
        interleave(&|row| bytes(&row.d), bytes_mut(&mut self.d));
        interleave(&|row| bytes(&row.sums), bytes_mut(&mut self.nsum[1]));
        scale_sums(isa, tokens, &self.d, &mut self.nsum, &mut self.dsum);
        for (token, row) in rows.enumerate() {
            let outliers = row.outliers.iter();
            self.outliers.extend(outliers.map(|o| Outlier { token, index: o.index, x: o.x }));
        }
    }

    /// As kernels read it.
    pub fn view(&self) -> View<'_, P> {
        let [d32, d16] = &self.dsum;
        let [n32, n16] = &self.nsum;
        View {
            tokens: self.tokens,
            words: self.words,
            planes: std::array::from_fn(|p| self.planes[p].as_slice()),
            d: &self.d,
            nsum: [n32, n16],
            dsum: [d32, d16],
            outliers: &self.outliers,
        }
    }
}
