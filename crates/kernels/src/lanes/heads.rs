//! The two products of attention over a page of 64 positions: scores, and weighted values.
//!
//! Queries of one head share what is loaded, and as many chains of fma run side by side as
//! registers hold. `ahead` is what will be read next, or nothing: it is asked for on the way.

#![allow(unsafe_code)] // calls what the probed instruction set allows

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::Isa;
use crate::attention::{BLOCK, Element, GROUP, PAGE, Page, TILE, scales};
use crate::isa::Level;

/// What is read of a page of keys, [PAGE / TILE, d, TILE], or of values, [PAGE, d].
pub(crate) fn read<const KEYS: bool, E: Element>(
    isa: Isa,
    d: usize,
    page: Page<'_, E>,
    ahead: &[E],
    to: &mut [f32],
) {
    match isa.level() {
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 => unreachable!("it is not on this processor"),
        Level::Scalar => unreachable!("the definition reads pages as they are"),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this Isa exists only on processors with these features.
        Level::Avx2 | Level::AvxVnni => unsafe { avx2::read::<KEYS, E>(d, page, ahead, to) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 => unsafe { avx512::read::<KEYS, E>(d, page, ahead, to) },
    }
}

/// s = sum q_c k_c (fma, c ascending) for q [n, d], keys [PAGE / TILE, d, TILE] and s [n, BLOCK],
/// the first PAGE of each row.
pub(crate) fn score<E: Element>(
    isa: Isa,
    d: usize,
    q: &[f32],
    keys: Page<'_, E>,
    ahead: &[E],
    s: &mut [f32],
) {
    match isa.level() {
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 => unreachable!("it is not on this processor"),
        Level::Scalar => {
            for (q, s) in q.chunks_exact(d).zip(s.chunks_mut(BLOCK)) {
                let tiles =
                    keys.numbers.chunks_exact(d * TILE).zip(s[..PAGE].chunks_exact_mut(TILE));
                for (tile, (numbers, s)) in tiles.enumerate() {
                    s.fill(0.0);
                    for (c, (q, k)) in q.iter().zip(numbers.chunks_exact(TILE)).enumerate() {
                        let first = (tile * scales(d) + c / GROUP) * TILE;
                        for (lane, (s, k)) in s.iter_mut().zip(k).enumerate() {
                            let scale = if E::CODED { keys.scales[first + lane] } else { 1.0 };
                            *s = q.mul_add(k.load(scale), *s);
                        }
                    }
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this Isa exists only on processors with these features.
        Level::Avx2 | Level::AvxVnni => unsafe { avx2::score(d, q, keys, ahead, s) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 => unsafe { avx512::score(d, q, keys, ahead, s) },
    }
}

/// o = sum p_j v_j (fma, j ascending, added to o) for p [n, BLOCK], values [PAGE, d], o [n, d] and
/// the first `seen` positions.
pub(crate) fn weigh<E: Element>(
    isa: Isa,
    (d, seen): (usize, usize),
    p: &[f32],
    values: Page<'_, E>,
    ahead: &[E],
    o: &mut [f32],
) {
    match isa.level() {
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 => unreachable!("it is not on this processor"),
        Level::Scalar => {
            for (p, o) in p.chunks(BLOCK).zip(o.chunks_exact_mut(d)) {
                for (j, (p, v)) in p[..seen].iter().zip(values.numbers.chunks_exact(d)).enumerate()
                {
                    for (c, (o, v)) in o.iter_mut().zip(v).enumerate() {
                        let at = j * scales(d) + c / GROUP;
                        let scale = if E::CODED { values.scales[at] } else { 1.0 };
                        *o = p.mul_add(v.load(scale), *o);
                    }
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this Isa exists only on processors with these features.
        Level::Avx2 | Level::AvxVnni => unsafe { avx2::weigh((d, seen), p, values, ahead, o) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 => unsafe { avx512::weigh((d, seen), p, values, ahead, o) },
    }
}

/// Channels of nearly all heads, for which there is a form of each loop that knows them.
#[cfg(target_arch = "x86_64")]
pub(super) const USUAL: usize = 128;

/// Any even number of channels.
#[cfg(target_arch = "x86_64")]
pub(super) const ANY: usize = 0;

/// Declares both with the instruction set's features. `queries x tiles` and `queries x vectors` are
/// what runs side by side.
macro_rules! heads {
    ($features:literal,
     score [$($queries:literal x $tiles:literal)*],
     weigh [$($rows:literal x $vectors:literal)*]) => {
        use $crate::tile::ahead::place;

        /// What is read of sixteen stored numbers under their scales.
        #[target_feature(enable = $features)]
        #[inline]
        fn sixteen<E: Element>(x: &[E; TILE], scales: F) -> F {
            match E::stored(x) {
                Stored::Whole(x) => numbers(x),
                Stored::Half(x) => half_numbers(x),
                Stored::Codes(x) => mul(scales, code_numbers(x)),
            }
        }

        /// Asks for some of a page's cache lines, in several places at once. They come into the
        /// second level, since the first holds the page in work.
        #[target_feature(enable = $features)]
        #[inline]
        fn request<E>(numbers: &[E], d: usize, at: usize, len: usize) {
            let (start, first) = (numbers.as_ptr().cast::<i8>(), at * size_of::<E>() / LINE);
            for line in first..first + (len * size_of::<E>()).div_ceil(LINE) {
                let at = place(PAGE * d * size_of::<E>(), line);
                _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at));
            }
        }

        #[target_feature(enable = $features)]
        pub(crate) fn read<const KEYS: bool, E: Element>(
            d: usize,
            page: Page<'_, E>,
            ahead: &[E],
            to: &mut [f32],
        ) {
            // Channels of sixteen keys, or vectors of a value.
            let width = if KEYS { TILE * d } else { d };
            let asks = !ahead.is_empty();
            let rows = to.chunks_exact_mut(width).zip(page.numbers.chunks_exact(width));
            for (row, (to, from)) in rows.enumerate() {
                let ((to, to_rest), (from, rest)) =
                    (to.as_chunks_mut::<TILE>(), from.as_chunks::<TILE>());
                for (i, (to, from)) in to.iter_mut().zip(from).enumerate() {
                    let mut scale = zero();
                    if E::CODED && KEYS {
                        let at = row * scales(d) + i / GROUP;
                        scale = numbers(&page.scales.as_chunks::<TILE>().0[at]);
                    } else if E::CODED {
                        scale = float(page.scales[row * scales(d) + i * TILE / GROUP]);
                    }
                    if asks && (i * size_of::<E>()).is_multiple_of(4) {
                        request(ahead, d, row * width + i * TILE, TILE);
                    }
                    *to = store(sixteen(from, scale));
                }
                // Of heads that are no whole vectors, which codes never are.
                to_rest.iter_mut().zip(rest).for_each(|(to, from)| *to = from.load(1.0));
            }
        }

        #[target_feature(enable = $features)]
        pub(crate) fn score<E: Element>(
            d: usize,
            q: &[f32],
            keys: Page<'_, E>,
            ahead: &[E],
            s: &mut [f32],
        ) {
            let (n, mut at, mut ahead) = (q.len() / d, 0, ahead);
            $(while n - at >= $queries {
                let (q, s) = (&q[at * d..][..$queries * d], &mut s[at * BLOCK..]);
                match (d, ahead.is_empty()) {
                    (USUAL, false) => {
                        score_some::<E, USUAL, $queries, $tiles, true>(d, q, keys, ahead, s);
                    }
                    (USUAL, true) => {
                        score_some::<E, USUAL, $queries, $tiles, false>(d, q, keys, ahead, s);
                    }
                    (_, false) => {
                        score_some::<E, ANY, $queries, $tiles, true>(d, q, keys, ahead, s);
                    }
                    (_, true) => {
                        score_some::<E, ANY, $queries, $tiles, false>(d, q, keys, ahead, s);
                    }
                }
                at += $queries;
                ahead = &[];
            })*
        }

        #[target_feature(enable = $features)]
        fn score_some<E: Element, const D: usize, const N: usize, const M: usize, const ASKS: bool>(
            d: usize,
            q: &[f32],
            keys: Page<'_, E>,
            ahead: &[E],
            s: &mut [f32],
        ) {
            let d = if D == ANY { d } else { D };
            let pairs = d / 2;
            let mut rows: [&[[f32; 2]]; N] = [&[]; N];
            for n in 0..N {
                rows[n] = &q[n * d..][..d].as_chunks().0[..pairs];
            }
            let scaled = keys.scales.as_chunks::<TILE>().0;
            let keys = keys.numbers.as_chunks::<TILE>().0;
            for tile in (0..PAGE / TILE).step_by(M) {
                let mut tiles: [&[[[E; TILE]; 2]]; M] = [&[]; M];
                for m in 0..M {
                    tiles[m] = &keys[(tile + m) * d..][..d].as_chunks().0[..pairs];
                }
                let mut acc = [[zero(); M]; N];
                let mut scale = [zero(); M];
                for pair in 0..pairs {
                    for m in 0..M {
                        if E::CODED && pair.is_multiple_of(GROUP / 2) {
                            let at = (tile + m) * scales(d) + pair / (GROUP / 2);
                            scale[m] = numbers(&scaled[at]);
                        }
                    }
                    if ASKS {
                        request(ahead, d, (tile * d + 2 * M * pair) * TILE, 2 * M * TILE);
                    }
                    for i in 0..2 {
                        for m in 0..M {
                            let k = sixteen(&tiles[m][pair][i], scale[m]);
                            for n in 0..N {
                                acc[n][m] = fma(float(rows[n][pair][i]), k, acc[n][m]);
                            }
                        }
                    }
                }
                for n in 0..N {
                    let s = &mut s[n * BLOCK + tile * TILE..][..M * TILE];
                    for (m, s) in s.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
                        *s = store(acc[n][m]);
                    }
                }
            }
        }

        #[target_feature(enable = $features)]
        pub(crate) fn weigh<E: Element>(
            (d, seen): (usize, usize),
            p: &[f32],
            values: Page<'_, E>,
            ahead: &[E],
            o: &mut [f32],
        ) {
            let (n, mut at, mut ahead) = (o.len() / d, 0, ahead);
            $(while n - at >= $rows {
                let (p, o) = (&p[at * BLOCK..], &mut o[at * d..][..$rows * d]);
                let mut first = 0;
                while d - first >= $vectors * TILE {
                    let at = (d, seen, first);
                    match (d, ahead.is_empty()) {
                        (USUAL, false) => {
                            weigh_some::<E, USUAL, $rows, $vectors, true>(at, p, values, ahead, o);
                        }
                        (USUAL, true) => {
                            weigh_some::<E, USUAL, $rows, $vectors, false>(at, p, values, &[], o);
                        }
                        (_, false) => {
                            weigh_some::<E, ANY, $rows, $vectors, true>(at, p, values, ahead, o);
                        }
                        (_, true) => {
                            weigh_some::<E, ANY, $rows, $vectors, false>(at, p, values, &[], o);
                        }
                    }
                    first += $vectors * TILE;
                }
                while d - first >= TILE {
                    weigh_some::<E, ANY, $rows, 1, false>((d, seen, first), p, values, &[], o);
                    first += TILE;
                }
                // Of heads that are no whole vectors, which codes never are.
                if first < d {
                    for (n, o) in o.chunks_exact_mut(d).enumerate() {
                        let rows = p[n * BLOCK..][..seen].iter();
                        for (p, v) in rows.zip(values.numbers.chunks_exact(d)) {
                            let rest = o[first..].iter_mut().zip(&v[first..]);
                            rest.for_each(|(o, v)| *o = p.mul_add(v.load(1.0), *o));
                        }
                    }
                }
                at += $rows;
                ahead = &[];
            })*
        }

        #[target_feature(enable = $features)]
        fn weigh_some<E: Element, const D: usize, const N: usize, const V: usize, const ASKS: bool>(
            (d, seen, first): (usize, usize, usize),
            p: &[f32],
            values: Page<'_, E>,
            ahead: &[E],
            o: &mut [f32],
        ) {
            let d = if D == ANY { d } else { D };
            let mut rows: [&[f32]; N] = [&[]; N];
            let mut acc = [[zero(); V]; N];
            for n in 0..N {
                rows[n] = &p[n * BLOCK..][..seen];
                let o = o[n * d + first..][..V * TILE].as_chunks::<TILE>().0;
                for v in 0..V {
                    acc[n][v] = numbers(&o[v]);
                }
            }
            let scaled = values.scales;
            for j in 0..seen {
                let values = values.numbers[j * d + first..][..V * TILE].as_chunks::<TILE>().0;
                if ASKS {
                    request(ahead, d, first * PAGE + j * V * TILE, V * TILE);
                }
                let mut w = [zero(); V];
                for v in 0..V {
                    let group = j * scales(d) + (first + v * TILE) / GROUP;
                    let scale = if E::CODED { float(scaled[group]) } else { zero() };
                    w[v] = sixteen(&values[v], scale);
                }
                for n in 0..N {
                    let p = float(rows[n][j]);
                    for v in 0..V {
                        acc[n][v] = fma(p, w[v], acc[n][v]);
                    }
                }
            }
            for n in 0..N {
                let o = o[n * d + first..][..V * TILE].as_chunks_mut::<TILE>().0;
                for v in 0..V {
                    o[v] = store(acc[n][v]);
                }
            }
        }
    };
}
pub(super) use heads;
