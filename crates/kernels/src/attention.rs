//! Attention of some queries over one key/value head, in fixed blocks of 512 absolute positions.
//!
//! ```text
//! per block, visible keys only:  s_j = sum q_c k_c  (fma, c ascending)    m = max s
//!                                p_j = exp(s_j - m)                       l = lane sum p
//!                                o = sum p_j v_j    (fma, j ascending)
//! fold, blocks ascending:        M' = max(M, m)  a = exp(M - M')  c = exp(m - M')
//!                                L = fma(c, l, a L)    O = fma(c, o, a O)        out = O / L
//! ```
//! A page holds 64 positions of every head. Keys lie in tiles of 16 positions, `[d][16]`, so that
//! lanes are keys; values lie `[64][d]`, so that lanes are channels. Slots that are not visible are
//! never multiplied: a recycled page may hold anything.

use crate::exp::exp;
use crate::half;
use crate::isa::{Isa, compiled};
use crate::lanes;
use crate::norm::{LANES, fold};

/// Positions in a page.
pub const PAGE: usize = 64;
/// Positions in a block of the softmax.
pub const BLOCK: usize = 512;
/// Positions in a tile of keys.
pub const TILE: usize = 16;

/// How a key or value is stored.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Rounded for storage.
    fn store(x: f32) -> Self;
    /// The stored value, exact.
    fn load(self) -> f32;
    /// Sixteen of them, as what they are.
    fn stored(x: &[Self; TILE]) -> Stored<'_>;
}

/// Sixteen stored numbers.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// In single precision.
    Whole(&'a [f32; TILE]),
    /// In half.
    Half(&'a [F16; TILE]),
}

impl Element for f32 {
    #[inline(always)]
    fn store(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn load(self) -> f32 {
        self
    }
    #[inline(always)]
    fn stored(x: &[f32; TILE]) -> Stored<'_> {
        Stored::Whole(x)
    }
}

/// The bits of an f16.
pub type F16 = u16;

impl Element for F16 {
    #[inline(always)]
    fn store(x: f32) -> Self {
        half::f32_to_f16(x)
    }
    #[inline(always)]
    fn load(self) -> f32 {
        half::f16_to_f32(self)
    }
    #[inline(always)]
    fn stored(x: &[F16; TILE]) -> Stored<'_> {
        Stored::Half(x)
    }
}

/// The cache of one key/value head, seen through one sequence's pages.
#[derive(Clone, Copy)]
pub struct Head<'a, E> {
    /// [pages of the pool, PAGE / TILE, d, TILE]
    pub keys: &'a [E],
    /// [pages of the pool, PAGE, d]
    pub values: &'a [E],
    /// Positions 64 i .. lie in page `table[i]`.
    pub table: &'a [u32],
}

impl<'a, E> Head<'a, E> {
    /// The keys of the page that holds a position: [PAGE / TILE, d, TILE]; nothing behind `end`.
    #[inline(always)]
    fn keys(&self, position: usize, end: usize, d: usize) -> &'a [E] {
        self.page(self.keys, position, end, d)
    }

    /// Its values: [PAGE, d].
    #[inline(always)]
    fn values(&self, position: usize, end: usize, d: usize) -> &'a [E] {
        self.page(self.values, position, end, d)
    }

    #[inline(always)]
    fn page(&self, of: &'a [E], position: usize, end: usize, d: usize) -> &'a [E] {
        if position >= end {
            return &[];
        }
        &of[self.table[position / PAGE] as usize * PAGE * d..][..PAGE * d]
    }
}

/// Writes one position's key and value into slot `page * PAGE + position % PAGE` of a head.
pub fn store<E: Element>(slot: usize, k: &[f32], v: &[f32], keys: &mut [E], values: &mut [E]) {
    let d = k.len();
    let tile = &mut keys[slot / TILE * TILE * d..][..TILE * d];
    for (column, k) in tile.chunks_exact_mut(TILE).zip(k) {
        column[slot % TILE] = E::store(*k);
    }
    for (value, v) in values[slot * d..].iter_mut().zip(v) {
        *value = E::store(*v);
    }
}

/// Queries that share a key/value head, and what each may see.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// [n, d], rotated and scaled
    pub q: &'a [f32],
    /// [n], query i sees positions 0..visible[i]; at least one
    pub visible: &'a [usize],
    /// Channels of a head.
    pub d: usize,
}

/// The running softmax of one query.
#[derive(Clone, Copy, Default)]
struct Fold {
    top: f32,  // M
    mass: f32, // L
    keep: f32, // a: what the earlier blocks are worth under the new top
    add: f32,  // c: what this block is worth under it
}

/// Buffers of one thread, reused.
#[derive(Default)]
pub struct Scratch {
    scores: Vec<f32>, // [n, BLOCK]
    sums: Vec<f32>,   // [n, d]
    folds: Vec<Fold>, // [n]
}

/// out [n, d]: the attended values.
pub fn attend<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    compiled_attend(isa, isa, queries, head, scratch, out);
}

compiled! {
    /// The definition knows its instruction set, for what has an operation of its own there.
    pub fn compiled_attend<E: Element>(
        of: Isa,
        queries: Queries<'_>,
        head: Head<'_, E>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) = definition::<E>
}

#[inline(always)]
fn definition<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (n, d) = (queries.visible.len(), queries.d);
    scratch.scores.resize(n * BLOCK, 0.0);
    scratch.sums.resize(n * d, 0.0);
    scratch.folds.clear();
    scratch.folds.resize(n, Fold::default());
    let end = queries.visible.iter().copied().max().unwrap_or(0);
    for start in (0..end).step_by(BLOCK) {
        let seen = |i: usize| queries.visible[i].saturating_sub(start).min(BLOCK);
        score(isa, queries, head, (start, end), &mut scratch.scores);
        for (i, fold) in scratch.folds.iter_mut().enumerate() {
            if seen(i) > 0 {
                let (top, mass) = soften(&mut scratch.scores[i * BLOCK..][..seen(i)]);
                *fold = if start == 0 {
                    Fold { top, mass, keep: 0.0, add: 1.0 }
                } else {
                    refold(*fold, top, mass)
                };
            }
        }
        weigh(isa, queries, head, (start, end), scratch);
        for i in (0..n).filter(|i| seen(*i) > 0) {
            let fold = scratch.folds[i];
            let (out, sums) = (&mut out[i * d..][..d], &scratch.sums[i * d..][..d]);
            if start == 0 {
                out.copy_from_slice(sums);
            } else {
                for (out, o) in out.iter_mut().zip(sums) {
                    *out = fold.add.mul_add(*o, fold.keep * *out);
                }
            }
        }
    }
    for (out, fold) in out.chunks_exact_mut(d).zip(&scratch.folds) {
        for o in out {
            *o /= fold.mass;
        }
    }
}

/// s_j for every query that sees something of a page, and every position of it, visible or not.
#[inline(always)]
fn score<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    (start, end): (usize, usize),
    scores: &mut [f32],
) {
    let d = queries.d;
    for at in (start..end.min(start + BLOCK)).step_by(PAGE) {
        let (keys, ahead) = (head.keys(at, end, d), head.keys(at + PAGE, end, d));
        let first = queries.visible.iter().position(|visible| *visible > at).unwrap_or(0);
        let s = &mut scores[first * BLOCK + at - start..];
        lanes::score(isa, d, &queries.q[first * d..], keys, ahead, s);
    }
}

/// Scores to p_j = exp(s_j - m), in place; returns m and the lane sum of p.
#[inline(always)]
fn soften(scores: &mut [f32]) -> (f32, f32) {
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    let mut tops = [f32::NEG_INFINITY; LANES];
    for scores in &*chunks {
        for (top, s) in tops.iter_mut().zip(scores) {
            *top = if *s > *top { *s } else { *top };
        }
    }
    // The largest does not depend on order: equal ones differ at most in the sign of zero, which
    // no exponential sees.
    let all = tops.iter().chain(&*rest);
    let top = all.fold(f32::NEG_INFINITY, |top, s| if *s > top { *s } else { top });
    let mut lanes = [0.0; LANES];
    for scores in chunks {
        for (lane, s) in lanes.iter_mut().zip(scores) {
            *s = exp(*s - top);
            *lane += *s;
        }
    }
    for (lane, s) in lanes.iter_mut().zip(rest) {
        *s = exp(*s - top);
        *lane += *s;
    }
    (top, fold(lanes))
}

#[inline(always)]
fn refold(fold: Fold, top: f32, mass: f32) -> Fold {
    let new = if top > fold.top { top } else { fold.top };
    let (keep, add) = (exp(fold.top - new), exp(top - new));
    Fold { top: new, mass: add.mul_add(mass, keep * fold.mass), keep, add }
}

/// o = sum p_j v_j over the visible positions of the block, j ascending. Neighbouring queries that
/// see as much of a page share its values.
#[inline(always)]
fn weigh<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    (start, end): (usize, usize),
    scratch: &mut Scratch,
) {
    let d = queries.d;
    let Scratch { scores, sums, .. } = scratch;
    sums.fill(0.0);
    for at in (start..end.min(start + BLOCK)).step_by(PAGE) {
        let (values, mut ahead) = (head.values(at, end, d), head.values(at + PAGE, end, d));
        let seen = |visible: &usize| visible.saturating_sub(at).min(PAGE);
        let mut first = 0;
        for alike in queries.visible.chunk_by(|a, b| seen(a) == seen(b)) {
            let (seen, sums) = (seen(&alike[0]), &mut sums[first * d..][..alike.len() * d]);
            if seen > 0 {
                let p = &scores[first * BLOCK + at - start..];
                lanes::weigh(isa, (d, seen), p, values, ahead, sums);
                ahead = &[];
            }
            first += alike.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: usize = 64;

    fn value(seed: usize) -> f32 {
        (seed.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 32768.0 - 1.0
    }

    /// A pool of pages in shuffled order, slots past `len` poisoned with NaN.
    fn pool<E: Element>(len: usize) -> (Vec<E>, Vec<E>, Vec<u32>) {
        let pages = len.div_ceil(PAGE);
        let table: Vec<u32> = (0..pages as u32).rev().collect();
        let mut keys = vec![E::store(f32::NAN); pages * PAGE * D];
        let mut values = keys.clone();
        for j in 0..len {
            let slot = table[j / PAGE] as usize * PAGE + j % PAGE;
            let k: Vec<f32> = (0..D).map(|c| value(j * D + c)).collect();
            let v: Vec<f32> = (0..D).map(|c| value(j * D + c + 77_777)).collect();
            store(slot, &k, &v, &mut keys, &mut values);
        }
        (keys, values, table)
    }

    fn run<E: Element>(isa: Isa, len: usize, visible: &[usize]) -> Vec<f32> {
        let (keys, values, table) = pool::<E>(len);
        let q: Vec<f32> = visible
            .iter()
            .flat_map(|visible| (0..D).map(move |c| value(visible * 31 + c) * 0.4))
            .collect();
        let mut out = vec![f32::NAN; visible.len() * D];
        let head = Head { keys: &keys, values: &values, table: &table };
        let queries = Queries { q: &q, visible, d: D };
        attend(isa, queries, head, &mut Scratch::default(), &mut out);
        out
    }

    fn check<E: Element>() {
        let visible = [1, 15, 16, 17, 64, 511, 512, 513, 1024, 1100];
        let together = run::<E>(Isa::SCALAR, 1100, &visible);
        assert!(together.iter().all(|x| x.is_finite()), "a hidden slot leaked");
        for isa in Isa::available() {
            assert_eq!(run::<E>(isa, 1100, &visible), together, "{isa:?}");
            for (i, seen) in visible.iter().enumerate() {
                // Alone, and in a cache that ends where its view ends.
                let alone = run::<E>(isa, *seen, &[*seen]);
                assert_eq!(alone, together[i * D..][..D], "{isa:?}, {seen} visible");
            }
        }
    }

    #[test]
    fn a_query_has_the_same_bits_alone_and_in_company() {
        check::<f32>();
        check::<F16>();
    }

    #[test]
    fn it_is_softmax_attention() {
        let (len, d) = (1100, D);
        let out = run::<f32>(Isa::SCALAR, len, &[len]);
        let q: Vec<f64> = (0..d).map(|c| f64::from(value(len * 31 + c) * 0.4)).collect();
        let score = |j: usize| {
            let products = q.iter().enumerate().map(|(c, q)| q * f64::from(value(j * d + c)));
            libm::exp(products.sum())
        };
        let total: f64 = (0..len).map(score).sum();
        for (c, out) in out.iter().enumerate() {
            let truth = (0..len).map(|j| score(j) * f64::from(value(j * d + c + 77_777)));
            let truth = truth.sum::<f64>() / total;
            assert!((f64::from(*out) - truth).abs() < 1e-5, "channel {c}: {out} is not {truth}");
        }
    }
}
