//! Measures tiles of tokens against panels, beside the limits of this processor in the same run.
//!
//! ```text
//! cargo bench -p qwire-kernels                      sixteen panels of K = 2048, in cache
//! cargo bench -p qwire-kernels -- --stream          1 GB, 1 token or 128, one thread and all
//! cargo bench -p qwire-kernels -- Q4_K avx512       only lines that have these words
//! ```
//! Nothing is checked here; that every kernel gives the bits of the definition is for the tests.
#![allow(unsafe_code)] // calls the bare loop where its instruction set was found

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use memmap2::{Advice, MmapMut};

use qwire_kernels::Isa;
use qwire_kernels::activation::{Row, quantise_narrow, quantise_wide};
use qwire_kernels::quant::{FORMATS, Format};
use qwire_kernels::tile::pack::Pack;
use qwire_kernels::tile::{Acts, Panel, ROWS, TOKENS};

const K: usize = 2048;
const PANELS: usize = 16;
const STREAM_BYTES: usize = 1 << 30;
/// Panels that a thread takes at a time.
const STRIP: usize = 16;
const FORMS: [&str; 6] = ["Q4_K", "Q6_K", "Q5_K", "Q8_0", "Q4_0", "F16"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let stream = words.iter().any(|word| word == "--stream");
    let words: Vec<String> = words.into_iter().filter(|word| !word.starts_with("--")).collect();
    let ghz = frequency_ghz();
    println!("{ghz:.2} GHz by a chain of additions");
    for isa in Isa::available().into_iter().skip(1) {
        if let Some(gops) = bare_gops(isa) {
            println!("{:9} {gops:6.0} Gop/s by dot products alone", isa.name());
        }
    }
    rows();
    let named = |name: &str| words.iter().any(|word| word == name);
    let all = !FORMS.iter().any(|name| named(name));
    for name in FORMS.iter().filter(|name| all || named(name)) {
        let format = FORMATS.iter().find(|format| format.name == *name).expect("a format");
        let panels = if stream { STREAM_BYTES / format.layout.panel_bytes(K) } else { PANELS };
        let weights = weights(format, panels);
        let tokens: &[usize] = if stream { &[1, 128] } else { &[1, 2, 4, 8, 16, 32, 64, 128] };
        let all = thread::available_parallelism().map_or(1, usize::from);
        let threads = if stream { vec![1, all] } else { vec![1] };
        for threads in &threads {
            let gb_s = read_gb_s(&weights, *threads);
            println!("{name}: {gb_s:.1} GB/s by reading alone, threads: {threads}");
        }
        for isa in Isa::available().into_iter().skip(1) {
            for wide in [false, true] {
                for (tokens, threads) in
                    tokens.iter().flat_map(|n| threads.iter().map(move |t| (n, t)))
                {
                    let form = if wide { "wide" } else { "narrow" };
                    let line = format!("{name:5} {:9} {form:6} {tokens:2} x{threads}", isa.name());
                    let has = |word: &String| line.split_whitespace().any(|part| part == word);
                    let taken = if format.quantised { 128 } else { TOKENS };
                    if words.iter().all(has) && *tokens <= taken && (format.quantised || !wide) {
                        let seconds = measure(isa, format, &weights, (*tokens, *threads), wide);
                        report(&line, seconds, weights.len(), panels * *tokens, ghz);
                    }
                }
            }
        }
    }
}

fn report(line: &str, seconds: f64, bytes: usize, tiles: usize, ghz: f64) {
    let products = (tiles * K * ROWS) as f64;
    println!(
        "{line}  {:6.1} GB/s  {:6.0} Gop/s  {:6.2} cycles per 512 products",
        bytes as f64 / seconds / 1e9,
        2.0 * products / seconds / 1e9,
        seconds * ghz * 1e9 / products * 512.0,
    );
}

/// The quickest of some runs, in seconds; each run takes a while.
fn quickest(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    run();
    let once = start.elapsed().as_secs_f64().max(1e-9);
    let (rounds, times) = if once > 0.02 { (3, 1) } else { (9, (0.002 / once) as usize + 1) };
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        (0..times).for_each(|_| run());
        best = best.min(start.elapsed().as_secs_f64() / times as f64);
    }
    best
}

/// Cycles are counted by a chain of two operations of one cycle each.
fn frequency_ghz() -> f64 {
    let steps = 1_000_000;
    let seconds = quickest(|| {
        let (mut x, salt) = (black_box(1_u64), black_box(0x9e37_79b9_u64));
        for _ in 0..steps {
            x = x.rotate_left(7).wrapping_add(salt);
        }
        black_box(x);
    });
    2.0 * f64::from(steps) / seconds / 1e9
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// Panels of random weights, none of them subnormal.
fn weights(format: &Format, panels: usize) -> MmapMut {
    let mut random = Random(99);
    let mut rows = vec![0; format.row_bytes(K) * ROWS];
    let size = format.layout.panel_bytes(K);
    let mut bytes = MmapMut::map_anon(size * panels).expect("memory");
    #[cfg(target_os = "linux")]
    let _ = bytes.advise(Advice::HugePage);
    for (i, panel) in bytes.chunks_exact_mut(size).enumerate() {
        if i < PANELS {
            rows.iter_mut().for_each(|byte| *byte = (random.next() >> 24) as u8);
            format.tame(&mut rows, 0.03);
        }
        format.layout.pack(&rows, K, panel);
    }
    bytes
}

fn activations(tokens: usize) -> Vec<Vec<f32>> {
    let mut random = Random(5);
    (0..tokens).map(|_| (0..K).map(|_| random.float()).collect()).collect()
}

/// Seconds of one pass over all panels.
fn measure(
    isa: Isa,
    format: &Format,
    weights: &[u8],
    (tokens, threads): (usize, usize),
    wide: bool,
) -> f64 {
    let x = activations(tokens);
    let slices: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    let tiles = tokens.div_ceil(TOKENS);
    let (mut narrow, mut wider) = (vec![Pack::default(); tiles], vec![Pack::default(); tiles]);
    let mut one = vec![Row::<1>::new(K); tokens];
    let mut two = vec![Row::<2>::new(K); tokens];
    one.iter_mut().zip(&x).for_each(|(row, x)| quantise_narrow(isa, x, row));
    two.iter_mut().zip(&x).for_each(|(row, x)| quantise_wide(isa, x, row));
    for (pack, rows) in narrow.iter_mut().zip(one.chunks(TOKENS)) {
        pack.gather(isa, rows.iter());
    }
    for (pack, rows) in wider.iter_mut().zip(two.chunks(TOKENS)) {
        pack.gather(isa, rows.iter());
    }
    let acts = match (format.quantised, wide) {
        (false, _) => Acts::Float(&slices),
        (true, false) => Acts::Narrow(&narrow),
        (true, true) => Acts::Wide(&wider),
    };
    let size = format.layout.panel_bytes(K);
    let part = |thread: usize| {
        let mut sums = vec![[[0.0; ROWS]; TOKENS]; tiles];
        let mut strips = weights.chunks(size * STRIP).skip(thread).step_by(threads).peekable();
        while let Some(strip) = strips.next() {
            let next = strips.peek().copied().unwrap_or(&[]);
            for panel in Panel::run(size, K, black_box(strip), next) {
                format.tile(isa, panel, acts, &mut sums);
                black_box(&mut sums);
            }
        }
    };
    quickest(|| together(threads, part))
}

/// Runs a part on each of some threads.
fn together(threads: usize, part: impl Fn(usize) + Sync) {
    if threads == 1 {
        return part(0);
    }
    thread::scope(|scope| {
        let part = &part;
        (0..threads).for_each(|thread| _ = scope.spawn(move || part(thread)));
    });
}

/// What is done once per row: codes of 2048 values, and packing them.
fn rows() {
    let x = &activations(1)[0];
    for isa in Isa::available() {
        let (mut one, mut two) = (Row::<1>::new(K), Row::<2>::new(K));
        let narrow = quickest(|| quantise_narrow(isa, black_box(x), &mut one));
        let wide = quickest(|| quantise_wide(isa, black_box(x), &mut two));
        println!(
            "{:9} {K} values: quantised in {:.2} us, in {:.2} us to two planes",
            isa.name(),
            narrow * 1e6,
            wide * 1e6
        );
    }
    let isa = *Isa::available().last().expect("the scalar one");
    for tokens in [1, 4, 16] {
        let (one, two) = (vec![Row::<1>::new(K); tokens], vec![Row::<2>::new(K); tokens]);
        let (mut narrow, mut wide) = (Pack::default(), Pack::default());
        let n = quickest(|| narrow.gather(isa, black_box(&one).iter())) / tokens as f64;
        let w = quickest(|| wide.gather(isa, black_box(&two).iter())) / tokens as f64;
        println!(
            "gathered by {tokens:2}: {:.2} us a row, {:.2} us of two planes",
            n * 1e6,
            w * 1e6
        );
    }
}

/// Bytes per second of folding every word.
fn read_gb_s(bytes: &[u8], threads: usize) -> f64 {
    let part = |thread: usize| {
        let mut sums = [0_u64; 32];
        for lines in bytes.chunks(bytes.len().div_ceil(threads)).skip(thread).take(1) {
            for lines in black_box(lines).as_chunks::<256>().0 {
                for (sum, word) in sums.iter_mut().zip(lines.as_chunks::<8>().0) {
                    *sum ^= u64::from_le_bytes(*word);
                }
            }
        }
        black_box(sums);
    };
    bytes.len() as f64 / quickest(|| together(threads, part)) / 1e9
}

#[cfg(target_arch = "x86_64")]
fn bare_gops(isa: Isa) -> Option<f64> {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_dpbusd_avx_epi32, _mm256_set1_epi8, _mm512_dpbusd_epi32,
        _mm512_set1_epi8,
    };
    const STEPS: usize = 100_000;
    const CHAINS: usize = 12;
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn avx512(x: i8) -> [__m512i; CHAINS] {
        let (w, x) = (_mm512_set1_epi8(7), _mm512_set1_epi8(x));
        let mut sums = [x; CHAINS];
        for _ in 0..STEPS {
            sums.iter_mut().for_each(|sum| *sum = _mm512_dpbusd_epi32(*sum, w, x));
        }
        sums
    }
    #[target_feature(enable = "avx2,avxvnni")]
    fn avx_vnni(x: i8) -> [__m256i; CHAINS] {
        let (w, x) = (_mm256_set1_epi8(7), _mm256_set1_epi8(x));
        let mut sums = [x; CHAINS];
        for _ in 0..STEPS {
            sums.iter_mut().for_each(|sum| *sum = _mm256_dpbusd_avx_epi32(*sum, w, x));
        }
        sums
    }
    let (seconds, bytes) = match isa.name() {
        // SAFETY: this Isa exists only on processors with these features.
        "avx512" => (quickest(|| _ = black_box(unsafe { avx512(black_box(3)) })), 64),
        // SAFETY: as above.
        "avx-vnni" => (quickest(|| _ = black_box(unsafe { avx_vnni(black_box(3)) })), 32),
        _ => return None,
    };
    Some((2 * STEPS * CHAINS * bytes) as f64 / seconds / 1e9)
}

#[cfg(not(target_arch = "x86_64"))]
fn bare_gops(_: Isa) -> Option<f64> {
    None
}
