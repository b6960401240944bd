//! Queries alone and in company, against softmax attention, on every instruction set.

use super::*;

const D: usize = 64;

fn value(seed: usize) -> f32 {
    (seed.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 32768.0 - 1.0
}

/// Parts of a page, of which the last is used.
const PARTS: usize = 3;

/// A pool of pages in shuffled order; what is not stored is NaN.
struct Pool<E> {
    d: usize,
    numbers: Vec<E>,
    scales: Vec<f32>,
    table: Vec<u32>,
}

impl<E: Element> Pool<E> {
    fn new(len: usize, d: usize) -> Self {
        let pages = len.div_ceil(PAGE);
        let table: Vec<u32> = (0..pages as u32).rev().collect();
        let numbers = vec![E::store(f32::NAN, f32::NAN); pages * PARTS * 2 * PAGE * d];
        let scales = vec![f32::NAN; pages * PARTS * 2 * PAGE * scales(d)];
        let mut pool = Self { d, numbers, scales, table };
        for j in 0..len {
            let k: Vec<f32> = (0..d).map(|c| value(j * d + c)).collect();
            let v: Vec<f32> = (0..d).map(|c| value(j * d + c + 77_777)).collect();
            store(Isa::SCALAR, j % PAGE, &k, &v, &mut pool.part(j / PAGE));
        }
        pool
    }

    fn part(&mut self, page: usize) -> Part<'_, E> {
        let at = self.table[page] as usize * PARTS + PARTS - 1;
        let [numbers, scales] = [2 * PAGE * self.d, 2 * PAGE * scales(self.d)];
        Part {
            numbers: &mut self.numbers[at * numbers..][..numbers],
            scales: &mut self.scales[at * scales..][..scales],
        }
    }

    fn head(&self) -> Head<'_, E> {
        let Self { numbers, scales, table, .. } = self;
        Head { numbers, scales, parts: PARTS, part: PARTS - 1, table }
    }
}

fn run<E: Element>(isa: Isa, len: usize, visible: &[usize]) -> Vec<f32> {
    let pool = Pool::<E>::new(len, D);
    let q: Vec<f32> = visible
        .iter()
        .flat_map(|visible| (0..D).map(move |c| value(visible * 31 + c) * 0.4))
        .collect();
    let mut out = vec![f32::NAN; visible.len() * D];
    let queries = Queries { q: &q, visible, d: D };
    attend(isa, queries, pool.head(), &mut Scratch::default(), &mut out);
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
    check::<i8>();
}

/// Heads of no whole vectors, of which a page is read for all queries, or by each kernel.
#[test]
fn heads_of_any_width_have_the_bits_of_the_definition() {
    let (len, d) = (100, 72);
    let pool = Pool::<F16>::new(len, d);
    for n in [1, 7, 8, 9, 30] {
        let q: Vec<f32> = (0..n * d).map(|i| value(i * 31)).collect();
        let visible: Vec<usize> = (0..n).map(|i| len - (n - 1 - i) / 2).collect();
        let run = |isa| {
            let mut out = vec![f32::NAN; n * d];
            let queries = Queries { q: &q, visible: &visible, d };
            attend(isa, queries, pool.head(), &mut Scratch::default(), &mut out);
            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let expected = run(Isa::SCALAR);
        Isa::available().into_iter().for_each(|isa| assert_eq!(run(isa), expected, "{isa:?}"));
    }
}

#[test]
fn codes_are_near_what_they_stand_for() {
    let near = |x: &[f32], bound: f32| {
        let scale = i8::scale(x);
        for x in x {
            let read = i8::store(*x, scale).load(scale);
            assert!((read - x).abs() <= bound, "{x:e} is read as {read:e}");
        }
    };
    let row: Vec<f32> = (0..GROUP).map(value).collect();
    near(&row, 0.5001 / 127.0);
    near(&row.iter().map(|x| x * 1e30).collect::<Vec<_>>(), 0.5001e30 / 127.0);
    near(&row.iter().map(|x| x * 1e-37).collect::<Vec<_>>(), 1e-37);
    near(&[0.0; GROUP], 0.0);
    near(&[127.0, -127.0, 2.5, -3.5, 0.5], 0.5);
    assert_eq!([2.5, 3.5, -2.5].map(|x| i8::store(x, 1.0)), [2, 4, -2]);
    for damaged in [f32::NAN, f32::INFINITY] {
        let scale = i8::scale(&[1.0, damaged, 2.0]);
        assert!(i8::store(1.0, scale).load(scale).is_nan());
    }
}

/// Codes of ±1 lose little of attention.
#[test]
fn attention_over_codes_is_near() {
    let visible = [1, 64, 700, 1100];
    let (exact, coded) =
        (run::<f32>(Isa::SCALAR, 1100, &visible), run::<i8>(Isa::SCALAR, 1100, &visible));
    for (exact, coded) in exact.iter().zip(&coded) {
        assert!((exact - coded).abs() < 2e-2, "{coded}, not {exact}");
    }
    assert!(exact != coded);
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
