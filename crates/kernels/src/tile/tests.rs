//! Every kernel against the definition, bit for bit, and the definition against f64.

use super::*;
use crate::activation::{Row, quantise_narrow, quantise_wide};
use crate::quant::{FORMATS, Format};
use crate::tile::pack::Pack;

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

/// The products of some rows with some tokens, all tiles at once as a backend would.
fn run(isa: Isa, format: &Format, rows: &[u8], x: &[Vec<f32>], wide: bool) -> Vec<[f32; ROWS]> {
    let k = x[0].len();
    let mut bytes = vec![0; format.layout.panel_bytes(k)];
    format.layout.pack(rows, k, &mut bytes);
    let panel = Panel::alone(&bytes, k);
    let mut tiles: Vec<&[Vec<f32>]> = Vec::new();
    let mut rest = x;
    while !rest.is_empty() {
        let (tile, left) = rest.split_at(next_tokens(rest.len()));
        tiles.push(tile);
        rest = left;
    }
    let mut sums = vec![[[f32::NAN; ROWS]; TOKENS]; tiles.len()];
    if !format.quantised {
        for (tile, sums) in tiles.iter().zip(sums.chunks_mut(1)) {
            let tokens: Vec<&[f32]> = tile.iter().map(Vec::as_slice).collect();
            format.tile(isa, panel, Acts::Float(&tokens), sums);
        }
    } else if wide {
        let packs = packs(isa, &tiles, |x, row| quantise_wide(isa, x, row));
        format.tile(isa, panel, Acts::Wide(&packs), &mut sums);
    } else {
        let packs = packs(isa, &tiles, |x, row| quantise_narrow(isa, x, row));
        format.tile(isa, panel, Acts::Narrow(&packs), &mut sums);
    }
    tiles.iter().zip(&sums).flat_map(|(tile, sums)| sums[..tile.len()].to_vec()).collect()
}

fn packs<const P: usize>(
    isa: Isa,
    tiles: &[&[Vec<f32>]],
    quantise: impl Fn(&[f32], &mut Row<P>),
) -> Vec<Pack<P>> {
    let pack = |tile: &&[Vec<f32>]| {
        let mut rows = vec![Row::new(tile[0].len()); tile.len()];
        rows.iter_mut().zip(*tile).for_each(|(row, x)| quantise(x, row));
        let mut pack = Pack::default();
        pack.gather(isa, rows.iter());
        pack
    };
    tiles.iter().map(pack).collect()
}

fn canonical(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| if x.is_nan() { f32::NAN } else { *x }.to_bits()).collect()
}

/// Valid blocks and wild ones (random bytes: NaN, infinite and subnormal scales), up to 17 tokens
/// and once 33, a panel that is not full, an outlier.
#[test]
fn every_isa_and_every_batch_gives_the_bits_of_the_definition() {
    let mut random = Random(7);
    let k = 1024;
    for format in &FORMATS {
        for tokens in (1..=17).chain([33]) {
            let valid = tokens % 5 != 4;
            let rows = if tokens == 3 { 5 } else { ROWS };
            let mut bytes = random.bytes(format.row_bytes(k) * rows);
            if valid {
                format.tame(&mut bytes, 0.03);
            }
            let mut x: Vec<Vec<f32>> =
                (0..tokens).map(|_| (0..k).map(|_| random.float() * 3.0).collect()).collect();
            (x[0][k / 3], x[tokens / 2][k - 1]) = (1e4, -77.0);
            for wide in [false, true] {
                let alone: Vec<_> = x
                    .iter()
                    .map(|x| run(Isa::SCALAR, format, &bytes, std::slice::from_ref(x), wide)[0])
                    .collect();
                for isa in Isa::available() {
                    let all = run(isa, format, &bytes, &x, wide);
                    for (t, (all, alone)) in all.iter().zip(&alone).enumerate() {
                        let (all, alone) = (canonical(&all[..rows]), canonical(&alone[..rows]));
                        assert_eq!(all, alone, "{format:?} {isa:?} token {t} of {tokens} {wide}");
                    }
                }
            }
        }
    }
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
            let sums = run(Isa::SCALAR, format, &bytes, std::slice::from_ref(&x), wide);
            for (r, weights) in weights.chunks_exact(k).enumerate() {
                let products = weights.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let truth: f64 = products.sum();
                let error = (f64::from(sums[0][r]) - truth).abs();
                assert!(error < bound, "{format:?} row {r}: {} is not {truth}", sums[0][r]);
            }
        }
    }
}

#[test]
fn a_panel_is_a_permutation() {
    let mut random = Random(11);
    for format in &FORMATS {
        let k = 512;
        let rows = random.bytes(format.row_bytes(k) * ROWS);
        let mut panel = vec![0; format.layout.panel_bytes(k)];
        format.layout.pack(&rows, k, &mut panel);
        let mut back = vec![0; format.row_bytes(k)];
        for (lane, row) in rows.chunks_exact(back.len()).enumerate() {
            format.layout.unpack(&panel, k, lane, &mut back);
            assert_eq!(back, row, "{format:?} row {lane}");
        }
        assert!(panel.len() - rows.len() < 64, "{format:?}");
        assert_eq!(format.layout.part(false) % 64 % 32, 0, "{format:?} blocks keep alignment");
    }
}
