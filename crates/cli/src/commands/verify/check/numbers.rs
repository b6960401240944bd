//! Numbers: the same bits in every way of computing them, and kernels against the definition.

use qwire_kernels::Isa;
use qwire_kernels::activation::{Row, quantise_narrow, quantise_wide};
use qwire_kernels::quant::{FORMATS, Format, format};
use qwire_kernels::tile::pack::Pack;
use qwire_kernels::tile::{Acts, Panel, ROWS, TOKENS};
use qwire_model::{Batch, KvType, PageId, Shape, Span, TokenId};

use super::super::contract::{Pace, Samples};
use super::super::faults::Fault;
use super::super::subject::{Desk, Size, Subject, differing, digest, outputs};
use super::{Measured, no_device, put};
use crate::backend::Device;
use crate::failure::Failure;

/// Positions of which every logit is compared.
const POSITIONS: usize = 200;
/// The same of a large model.
const FEW: usize = 70;

/// How a run comes by its logits.
#[derive(Clone, Copy, Debug)]
struct Way {
    threads: usize,
    isa: Isa,
    chunk: usize,
    /// Other sequences in every step.
    others: usize,
}

/// Every thread count, chunk, batch and instruction set gives the same logits.
pub fn ways(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    ways_with(subject, &[KvType::F16, KvType::F32], samples)
}

/// The same with a cache of codes, for heads that it takes.
pub fn ways_i8(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    match KvType::I8.refusal(subject.opened.shape.head_dim) {
        Some(reason) => Ok(Measured::Skipped(reason)),
        None => ways_with(subject, &[KvType::I8], samples),
    }
}

/// A digest of all logits for each way of computing them, with each of these caches.
fn ways_with(
    subject: &Subject<'_>,
    caches: &[KvType],
    samples: &mut Samples,
) -> Result<Measured, Failure> {
    let n = if subject.is_large() { FEW } else { POSITIONS };
    let n = n.min(subject.opened.shape.context);
    let tokens = subject.tokens(n);
    let Device::Cpu { isa, .. } = subject.device else { return Ok(no_device()) };
    for kv in caches.iter().copied() {
        for ways in plans(subject, *isa) {
            let Way { threads, isa, .. } = ways[0];
            let most = |of: fn(&Way) -> usize| ways.iter().map(of).max().unwrap_or(0);
            let rows = most(|way| way.chunk * (way.others + 1)).min(n * 17);
            let positions = (n + 64) * (most(|way| way.others) + 1);
            let device = Device::Cpu { threads, isa, note: None };
            let ready = subject.ready(&device, kv, Size { rows, positions }, None)?;
            let mut desk = Desk::new(ready.runner, subject.interrupt);
            for way in ways {
                subject.interrupt.check()?;
                put(samples, kv.name(), desk.bits(&tokens, way)?);
            }
        }
    }
    Ok(Measured::Done)
}

/// Ways in groups that share threads and instruction set.
fn plans(subject: &Subject<'_>, isa: Isa) -> Vec<Vec<Way>> {
    let way = |threads, isa, chunk, others| Way { threads, isa, chunk, others };
    if subject.is_large() {
        let narrower = Isa::available().into_iter().rev().nth(1).unwrap_or(Isa::SCALAR);
        return vec![
            vec![way(2, isa, 512, 0), way(2, isa, 1, 0), way(2, isa, 7, 1)],
            vec![way(1, isa, 64, 0)],
            vec![way(2, narrower, 512, 0)],
        ];
    }
    let full = subject.pace == Pace::Full;
    let each = |threads| {
        let alone = [1, 7, 64, 512].map(|chunk| way(threads, isa, chunk, 0));
        let beside = [(7, 1), (1, 4), (1, 15), (7, 16)];
        let beside = beside.map(|(chunk, others)| way(threads, isa, chunk, others));
        let all = alone.into_iter().chain(beside);
        // The covering subset has each value of each dimension at least once.
        let kept =
            |(i, way): (usize, Way)| (full || threads == 2 || i % 4 == threads % 4).then_some(way);
        all.enumerate().filter_map(kept).collect::<Vec<Way>>()
    };
    let mut plans: Vec<_> = [1, 2, 3, 5].into_iter().map(each).collect();
    plans.extend(Isa::available().into_iter().map(|isa| vec![way(2, isa, 64, 0)]));
    plans
}

impl Desk<'_> {
    /// A digest of the logits of every position.
    fn bits(&mut self, tokens: &[TokenId], way: Way) -> Result<f64, Failure> {
        let (vocab, pages) = (self.runner.vocab(), Shape::pages_for(tokens.len()) as u32);
        let (mut logits, ours) = (Vec::new(), way.others / 2);
        for start in (0..tokens.len()).step_by(way.chunk) {
            let len = way.chunk.min(tokens.len() - start);
            let mut batch = Batch::default();
            // Ours is in the middle of the batch, the others have other tokens.
            for sequence in 0..=way.others {
                if sequence == ours {
                    batch.outputs = (batch.rows()..batch.rows() + len).collect();
                }
                let other = |at: usize| TokenId(((at * 31 + sequence * 7 + 5) % vocab) as u32);
                let token = |at: usize| if sequence == ours { tokens[at] } else { other(at) };
                batch.tokens.extend((start..start + len).map(token));
                let first = sequence as u32 * pages;
                let pages = (first..first + pages).rev().map(PageId).collect();
                batch.spans.push(Span { start, len, pages });
            }
            if let Some(poison) = self.runner.step(&batch).first() {
                return Err(Failure::new(poison));
            }
            logits.extend(outputs(&mut *self.runner, len));
        }
        Ok(digest(logits.iter().map(|logit| logit.to_bits())))
    }
}

/// The same run again.
pub fn repeats(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let Some(device) = subject.device_of_contract() else { return Ok(no_device()) };
    let tokens = subject.tokens(POSITIONS.min(subject.opened.shape.context));
    let size = Size { rows: 64, positions: tokens.len() };
    let mut desk = Desk::new(subject.runner(&device, size)?, subject.interrupt);
    let way = Way { threads: 1, isa: Isa::SCALAR, chunk: 64, others: 0 };
    for _ in 0..4 {
        put(samples, "logits", desk.bits(&tokens, way)?);
    }
    Ok(Measured::Done)
}

/// Kernels of every instruction set of this CPU, for the formats of the model.
pub fn every_kernel(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let found = subject.opened.file.tensors().iter();
    let mut ids: Vec<u32> = found.map(|tensor| tensor.dtype.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    if subject.pace == Pace::Full {
        FORMATS.iter().for_each(|format| kernels(format, subject.fault, samples));
    } else {
        let known = ids.into_iter().filter_map(format);
        known.for_each(|format| kernels(format, subject.fault, samples));
    }
    subject.interrupt.check()?;
    Ok(Measured::Done)
}

/// How many products of a format have other bits than the definition's, for each instruction set
/// and each number of tokens.
pub fn kernels(format: &Format, fault: Option<Fault>, samples: &mut Samples) {
    const K: usize = 1024;
    let mut random = 7_u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x1405_7b7e);
        (random >> 33) as u32
    };
    let mut rows: Vec<u8> = (0..format.row_bytes(K) * ROWS).map(|_| (next() >> 8) as u8).collect();
    format.tame(&mut rows, 0.03);
    let mut bytes = vec![0; format.layout.panel_bytes(K)];
    format.layout.pack(&rows, K, &mut bytes);
    let panel = Panel::alone(&bytes, K);
    for tokens in [1, 2, 4, TOKENS] {
        let mut x: Vec<Vec<f32>> = (0..tokens)
            .map(|_| (0..K).map(|_| next() as f32 / 1_073_741_824.0 - 1.0).collect())
            .collect();
        x[0][K / 3] = 1e4; // an outlier
        for wide in [false, true] {
            let expected = products(Isa::SCALAR, format, panel, &x, wide);
            for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::SCALAR) {
                let mut found = products(isa, format, panel, &x, wide);
                if fault == Some(Fault::RoundedKernel) {
                    found[0] = f32::from_bits(found[0].to_bits() ^ 1);
                }
                put(samples, "differing", differing(&found, &expected));
            }
        }
    }
}

/// Products of one panel with some tokens, [tokens, ROWS].
fn products(isa: Isa, format: &Format, panel: Panel<'_>, x: &[Vec<f32>], wide: bool) -> Vec<f32> {
    let mut sums = [[[0.0; ROWS]; TOKENS]];
    if !format.quantised {
        let x: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
        format.tile(isa, panel, Acts::Float(&x), &mut sums);
    } else if wide {
        let pack = packed(isa, x, |x, row| quantise_wide(isa, x, row));
        format.tile(isa, panel, Acts::Wide(&[pack]), &mut sums);
    } else {
        let pack = packed(isa, x, |x, row| quantise_narrow(isa, x, row));
        format.tile(isa, panel, Acts::Narrow(&[pack]), &mut sums);
    }
    sums[0][..x.len()].concat()
}

fn packed<const P: usize>(
    isa: Isa,
    x: &[Vec<f32>],
    quantise: impl Fn(&[f32], &mut Row<P>),
) -> Pack<P> {
    let mut rows = vec![Row::new(x[0].len()); x.len()];
    rows.iter_mut().zip(x).for_each(|(row, x)| quantise(x, row));
    let mut pack = Pack::default();
    pack.gather(isa, rows.iter());
    pack
}
