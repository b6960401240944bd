//! Attention of some queries over one key/value head, in fixed blocks of 512 absolute positions.
//!
//! ```text
//! per block, visible keys only:  s_j = sum q_c k_c  (fma, c ascending)    m = max s
//!                                p_j = exp(s_j - m)                       l = lane sum p
//!                                o = sum p_j v_j    (fma, j ascending)
//! fold, blocks ascending:        M' = max(M, m)  a = exp(M - M')  c = exp(m - M')
//!                                L = fma(c, l, a L)    O = fma(c, o, a O)        out = O / L
//! ```
//! A page holds 64 positions of every head of every layer. Keys lie in tiles of 16 positions,
//! `[d][16]`, so that lanes are keys; values lie `[64][d]`, so that lanes are channels. Slots that
//! are not visible are never multiplied: a recycled page may hold anything.

mod element;

use std::ops::Range;

pub use element::{Element, F16, GROUP, Stored, scales};

use crate::exp::exp;
use crate::isa::{Isa, compiled};
use crate::lanes;
use crate::norm::{LANES, fold};

/// Positions in a page.
pub const PAGE: usize = 64;
/// Positions in a block of the softmax.
pub const BLOCK: usize = 512;
/// Positions in a tile of keys.
pub const TILE: usize = 16;

/// A head's keys and values in a pool, seen through one sequence's pages. A page is made of parts,
/// one for each head of each layer; a part has keys [PAGE / TILE, d, TILE] and then values
/// [PAGE, d], and their scales, [PAGE / TILE, scales(d), TILE] and [PAGE, scales(d)], if its
/// numbers are codes.
#[derive(Clone, Copy)]
pub struct Head<'a, E> {
    /// [pages of the pool, parts, part]
    pub numbers: &'a [E],
    /// Likewise.
    pub scales: &'a [f32],
    /// Parts of a page.
    pub parts: usize,
    /// Which of them is the head's.
    pub part: usize,
    /// Positions 64 i .. lie in page `table[i]`.
    pub table: &'a [u32],
}

/// Keys or values of a page.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a, E> {
    pub numbers: &'a [E],
    pub scales: &'a [f32],
}

impl<'a, E> Page<'a, E> {
    /// None.
    pub(crate) const NONE: Self = Self { numbers: &[], scales: &[] };

    /// Numbers without scales.
    fn of(numbers: &'a [E]) -> Self {
        Self { numbers, scales: &[] }
    }

    /// Values without those of the first positions.
    #[inline(always)]
    fn behind(self, position: usize, d: usize) -> Self {
        let scales = self.scales.get(position * scales(d)..).unwrap_or(&[]);
        Self { numbers: &self.numbers[position * d..], scales }
    }
}

impl<'a, E: Element> Head<'a, E> {
    /// The keys of the page that holds a position; nothing behind `end`.
    #[inline(always)]
    fn keys(&self, position: usize, end: usize, d: usize) -> Page<'a, E> {
        self.half(0, (position, end), d)
    }

    /// Its values.
    #[inline(always)]
    fn values(&self, position: usize, end: usize, d: usize) -> Page<'a, E> {
        self.half(1, (position, end), d)
    }

    #[inline(always)]
    fn half(&self, half: usize, (position, end): (usize, usize), d: usize) -> Page<'a, E> {
        if position >= end {
            return Page::NONE;
        }
        let page = self.table[position / PAGE] as usize;
        let (at, len) = (2 * (page * self.parts + self.part) + half, PAGE * scales(d));
        let numbers = &self.numbers[at * PAGE * d..][..PAGE * d];
        Page { numbers, scales: if E::CODED { &self.scales[at * len..][..len] } else { &[] } }
    }
}

/// A head's part of a page, to be written.
pub struct Part<'a, E> {
    /// [part], as in [`Head`]
    pub numbers: &'a mut [E],
    /// Likewise.
    pub scales: &'a mut [f32],
}

compiled! {
    /// Writes one position's key and value into a slot of a part.
    pub fn store<E: Element>(slot: usize, k: &[f32], v: &[f32], to: &mut Part<'_, E>)
        = store_definition::<E>
}

#[inline(always)]
fn store_definition<E: Element>(slot: usize, k: &[f32], v: &[f32], to: &mut Part<'_, E>) {
    let (d, scales) = (k.len(), scales(k.len()));
    let (keys, values) = to.numbers.split_at_mut(PAGE * d);
    let (key_scales, value_scales) =
        to.scales.split_at_mut(if E::CODED { PAGE * scales } else { 0 });
    let tile = &mut keys[slot / TILE * TILE * d..][..TILE * d];
    let mut stored = [E::default(); GROUP];
    for (group, k) in k.chunks(GROUP).enumerate() {
        let scale = E::scale(k);
        stored.iter_mut().zip(k).for_each(|(stored, k)| *stored = E::store(*k, scale));
        let columns = tile[group * GROUP * TILE..].chunks_exact_mut(TILE).take(k.len());
        columns.zip(stored).for_each(|(column, stored)| column[slot % TILE] = stored);
        if E::CODED {
            key_scales[(slot / TILE * scales + group) * TILE + slot % TILE] = scale;
        }
    }
    for (group, v) in v.chunks(GROUP).enumerate() {
        let scale = E::scale(v);
        for (value, v) in values[slot * d + group * GROUP..].iter_mut().zip(v) {
            *value = E::store(*v, scale);
        }
        if E::CODED {
            value_scales[slot * scales + group] = scale;
        }
    }
}

/// Queries that share a key/value head, and what each may see.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// [n, d], rotated and scaled
    pub q: &'a [f32],
    /// [n], query i sees positions 0..visible[i]; at least one, and as many as those before it
    pub visible: &'a [usize],
    /// Channels of a head, an even number: kernels take them in pairs.
    pub d: usize,
}

impl Queries<'_> {
    /// Whether kernels read a page once for all of them, not again for every few.
    #[inline(always)]
    fn are_many(&self, isa: Isa) -> bool {
        isa != Isa::SCALAR && self.visible.len() > 8
    }
}

/// Buffers of one thread, reused; after [`block`] they hold what it gives.
#[derive(Default)]
pub struct Scratch {
    page: Vec<f32>,   // keys or values of a page, as they are read
    scores: Vec<f32>, // [n, BLOCK]
    /// Of the queries of a task, or of a row of it.
    pub folds: Vec<Fold>,
    /// m and l of each query, for one that sees nothing of the block whatever they were.
    pub masses: Vec<Mass>,
    /// o of each query [n, d], likewise.
    pub sums: Vec<f32>,
}

/// What a query has of a block beside o.
#[derive(Clone, Copy, Default)]
pub struct Mass {
    /// m
    pub top: f32,
    /// l
    pub mass: f32,
}

/// The running softmax of one query: M and L, once there is a block.
#[derive(Clone, Copy, Default)]
pub struct Fold(Option<Mass>);

impl Fold {
    /// Takes up a block, the next that the query sees; `o` and `out` [d].
    pub fn add(&mut self, isa: Isa, block: Mass, o: &[f32], out: &mut [f32]) {
        match &mut self.0 {
            Some(fold) => refold(isa, fold, block, o, out),
            none => {
                *none = Some(block);
                out.copy_from_slice(o);
            }
        }
    }

    /// Divides by what all blocks weigh.
    pub fn finish(self, out: &mut [f32]) {
        let mass = self.0.map_or(0.0, |fold| fold.mass);
        out.iter_mut().for_each(|o| *o /= mass);
    }
}

compiled! {
    fn refold(fold: &mut Mass, block: Mass, o: &[f32], out: &mut [f32]) = refold_definition
}

#[inline(always)]
fn refold_definition(fold: &mut Mass, block: Mass, o: &[f32], out: &mut [f32]) {
    let top = if block.top > fold.top { block.top } else { fold.top };
    let (keep, add) = (exp(fold.top - top), exp(block.top - top));
    *fold = Mass { top, mass: add.mul_add(block.mass, keep * fold.mass) };
    for (out, o) in out.iter_mut().zip(o) {
        *out = add.mul_add(*o, keep * *out);
    }
}

/// out [n, d]: the attended values.
pub fn attend<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let mut folds = std::mem::take(&mut scratch.folds);
    folds.clear();
    folds.resize(queries.visible.len(), Fold::default());
    let end = queries.visible.iter().copied().max().unwrap_or(0);
    for start in (0..end).step_by(BLOCK) {
        block(isa, queries, head, (start, end), scratch);
        let blocks = scratch.masses.iter().zip(scratch.sums.chunks_exact(queries.d));
        let rows = folds.iter_mut().zip(out.chunks_exact_mut(queries.d)).zip(blocks);
        for (((fold, out), (mass, o)), visible) in rows.zip(queries.visible) {
            if *visible > start {
                fold.add(isa, *mass, o, out);
            }
        }
    }
    let rows = folds.iter().zip(out.chunks_exact_mut(queries.d));
    rows.for_each(|(fold, out)| fold.finish(out));
    scratch.folds = folds;
}

/// m, l and o of the block from `start` on, for all queries. What comes before `end` will be read
/// next, and is asked for.
pub fn block<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    (start, end): (usize, usize),
    scratch: &mut Scratch,
) {
    assert!(queries.d.is_multiple_of(2), "heads have pairs of channels");
    assert!(start.is_multiple_of(BLOCK), "blocks begin at fixed positions");
    compiled_block(isa, isa, queries, head, (start, end), scratch);
}

compiled! {
    /// The definition knows its instruction set, for what has an operation of its own there.
    fn compiled_block<E: Element>(
        of: Isa,
        queries: Queries<'_>,
        head: Head<'_, E>,
        range: (usize, usize),
        scratch: &mut Scratch,
    ) = definition::<E>
}

#[inline(always)]
fn definition<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    (start, end): (usize, usize),
    scratch: &mut Scratch,
) {
    let (n, d) = (queries.visible.len(), queries.d);
    scratch.scores.resize(n * BLOCK, 0.0);
    scratch.sums.resize(n * d, 0.0);
    scratch.masses.resize(n, Mass::default());
    score(isa, queries, head, (start, end), scratch);
    let rows = scratch.masses.iter_mut().zip(scratch.scores.chunks_exact_mut(BLOCK));
    for ((mass, scores), visible) in rows.zip(queries.visible) {
        let seen = visible.saturating_sub(start).min(BLOCK);
        if seen > 0 {
            *mass = soften(&mut scores[..seen]);
        }
    }
    weigh(isa, queries, head, (start, end), scratch);
}

/// s_j for every query that sees something of a page, and every position of it, visible or not.
#[inline(always)]
fn score<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    (start, end): (usize, usize),
    Scratch { page, scores, .. }: &mut Scratch,
) {
    let d = queries.d;
    let stop = end.min(start + BLOCK);
    for at in (start..stop).step_by(PAGE) {
        let (keys, next) = (head.keys(at, stop, d), head.keys(at + PAGE, stop, d));
        let ahead =
            if next.numbers.is_empty() { head.values(start, stop, d) } else { next }.numbers;
        let first = queries.visible.iter().position(|visible| *visible > at).unwrap_or(0);
        let (q, s) = (&queries.q[first * d..], &mut scores[first * BLOCK + at - start..]);
        if queries.are_many(isa) {
            page.resize(PAGE * d, 0.0);
            lanes::read::<true, _>(isa, d, keys, ahead, page);
            lanes::score(isa, d, q, Page::of(page), &[], s);
        } else {
            lanes::score(isa, d, q, keys, ahead, s);
        }
    }
}

/// Scores to p_j = exp(s_j - m), in place; returns m and the lane sum of p.
#[inline(always)]
fn soften(scores: &mut [f32]) -> Mass {
    // The largest does not depend on order: equal ones differ at most in the sign of zero, which
    // no exponential sees.
    let largest = |a: f32, b: f32| if b > a { b } else { a };
    let (wide, rest) = scores.as_chunks::<{ 4 * LANES }>();
    let mut tops = [f32::NEG_INFINITY; LANES];
    for scores in wide {
        for (lane, top) in tops.iter_mut().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| scores[i * LANES + lane]);
            *top = largest(*top, largest(largest(a, b), largest(c, d)));
        }
    }
    let top = tops.iter().chain(rest).copied().fold(f32::NEG_INFINITY, largest);
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
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
    Mass { top, mass: fold(lanes) }
}

/// o = sum p_j v_j over the visible positions of the block, j ascending.
#[inline(always)]
fn weigh<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    head: Head<'_, E>,
    (start, end): (usize, usize),
    Scratch { page, scores, sums, .. }: &mut Scratch,
) {
    let d = queries.d;
    sums.fill(0.0);
    let stop = end.min(start + BLOCK);
    for at in (start..stop).step_by(PAGE) {
        let (values, next) = (head.values(at, stop, d), head.values(at + PAGE, stop, d));
        let ahead = if next.numbers.is_empty() { head.keys(stop, end, d) } else { next }.numbers;
        let p = &scores[at - start..];
        if queries.are_many(isa) {
            page.resize(PAGE * d, 0.0);
            lanes::read::<false, _>(isa, d, values, ahead, page);
            weigh_page(isa, queries, at, p, Page::of(page), &[], sums);
        } else {
            weigh_page(isa, queries, at, p, values, ahead, sums);
        }
    }
}

/// Adds one page, which begins at a position. Queries share its values as far as the first of them
/// sees, and neighbours that see as much share the rest.
#[inline(always)]
fn weigh_page<E: Element>(
    isa: Isa,
    queries: Queries<'_>,
    at: usize,
    p: &[f32],
    values: Page<'_, E>,
    ahead: &[E],
    sums: &mut [f32],
) {
    let d = queries.d;
    let first = queries.visible.iter().position(|visible| *visible > at).unwrap_or(0);
    let visible = &queries.visible[first..];
    let seen = |visible: &usize| (visible - at).min(PAGE);
    let mut add = |first: usize, n: usize, range: Range<usize>, ahead: &[E]| {
        let (p, values) = (&p[first * BLOCK + range.start..], values.behind(range.start, d));
        lanes::weigh(isa, (d, range.len()), p, values, ahead, &mut sums[first * d..][..n * d]);
    };
    let shared = visible.first().map_or(0, seen);
    add(first, visible.len(), 0..shared, ahead);
    let mut first = first;
    for alike in visible.chunk_by(|a, b| seen(a) == seen(b)) {
        if seen(&alike[0]) > shared {
            add(first, alike.len(), shared..seen(&alike[0]), &[]);
        }
        first += alike.len();
    }
}

#[cfg(test)]
mod tests;
