//! Limits: what this machine gives whoever asks for nothing else: bytes read from memory, and
//! integer products of the tile kernel on a panel that stays in cache.
//!
//! Speeds of a model are read beside them, measured in the same minute on the same threads.

use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use qwire_kernels::Isa;
use qwire_kernels::activation::{Row, quantise_narrow};
use qwire_kernels::quant::{FORMATS, Format};
use qwire_kernels::tile::pack::Pack;
use qwire_kernels::tile::{Acts, Panel, ROWS, TOKENS};

use crate::memory;
use crate::pool::Pool;

/// Each kind of work is repeated for this long; its best round counts.
const READ: Duration = Duration::from_millis(400);
const ROUND: Duration = Duration::from_millis(40);
const ROUNDS: usize = 3;

/// A task reads this much in one go.
const STRIDE: usize = 4 << 20;

/// Memory to be read: much larger than any cache, or the figure means nothing.
pub struct Stream {
    memory: MmapMut,
}

impl Stream {
    /// Takes so many bytes of memory, and writes them: pages nobody wrote are all the same page.
    pub fn open(bytes: usize, pool: &Pool) -> io::Result<Self> {
        let mut memory = memory::reserve(bytes.max(STRIDE))?; // as weights have it
        pool.chunks(&mut memory, STRIDE, |_, task, piece| piece.fill(task as u8 | 1));
        Ok(Self { memory })
    }

    /// Bytes read in one pass.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// 10⁹ bytes per second when all workers read and do nothing else: the best of some passes.
    pub fn gb_s(&self, pool: &Pool) -> f64 {
        let end = Instant::now() + READ;
        let mut best = 0.0_f64;
        while best == 0.0 || Instant::now() < end {
            let start = Instant::now();
            pool.run(self.memory.len().div_ceil(STRIDE), &|_, task| {
                let piece = &self.memory[task * STRIDE..];
                black_box(folded(&piece[..piece.len().min(STRIDE)]));
            });
            best = best.max(self.memory.len() as f64 / start.elapsed().as_secs_f64() / 1e9);
        }
        best
    }
}

/// All words of a piece folded into one. Four streams of lines are read side by side: that keeps
/// more loads under way than one stream of addresses does.
fn folded(piece: &[u8]) -> u64 {
    let lines = piece.as_chunks::<64>().0;
    let (a, rest) = lines.split_at(lines.len() / 4);
    let (b, rest) = rest.split_at(a.len());
    let (c, d) = rest.split_at(a.len());
    let mut sums = [[0_u64; 8]; 4];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for (sums, line) in sums.iter_mut().zip([a, b, c, d]) {
            for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                *sum ^= u64::from_le_bytes(*word);
            }
        }
    }
    sums.iter().flatten().fold(0, |all, sum| all ^ sum)
}

/// The most integer work the tile kernel does.
#[derive(Clone, Copy, Debug)]
pub struct Products {
    /// 10⁹ operations per second of all workers, two per product of a weight and an activation.
    pub gop_s: f64,
    /// The format of the weights with which it was reached.
    pub format: &'static str,
}

impl Products {
    /// Four tiles of sixteen tokens on a panel that stays in cache, in the format that runs best.
    /// This is what the kernel can do, not the processor.
    pub fn measure(pool: &Pool, isa: Isa) -> Self {
        let names = ["Q4_0", "Q4_K", "Q8_0"];
        let formats = FORMATS.iter().filter(|format| names.contains(&format.name));
        let each = formats.map(|format| {
            let gop_s = gop_s(pool, isa, format);
            Self { gop_s, format: format.name }
        });
        let best = each.max_by(|a, b| a.gop_s.total_cmp(&b.gop_s));
        best.expect("there are such formats")
    }
}

/// Every worker multiplies the same small panel until the round ends; the best round counts.
fn gop_s(pool: &Pool, isa: Isa, format: &Format) -> f64 {
    const K: usize = 1024;
    const TILES: usize = 4;
    let rows = vec![0x35; format.row_bytes(K) * ROWS];
    let mut panel = vec![0; format.layout.panel_bytes(K)];
    format.layout.pack(&rows, K, &mut panel);
    let x: Vec<f32> = (0..K).map(|i| (i % 31) as f32 - 15.0).collect();
    let mut row = Row::<1>::new(K);
    quantise_narrow(isa, &x, &mut row);
    let mut packs = vec![Pack::default(); TILES];
    packs.iter_mut().for_each(|pack| pack.gather(isa, [&row; TOKENS].into_iter()));
    let round = || {
        let (start, tiles) = (Instant::now(), AtomicU64::new(0));
        pool.run(pool.workers(), &|_, _| {
            let mut sums = vec![[[0.0; ROWS]; TOKENS]; packs.len()];
            let mut done = 0;
            while start.elapsed() < ROUND {
                for _ in 0..16 {
                    let panel = Panel::alone(black_box(&panel), K);
                    format.tile(isa, panel, Acts::Narrow(&packs), &mut sums);
                    black_box(&mut sums);
                }
                done += 16;
            }
            tiles.fetch_add(done, Ordering::Relaxed);
        });
        let products = tiles.into_inner() as f64 * (K * ROWS * TOKENS * TILES) as f64;
        2.0 * products / start.elapsed().as_secs_f64() / 1e9
    };
    (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_positive_and_every_byte_counts() {
        let pool = Pool::new(2).expect("two threads");
        let stream = Stream::open(STRIDE + 64, &pool).expect("a little memory");
        assert_eq!(stream.bytes(), STRIDE + 64);
        assert!(stream.gb_s(&pool) > 0.0);
        let products = Products::measure(&pool, Isa::detect());
        assert!(products.gop_s > 0.0 && !products.format.is_empty());
        let mut piece = vec![0; 1024];
        piece[777] = 9;
        assert_ne!(folded(&piece), 0);
    }
}
