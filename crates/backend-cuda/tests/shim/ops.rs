//! Single ops against the definitions of the CPU, whose integers they must hit.

use qwire_backend_cuda::device::{Address, Args, Device, Launch};
use qwire_backend_cuda::kernel::{KERNELS, Kernel};
use qwire_kernels::Isa;
use qwire_kernels::activation::{Row, quantise_wide};

use crate::loader::{Order, Shim, shim};

fn kernel(name: &str) -> &'static Kernel {
    KERNELS.iter().find(|kernel| kernel.name == name).expect("a kernel")
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

struct Codes {
    high: Vec<i8>,
    low: Vec<i8>,
    scales: Vec<[u32; 4]>,
}

fn quantised(device: &mut Shim, x: &[f32], k: usize) -> Codes {
    let at = device.allocate(x.len() * 8).expect("memory");
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    device.upload(at, &bytes);
    let [high, low, scales] = [4, 5, 6].map(|part| at.plus(part * x.len()));
    let args = Args::default().address(at).address(high).address(low).address(scales);
    let args = args.count(k).skip(4);
    let grid = [(k / 32).div_ceil(8) as u32, (x.len() / k) as u32, 1];
    device.run(&[Launch { kernel: kernel("quantise_rows"), grid, args }]);
    let mut read = |from: Address, len: usize| {
        let mut bytes = vec![0; len];
        device.download(from, &mut bytes);
        bytes
    };
    let signed = |bytes: Vec<u8>| bytes.into_iter().map(|byte| byte as i8).collect();
    let words = read(scales, x.len() / 2);
    let words = words
        .as_chunks::<16>()
        .0
        .iter()
        .map(|bytes| std::array::from_fn(|i| u32::from_le_bytes(bytes.as_chunks().0[i])));
    let scales = words.collect();
    Codes { high: signed(read(high, x.len())), low: signed(read(low, x.len())), scales }
}

#[test]
fn codes_are_those_of_the_cpu() {
    const K: usize = 128;
    let x = hard_rows();
    for order in Order::ALL {
        let Some(mut device) = shim(order) else { return };
        let codes = quantised(&mut device, &x, K);
        for (r, x) in x.chunks_exact(K).enumerate() {
            let mut row = Row::<2>::new(K);
            quantise_wide(Isa::SCALAR, x, &mut row);
            assert_eq!(codes.high[r * K..][..K], *row.planes[0], "{order:?}");
            assert_eq!(codes.low[r * K..][..K], *row.planes[1], "{order:?}");
            for (g, [d, first, second, _]) in codes.scales[r * 4..][..4].iter().enumerate() {
                let d = f32::from_bits(*d);
                assert!(d == row.d[g] || d.is_nan() && row.d[g].is_nan(), "group {g}");
                assert_eq!([*first as i32, *second as i32], row.sums[2 * g..][..2], "group {g}");
            }
        }
    }
}
