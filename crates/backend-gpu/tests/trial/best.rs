//! The best logits against a sort of all.

use qwire_backend_gpu::device::{Address, Args, Device, Launch};
use qwire_backend_gpu::kernel::SORTED;
use qwire_model::Ranked;
use qwire_model::backend::BEST;

use super::codes::{kernel, piece, read};

/// Falling, of equals the lowest token first, NaN before all.
pub fn sorted(logits: &[f32]) -> Vec<Ranked> {
    let all = (0..).zip(logits).map(|(token, logit)| Ranked { token, logit: *logit });
    let mut all: Vec<_> = all.collect();
    let order = |a: &Ranked, b: &Ranked| b.logit.partial_cmp(&a.logit).expect("a number");
    let nan = |ranked: &Ranked| ranked.logit.is_nan();
    all.sort_by(|a, b| match (nan(a), nan(b)) {
        (false, false) => order(a, b).then(a.token.cmp(&b.token)),
        (a_is, b_is) => b_is.cmp(&a_is).then(a.token.cmp(&b.token)),
    });
    all.truncate(BEST);
    all
}

/// Rows of many equals, both zeros, what is not finite, and less than a share at the end.
pub fn shares_are_sorted<D: Device>(device: Option<D>) {
    const ROWS: usize = 2;
    const COUNT: usize = SORTED + 300;
    let Some(mut device) = device else { return };
    let value = |i: usize| (i * 7919 % 613) as f32 / 16.0 - 19.0;
    let mut logits: Vec<f32> = (0..ROWS * COUNT).map(value).collect();
    logits[40] = f32::NAN;
    logits[11] = f32::INFINITY;
    logits[SORTED..COUNT].fill(0.0);
    logits[SORTED + 7] = -0.0;
    logits[COUNT..].iter_mut().for_each(|x| *x = if *x < 18.0 { f32::NEG_INFINITY } else { *x });
    let from: Vec<u32> = logits.iter().map(|x| x.to_bits()).collect();
    let shares = COUNT.div_ceil(SORTED);
    let kept = ROWS * shares * BEST;
    let from = piece(&mut device, &[from, vec![0; 2 * kept + ROWS * BEST * 2]].concat());
    let to = from.plus(ROWS * COUNT * 4);
    let last = to.plus(kept * 8);
    let mut launch = |from: (Address, Address), to, count: usize, shares: usize| {
        let args = Args::default().address(from.0).address(from.1).address(to);
        let args = args.count(count).count(shares);
        let grid = [shares as u32, ROWS as u32, 1];
        device.run(&[Launch { kernel: kernel("best"), grid, args }]);
        let keys = read(&mut device, to, ROWS * shares * BEST * 8);
        keys.as_chunks::<8>().0.iter().map(|key| u64::from_le_bytes(*key)).collect::<Vec<_>>()
    };
    let check = |keys: &[u64], logits: &[f32], first: usize| {
        for (key, ranked) in keys.iter().zip(sorted(logits)) {
            let token = !(*key as u32) as usize - first;
            let same = logits[token] == ranked.logit || ranked.logit.is_nan();
            assert!(token == ranked.token as usize && same, "{token}, not {ranked:?}");
        }
    };
    // Of every share, then of what these have kept.
    let each = launch((from, Address::NONE), to, COUNT, shares);
    let all = launch((Address::NONE, to), last, shares * BEST, 1);
    for (row, (each, all)) in each.chunks(shares * BEST).zip(all.chunks(BEST)).enumerate() {
        let logits = &logits[row * COUNT..][..COUNT];
        for (share, keys) in each.chunks(BEST).enumerate() {
            let first = share * SORTED;
            check(keys, &logits[first..COUNT.min(first + SORTED)], first);
        }
        check(all, logits, 0);
    }
}
