//! Codes of activations against the definition of the CPU, whose integers must be hit.

use qwire_backend_gpu::device::{Address, Args, Device, Launch};
use qwire_backend_gpu::kernel::{KERNELS, Kernel, WIDE_KERNELS};
use qwire_kernels::Isa;
use qwire_kernels::activation::{Row, quantise_wide};

const K: usize = 128;

/// The kernel of this name.
pub fn kernel(name: &str) -> &'static Kernel {
    let all = KERNELS.iter().chain(WIDE_KERNELS);
    all.copied().find(|kernel| kernel.name == name).expect("a kernel")
}

/// A piece of memory that holds these words.
pub fn piece(device: &mut impl Device, words: &[u32]) -> Address {
    let at = device.allocate(words.len() * 4).expect("memory");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    device.upload(at, &bytes);
    at
}

/// So many bytes from there on.
pub fn read(device: &mut impl Device, from: Address, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    device.download(from, &mut bytes);
    bytes
}

/// Rows that hold what is hard: ties, something large, zeros, what is too small or too large.
fn hard_rows() -> Vec<f32> {
    let mut x: Vec<f32> = (0..512_u32).map(|i| (i * 7919 % 2003) as f32 * 0.01 - 10.0).collect();
    x[64..96].fill(0.0);
    x[96..128].fill(1e-37);
    x[130] = 900.0;
    x[161] = -40.0;
    x[224..256].iter_mut().for_each(|x| *x = x.signum() * 4.0);
    x[300] = f32::INFINITY;
    x[333] = f32::NAN;
    x[352..384].fill(0.0);
    x[360] = 3.0; // alone among zeros
    x
}

/// Of hard rows.
pub fn are_those_of_the_cpu<D: Device>(device: Option<D>) {
    let Some(mut device) = device else { return };
    let x = hard_rows();
    let bits: Vec<u32> = x.iter().map(|x| x.to_bits()).collect();
    let at = piece(&mut device, &[bits, vec![0; x.len()]].concat());
    let [high, low, scales] = [4, 5, 6].map(|part| at.plus(part * x.len()));
    let args = Args::default().address(at).address(high).address(low).address(scales);
    let grid = [1, (x.len() / K) as u32, 1];
    device.run(&[Launch { kernel: kernel("quantise_rows"), grid, args: args.count(K).skip(4) }]);
    let [high, low] = [high, low].map(|from| read(&mut device, from, x.len()));
    let scales = read(&mut device, scales, x.len() / 2);
    let signed = |bytes: &[u8]| bytes.iter().map(|byte| *byte as i8).collect::<Vec<i8>>();
    for (r, x) in x.chunks_exact(K).enumerate() {
        let mut row = Row::<2>::new(K);
        quantise_wide(Isa::SCALAR, x, &mut row);
        assert_eq!(signed(&high[r * K..][..K]), *row.planes[0], "row {r}");
        assert_eq!(signed(&low[r * K..][..K]), *row.planes[1], "row {r}");
        for (g, scale) in scales[r * K / 2..][..K / 2].chunks_exact(16).enumerate() {
            let word = |i: usize| u32::from_le_bytes(scale.as_chunks().0[i]);
            let d = f32::from_bits(word(0));
            assert!(d == row.d[g] || d.is_nan() && row.d[g].is_nan(), "row {r}, group {g}");
            assert_eq!([word(1) as i32, word(2) as i32], row.sums[2 * g..][..2], "group {g}");
        }
    }
}
