//! The two products of attention over one tile of sixteen positions: scores, and weighted values.

#![allow(unsafe_code)] // calls what the probed instruction set allows

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::Isa;
use crate::isa::Level;
use crate::tile::ROWS;

/// Queries that share each key: so many chains of fma run side by side.
pub(crate) const TOGETHER: usize = 8;

/// Scores of sixteen keys, [query][key].
pub(crate) type Scores = [[f32; ROWS]; TOGETHER];

/// s = sum q_c k_c (fma, c ascending) for keys [d, 16].
pub(crate) fn score(isa: Isa, q: [&[f32]; TOGETHER], keys: &[[f32; ROWS]], s: &mut Scores) {
    match isa.level() {
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 => unreachable!("it is not on this processor"),
        Level::Scalar => {
            for (q, s) in q.iter().zip(s) {
                *s = [0.0; ROWS];
                for (q, k) in q.iter().zip(keys) {
                    s.iter_mut().zip(k).for_each(|(s, k)| *s = q.mul_add(*k, *s));
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this Isa exists only on processors with these features.
        Level::Avx2 | Level::AvxVnni => unsafe { avx2::score::<4>(&q, keys, s) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 => unsafe { avx512::score::<8>(&q, keys, s) },
    }
}

/// o = sum p_j v_j (fma, j ascending, added to o) for values [16, d] and the first few positions.
pub(crate) fn weigh(isa: Isa, p: &[f32], values: &[f32], o: &mut [f32]) {
    match isa.level() {
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 => unreachable!("it is not on this processor"),
        Level::Scalar => {
            for (p, v) in p.iter().zip(values.chunks_exact(o.len())) {
                o.iter_mut().zip(v).for_each(|(o, v)| *o = p.mul_add(*v, *o));
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this Isa exists only on processors with these features.
        Level::Avx2 | Level::AvxVnni => unsafe { avx2::weigh(p, values, o) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 => unsafe { avx512::weigh(p, values, o) },
    }
}

/// Declares both with the instruction set's features.
macro_rules! heads {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        pub(crate) fn score<const N: usize>(
            q: &[&[f32]],
            keys: &[[f32; ROWS]],
            s: &mut [[f32; ROWS]],
        ) {
            for (q, s) in q.as_chunks::<N>().0.iter().zip(s.as_chunks_mut::<N>().0) {
                let mut rows: [&[f32]; N] = [&[]; N];
                for n in 0..N {
                    rows[n] = &q[n][..keys.len()];
                }
                let mut acc = [zero(); N];
                for (c, k) in keys.iter().enumerate() {
                    let k = numbers(k);
                    for n in 0..N {
                        acc[n] = fma(float(rows[n][c]), k, acc[n]);
                    }
                }
                for n in 0..N {
                    s[n] = store(acc[n]);
                }
            }
        }

        #[target_feature(enable = $features)]
        pub(crate) fn weigh(p: &[f32], values: &[f32], o: &mut [f32]) {
            let d = o.len();
            let (chunks, rest) = o.as_chunks_mut::<64>();
            for (c, o) in chunks.iter_mut().enumerate() {
                let o = o.as_chunks_mut::<ROWS>().0;
                let mut acc = [numbers(&o[0]), numbers(&o[1]), numbers(&o[2]), numbers(&o[3])];
                for (p, v) in p.iter().zip(values.chunks_exact(d)) {
                    let (p, v) = (float(*p), v[64 * c..][..64].as_chunks::<ROWS>().0);
                    for i in 0..4 {
                        acc[i] = fma(p, numbers(&v[i]), acc[i]);
                    }
                }
                for i in 0..4 {
                    o[i] = store(acc[i]);
                }
            }
            for (p, v) in p.iter().zip(values.chunks_exact(d)) {
                for (o, v) in rest.iter_mut().zip(&v[d / 64 * 64..]) {
                    *o = p.mul_add(*v, *o);
                }
            }
        }
    };
}
pub(super) use heads;
