//! Activations of a few tokens side by side, in the order in which panels read them.
//!
//! ```text
//! planes  [k / 4][tokens][4 bytes]        d  [k / 32][tokens]
//! nsum    minus the sum of codes,  dsum   d * f32(sum):  [k / 32 or 16][tokens]
//! ```
//! Two planes hold the first and the second byte of codes, or words: then the first plane has codes
//! 4 i and 4 i + 1, the second 4 i + 2 and 4 i + 3.

use crate::activation::{BLOCK, Row, SUM};
use crate::isa::{Isa, Level};
use crate::lanes::PLANES_MOST;

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
        for (t, row) in rows.enumerate() {
            for (p, plane) in self.planes.iter_mut().enumerate() {
                let dwords = plane.chunks_exact_mut(4).skip(t).step_by(tokens);
                for (i, to) in dwords.enumerate() {
                    to.copy_from_slice(&if self.words {
                        row.words(4 * i + 2 * p)
                    } else {
                        row.bytes(p, 4 * i)
                    });
                }
            }
            for (at, (d, sums)) in row.d.iter().zip(row.sums.chunks_exact(2)).enumerate() {
                let (whole, place) = (sums[0] + sums[1], at * tokens + t);
                self.d[place] = *d;
                self.nsum[0][place] = -whole;
                self.dsum[0][place] = d * whole as f32;
                for (i, sum) in sums.iter().enumerate() {
                    let place = (2 * at + i) * tokens + t;
                    self.nsum[1][place] = -sum;
                    self.dsum[1][place] = d * *sum as f32;
                }
            }
            let outliers = row.outliers.iter();
            self.outliers.extend(outliers.map(|o| Outlier { token: t, index: o.index, x: o.x }));
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
