//! Wide tiles against narrow ones: the same bits, of every format of codes, for few rows of
//! activations and many, in any order of threads. What lanes have of a tile is what the matrix
//! units are said to give them, so a fragment that lies wrongly shows here.

use qwire_backend_cuda::device::{Address, Args, Device, Launch};

use crate::loader::{Order, Shim, shim};
use crate::trial::codes::{kernel, piece, read};

/// Rows of activations.
const TOKENS: [usize; 6] = [1, 8, 31, 32, 33, 100];
/// Values of a row: one group a lane, and some with two.
const KS: [usize; 2] = [1024, 1280];
const EXPERTS: usize = 3;
const USED: usize = 2;

/// A format's number, and the bytes of 256 values in each plane.
const FORMATS: [(&str, usize, [usize; 4]); 4] = [
    ("Q8_0", 3, [256, 0, 0, 16]),
    ("Q4_K", 4, [128, 0, 0, 16]),
    ("Q5_K", 5, [128, 32, 0, 16]),
    ("Q6_K", 6, [128, 64, 16, 2]),
];

/// Bytes that look like noise.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let byte = |i: usize| {
        let mixed = ((i + (seed << 32)) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0]
    };
    (0..len).map(byte).collect()
}

fn bytes(device: &mut Shim, bytes: &[u8]) -> Address {
    let at = device.allocate(bytes.len()).expect("memory");
    device.upload(at, bytes);
    at
}

/// Matrices of one format, of rows of noise.
struct Weights {
    planes: [Address; 4],
    format: usize,
    rows: usize,
    k: usize,
}

impl Weights {
    fn of(device: &mut Shim, format: usize, (count, rows, k): (usize, usize, usize)) -> Self {
        let (_, number, sizes) = FORMATS[format];
        let planes = std::array::from_fn(|plane| {
            let mut all = noise(7 * rows + plane, count * rows * k / 256 * sizes[plane]);
            // Scales are halves near 1/16: all of Q8_0's head, one of Q6_K's, two of the others'.
            let halves = [(0, 1), (0, 2), (0, 2), (0, 1)][format];
            let step = [2, 16, 16, 2][format];
            if plane == 3 {
                for head in all.chunks_exact_mut(step) {
                    for half in halves.0..halves.1 {
                        head[2 * half + 1] = head[2 * half + 1] & 0x83 | 0x2c;
                    }
                }
            }
            bytes(device, &all)
        });
        Self { planes, format: number, rows, k }
    }

    fn put(&self, args: Args) -> Args {
        let args = self.planes.iter().fold(args, |args, plane| args.address(*plane));
        args.count(self.format).count(self.rows).count(self.k).skip(4)
    }
}

/// Rows of activations, or room for them.
struct Acts {
    parts: [Address; 4], // floats, high, low, scales
    rows: usize,
    k: usize,
}

impl Acts {
    fn room(device: &mut Shim, rows: usize, k: usize) -> Self {
        let parts = Self::lens(rows * k).map(|len| device.allocate(len).expect("memory"));
        Self { parts, rows, k }
    }

    /// Bytes of the parts of so many values.
    fn lens(values: usize) -> [usize; 4] {
        [4 * values, values, values, values / 2]
    }

    /// Noise, and its codes.
    fn noise(device: &mut Shim, rows: usize, k: usize) -> Self {
        let acts = Self::room(device, rows, k);
        let noise = noise(rows + k, rows * k);
        let floats = noise.iter().map(|byte| f32::from(*byte) / 64.0 - 2.0);
        device.upload(acts.parts[0], &floats.flat_map(f32::to_le_bytes).collect::<Vec<_>>());
        let grid = [(k / 32).div_ceil(8) as u32, rows as u32, 1];
        let args = acts.put(Args::default());
        device.launch(&Launch { kernel: kernel("quantise_rows"), grid, args });
        acts
    }

    fn put(&self, args: Args) -> Args {
        self.parts.iter().fold(args, |args, part| args.address(*part)).count(self.k).skip(4)
    }

    /// All of it.
    fn read(&self, device: &mut Shim) -> Vec<u8> {
        let parts = self.parts.iter().zip(Self::lens(self.rows * self.k));
        parts.flat_map(|(part, len)| read(device, *part, len)).collect()
    }
}

/// What this kernel makes of the same weights and activations.
fn matmul(order: Order, name: &str, format: usize, (tokens, k): (usize, usize)) -> Option<Vec<u8>> {
    const ROWS: usize = 72;
    let mut device = shim(order)?;
    let m = Weights::of(&mut device, format, (1, ROWS, k));
    let x = Acts::noise(&mut device, tokens, k);
    let out = piece(&mut device, &vec![0; tokens * ROWS]);
    let bias = piece(&mut device, &[0.5_f32.to_bits(); ROWS]);
    let args = m.put(Args::default()).address(bias).address(out);
    let args = args.count(ROWS).count(0).count(0).skip(4).skip(160);
    let args = x.put(args).count(1).count(tokens);
    let (rows, columns) = match name {
        "matmul_1" => (16, 1),
        "matmul_8" => (8, 8),
        _ => (64, 32),
    };
    let grid = [ROWS.div_ceil(rows) as u32, tokens.div_ceil(columns) as u32, 1];
    device.launch(&Launch { kernel: kernel(name), grid, args });
    Some(read(&mut device, out, tokens * ROWS * 4))
}

/// Visits to three experts, of which the last is everybody's, in tiles of this width.
fn visits(device: &mut Shim, tokens: usize, width: usize) -> ([Address; 4], usize) {
    let ids: Vec<u32> = (0..tokens as u32).flat_map(|row| [u32::from(row % 5 == 0), 2]).collect();
    let pairs = ids.len();
    let tiles = pairs.div_ceil(width) + EXPERTS;
    let id = piece(device, &ids);
    let zeros = piece(device, &vec![0; pairs]);
    let visits = [pairs, tiles, tiles, tiles].map(|len| piece(device, &vec![0; len]));
    let args = [zeros, id, zeros, zeros].into_iter();
    let args = args.fold(Args::default(), Args::address).number(1.0).count(tokens);
    // Chosen they are already.
    let args = args.count(EXPERTS).count(USED).count(1).count(0).count(2).skip(4);
    let args = visits.into_iter().fold(args, Args::address).count(tiles).count(width);
    device.launch(&Launch { kernel: kernel("route"), grid: [1, 1, 1], args });
    (visits, tiles)
}

/// m of all visits, as floats and codes, by kernels of this width.
fn expand(order: Order, width: usize, format: usize, tokens: usize) -> Option<Vec<u8>> {
    const FFN: usize = 64;
    const HIDDEN: usize = 1024;
    let mut device = shim(order)?;
    let (visits, tiles) = visits(&mut device, tokens, width);
    let gate = Weights::of(&mut device, format, (EXPERTS, FFN, HIDDEN));
    let up = Weights::of(&mut device, format, (EXPERTS, FFN, HIDDEN));
    let h = Acts::noise(&mut device, tokens, HIDDEN);
    let m = Acts::room(&mut device, tokens * USED, FFN);
    let args = m.put(h.put(up.put(gate.put(Args::default()))));
    let args = visits.iter().fold(args, |args, at| args.address(*at)).count(USED).skip(4);
    let kernel = kernel(if width == 32 { "expand_32" } else { "expand_8" });
    device.launch(&Launch { kernel, grid: [FFN as u32 / 32, tiles as u32, 1], args });
    Some(m.read(&mut device))
}

/// Products of `down` with all visits.
fn down(order: Order, width: usize, format: usize, tokens: usize) -> Option<Vec<u8>> {
    const FFN: usize = 1280;
    const HIDDEN: usize = 80;
    let mut device = shim(order)?;
    let (visits, tiles) = visits(&mut device, tokens, width);
    let weights = Weights::of(&mut device, format, (EXPERTS, HIDDEN, FFN));
    let m = Acts::noise(&mut device, tokens * USED, FFN);
    let out = piece(&mut device, &vec![0; tokens * USED * HIDDEN]);
    let args = m.put(weights.put(Args::default())).address(out);
    let args = visits.iter().fold(args, |args, at| args.address(*at));
    let (name, rows) = if width == 32 { ("down_32", 64) } else { ("down_8", 16) };
    let grid = [HIDDEN.div_ceil(rows) as u32, tiles as u32, 1];
    device.launch(&Launch { kernel: kernel(name), grid, args });
    Some(read(&mut device, out, tokens * USED * HIDDEN * 4))
}

fn check(what: &str, wide: Option<Vec<u8>>, narrow: Option<Vec<u8>>) {
    let (Some(wide), Some(narrow)) = (wide, narrow) else { return };
    assert!(narrow.iter().any(|byte| *byte != 0), "{what}: nothing was computed");
    let floats = wide.as_chunks::<4>().0.iter().map(|bits| f32::from_le_bytes(*bits));
    assert!(what.contains("expand") || floats.clone().all(f32::is_finite), "{what}");
    let differ = wide.iter().zip(&narrow).position(|(wide, narrow)| wide != narrow);
    assert_eq!((differ, wide.len()), (None, narrow.len()), "{what}: other bits");
}

#[test]
fn matrices_have_the_bits_of_narrow_tiles() {
    for (format, (name, ..)) in FORMATS.iter().enumerate() {
        for (i, tokens) in TOKENS.into_iter().enumerate() {
            let (size, order) = ((tokens, KS[i % 2]), Order::ALL[i % 3]);
            let narrow = if tokens == 1 { "matmul_1" } else { "matmul_8" };
            let narrow = matmul(Order::Forward, narrow, format, size);
            check(&format!("{name}, {size:?}"), matmul(order, "matmul_32", format, size), narrow);
        }
    }
}

#[test]
fn experts_have_the_bits_of_narrow_tiles() {
    for (format, (name, ..)) in FORMATS.iter().enumerate() {
        for (i, tokens) in TOKENS.into_iter().enumerate() {
            let order = Order::ALL[i % 3];
            let narrow = expand(Order::Forward, 8, format, tokens);
            check(&format!("{name}, expand {tokens}"), expand(order, 32, format, tokens), narrow);
            let narrow = down(Order::Forward, 8, format, tokens);
            check(&format!("{name}, down {tokens}"), down(order, 32, format, tokens), narrow);
        }
    }
}
