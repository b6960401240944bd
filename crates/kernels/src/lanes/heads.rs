//! The two products of attention over a page of 64 positions: scores, and weighted values.
//!
//! Queries of one head share what is loaded, and as many chains of fma run side by side as
//! registers hold. `ahead` is what will be read next, or nothing: it is asked for on the way.

#![allow(unsafe_code)] // calls what the probed instruction set allows

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::Isa;
use crate::attention::{BLOCK, Element, PAGE, TILE};
use crate::isa::Level;

/// s = sum q_c k_c (fma, c ascending) for q [n, d], keys [PAGE / TILE, d, TILE] and s [n, BLOCK],
/// the first PAGE of each row.
pub(crate) fn score<E: Element>(
    isa: Isa,
    d: usize,
    q: &[f32],
    keys: &[E],
    ahead: &[E],
    s: &mut [f32],
) {
    match isa.level() {
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 => unreachable!("it is not on this processor"),
        Level::Scalar => {
            for (q, s) in q.chunks_exact(d).zip(s.chunks_mut(BLOCK)) {
                for (keys, s) in keys.chunks_exact(d * TILE).zip(s[..PAGE].chunks_exact_mut(TILE)) {
                    s.fill(0.0);
                    for (q, k) in q.iter().zip(keys.chunks_exact(TILE)) {
                        s.iter_mut().zip(k).for_each(|(s, k)| *s = q.mul_add(k.load(), *s));
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
    values: &[E],
    ahead: &[E],
    o: &mut [f32],
) {
    match isa.level() {
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 => unreachable!("it is not on this processor"),
        Level::Scalar => {
            for (p, o) in p.chunks(BLOCK).zip(o.chunks_exact_mut(d)) {
                for (p, v) in p[..seen].iter().zip(values.chunks_exact(d)) {
                    o.iter_mut().zip(v).for_each(|(o, v)| *o = p.mul_add(v.load(), *o));
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

/// Declares both with the instruction set's features. `queries x tiles` and `queries x vectors` are
/// what runs side by side.
macro_rules! heads {
    ($features:literal,
     score [$($queries:literal x $tiles:literal)*],
     weigh [$($rows:literal x $vectors:literal)*]) => {
        /// Sixteen stored numbers, exact.
        #[target_feature(enable = $features)]
        #[inline]
        fn sixteen<E: Element>(x: &[E; TILE]) -> F {
            match E::stored(x) {
                Stored::Whole(x) => numbers(x),
                Stored::Half(x) => half_numbers(x),
            }
        }

        /// Asks for the cache line that begins with this number, if one does.
        #[target_feature(enable = $features)]
        #[inline]
        fn request<E>(numbers: &[E], at: usize) {
            if at < numbers.len() && at.is_multiple_of(64 / size_of::<E>()) {
                _mm_prefetch::<_MM_HINT_T0>(numbers[at..].as_ptr().cast());
            }
        }

        #[target_feature(enable = $features)]
        pub(crate) fn score<E: Element>(
            d: usize,
            q: &[f32],
            keys: &[E],
            ahead: &[E],
            s: &mut [f32],
        ) {
            let (n, mut at, mut ahead) = (q.len() / d, 0, ahead);
            $(while n - at >= $queries {
                let (q, s) = (&q[at * d..][..$queries * d], &mut s[at * BLOCK..]);
                score_some::<E, $queries, $tiles>(d, q, keys, ahead, s);
                at += $queries;
                ahead = &[];
            })*
        }

        #[target_feature(enable = $features)]
        fn score_some<E: Element, const N: usize, const M: usize>(
            d: usize,
            q: &[f32],
            keys: &[E],
            ahead: &[E],
            s: &mut [f32],
        ) {
            let mut rows: [&[f32]; N] = [&[]; N];
            for n in 0..N {
                rows[n] = &q[n * d..][..d];
            }
            let keys = keys.as_chunks::<TILE>().0;
            for tile in (0..PAGE / TILE).step_by(M) {
                let mut tiles: [&[[E; TILE]]; M] = [&[]; M];
                for m in 0..M {
                    tiles[m] = &keys[(tile + m) * d..][..d];
                }
                let mut acc = [[zero(); M]; N];
                for c in 0..d {
                    for m in 0..M {
                        request(ahead, ((tile + m) * d + c) * TILE);
                        let k = sixteen(&tiles[m][c]);
                        for n in 0..N {
                            acc[n][m] = fma(float(rows[n][c]), k, acc[n][m]);
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
            values: &[E],
            ahead: &[E],
            o: &mut [f32],
        ) {
            let (n, mut at, mut ahead) = (o.len() / d, 0, ahead);
            $(while n - at >= $rows {
                let (p, o) = (&p[at * BLOCK..], &mut o[at * d..][..$rows * d]);
                let mut first = 0;
                while d - first >= $vectors * TILE {
                    weigh_some::<E, $rows, $vectors>((d, seen), first, p, values, ahead, o);
                    first += $vectors * TILE;
                }
                while d - first >= TILE {
                    weigh_some::<E, $rows, 1>((d, seen), first, p, values, ahead, o);
                    first += TILE;
                }
                for (n, o) in o.chunks_exact_mut(d).enumerate() {
                    for (p, v) in p[n * BLOCK..][..seen].iter().zip(values.chunks_exact(d)) {
                        let rest = o[first..].iter_mut().zip(&v[first..]);
                        rest.for_each(|(o, v)| *o = p.mul_add(v.load(), *o));
                    }
                }
                at += $rows;
                ahead = &[];
            })*
        }

        #[target_feature(enable = $features)]
        fn weigh_some<E: Element, const N: usize, const V: usize>(
            (d, seen): (usize, usize),
            first: usize,
            p: &[f32],
            values: &[E],
            ahead: &[E],
            o: &mut [f32],
        ) {
            let mut rows: [&[f32]; N] = [&[]; N];
            let mut acc = [[zero(); V]; N];
            for n in 0..N {
                rows[n] = &p[n * BLOCK..][..seen];
                let o = o[n * d + first..][..V * TILE].as_chunks::<TILE>().0;
                for v in 0..V {
                    acc[n][v] = numbers(&o[v]);
                }
            }
            for (j, values) in values.chunks_exact(d).take(seen).enumerate() {
                let values = values[first..][..V * TILE].as_chunks::<TILE>().0;
                let mut w = [zero(); V];
                for v in 0..V {
                    request(ahead, j * d + first + v * TILE);
                    w[v] = sixteen(&values[v]);
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
