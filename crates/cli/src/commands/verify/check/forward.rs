//! Forward: the phases of a step, seen from between them, and its logits against the truth.

use std::fs::File;
use std::io::BufReader;

use qwire_engine::Table;
use qwire_kernels::attention::{Element, GROUP};
use qwire_kernels::half::{f16_to_f32, f32_to_f16};
use qwire_model::{Batch, KvType, PageId, Phase, Shape, Tap, Taps, TokenId};

use super::super::contract::Samples;
use super::super::subject::{Desk, Gatherer, Size, Subject, best, outputs};
use super::{Measured, no_device, put};
use crate::backend::Device;
use crate::commands::logits::agreement::cosine;
use crate::commands::logits::npy;
use crate::failure::Failure;

pub const ROUTING: &[&str] = &["sum_error", "other_counts"];
pub const SHAPES: &[&str] = &["wrong_shapes", "not_finite", "faults"];
pub const AGREEMENT: &[&str] = &["cosine", "top1", "missed_lead", "flipped_experts"];

/// Rows of a step that is looked at.
const ROWS: usize = 128;
/// Positions that are compared, and those of a large model against the definition, which is slow.
const MANY: usize = 64;
const FEW: usize = 8;

fn pages(positions: usize) -> Vec<PageId> {
    (0..Shape::pages_for(positions) as u32).map(PageId).collect()
}

/// Weights of experts sum to 1 (or to what the model scales them by), and are as many as declared.
pub fn routing(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let shape = &subject.opened.shape;
    let (witness, seen) = Gatherer::<Vec<Vec<f32>>>::gather(|seen, _, phase, _, taps| {
        if phase == Phase::Route {
            seen.push(taps.read(Tap::Route));
        }
    });
    step(subject, witness, &subject.tokens(ROWS))?;
    let routing = shape.routing;
    for route in seen.lock().expect("nothing panics under the lock").iter() {
        let (mut worst, mut others) = (0.0_f64, 0);
        for row in route.chunks_exact(shape.experts) {
            let sum: f64 = row.iter().map(|weight| f64::from(*weight)).sum();
            if routing.normalised {
                let error = (sum / f64::from(routing.scale) - 1.0).abs();
                worst = if error.is_nan() { error } else { worst.max(error) };
            }
            others += usize::from(row.iter().filter(|w| **w != 0.0).count() != routing.used);
        }
        put(samples, "sum_error", worst);
        put(samples, "other_counts", others as f64);
    }
    Ok(Measured::Done)
}

/// One watched step from position 0.
fn step(
    subject: &Subject<'_>,
    witness: Box<dyn qwire_model::Witness>,
    tokens: &[TokenId],
) -> Result<usize, Failure> {
    let size = Size { rows: tokens.len(), positions: tokens.len() };
    let mut ready = subject.ready(subject.device, subject.kv, size, Some(witness))?;
    let batch = Batch::single(tokens, 0, pages(tokens.len()), true);
    let faults = ready.runner.step(&batch).len();
    let logits = outputs(&mut *ready.runner, tokens.len());
    Ok(faults + logits.iter().filter(|logit| !logit.is_finite()).count())
}

/// What a look between two phases found of one layer.
#[derive(Default)]
struct Looks {
    shape: Option<Shape>,
    layers: Vec<(usize, usize)>, // wrong shapes, numbers that are none
}

/// Every buffer of every phase has the size that the model's shape says, and holds numbers.
pub fn shapes(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let start = Looks { shape: Some(subject.opened.shape.clone()), layers: Vec::new() };
    let (witness, seen) = Gatherer::with(start, |seen, layer, phase, batch, taps| {
        let shape = seen.shape.as_ref().expect("it was given");
        let routed = shape.routing.used * shape.ffn;
        let expected: &[(Tap, usize)] = match phase {
            Phase::Qkv => {
                &[(Tap::Q, shape.q_dim()), (Tap::K, shape.kv_dim()), (Tap::V, shape.kv_dim())]
            }
            Phase::Attend => &[(Tap::A, shape.q_dim())],
            Phase::Project | Phase::Reduce | Phase::Norm => &[(Tap::X, shape.hidden)],
            Phase::Route => &[(Tap::H, shape.hidden), (Tap::Route, shape.experts)],
            Phase::Expand => &[(Tap::M, routed)],
        };
        let (mut shapes, mut numbers) = (0, 0);
        for (tap, width) in expected {
            let values = taps.read(*tap);
            shapes += usize::from(values.len() != batch.rows() * width);
            numbers += values.iter().filter(|value| !value.is_finite()).count();
        }
        seen.layers.resize(seen.layers.len().max(layer + 1), (0, 0));
        seen.layers[layer].0 += shapes;
        seen.layers[layer].1 += numbers;
    });
    let faults = step(subject, witness, &subject.tokens(ROWS))?;
    for (shapes, numbers) in &seen.lock().expect("nothing panics under the lock").layers {
        put(samples, "wrong_shapes", *shapes as f64);
        put(samples, "not_finite", *numbers as f64);
    }
    put(samples, "faults", faults as f64);
    Ok(Measured::Done)
}

/// Values and attended values of one row.
type Attended = Vec<(Vec<f32>, Vec<f32>)>;

/// The first token sees itself alone: each query head's result is the value of its group's head.
pub fn first_token(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let shape = &subject.opened.shape;
    let (witness, seen) = Gatherer::<Attended>::gather(|seen, _, phase, _, taps: &mut dyn Taps| {
        if phase == Phase::Attend {
            seen.push((taps.read(Tap::V), Vec::new()));
        }
        // What comes out of the phase, with whatever changed it.
        if phase == Phase::Project {
            seen.last_mut().expect("attention came before").1 = taps.read(Tap::A);
        }
    });
    step(subject, witness, &subject.tokens(1))?;
    let (d, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let stored = |v: &[f32]| -> Vec<f32> {
        match subject.kv {
            KvType::F16 => v.iter().map(|v| f16_to_f32(f32_to_f16(*v))).collect(),
            KvType::F32 => v.to_vec(),
            KvType::I8 => {
                let code = |v: &[f32]| {
                    let scale = i8::scale(v);
                    v.iter().map(|v| i8::store(*v, scale).load(scale)).collect::<Vec<_>>()
                };
                v.chunks(GROUP).flat_map(code).collect()
            }
        }
    };
    for (v, a) in seen.lock().expect("nothing panics under the lock").iter() {
        let expected = (0..shape.heads).flat_map(|head| stored(&v[head / group * d..][..d]));
        let wrong = a.iter().zip(expected).filter(|(a, v)| a.to_bits() != v.to_bits());
        put(samples, "differing", wrong.count() as f64);
    }
    Ok(Measured::Done)
}

/// Routes of every layer, [rows, experts] each, and how many of another's were others.
#[derive(Default)]
struct Routes {
    layers: Vec<Vec<f32>>,
    flipped: Vec<f64>,
}

/// The logits of a device, and its routes.
fn observed(
    subject: &Subject<'_>,
    device: &Device,
    tokens: &[TokenId],
) -> Result<(Vec<f32>, Routes), Failure> {
    let (witness, seen) = Gatherer::<Routes>::gather(|seen, _, phase, _, taps| {
        if phase == Phase::Route {
            seen.layers.push(taps.read(Tap::Route));
        }
    });
    let logits = logits_of(subject, device, witness, tokens)?;
    let mut routes = seen.lock().expect("nothing panics under the lock");
    Ok((logits, std::mem::take(&mut *routes)))
}

/// The logits of a device whose rows go where others went, and how many experts that changed.
fn imposed(
    subject: &Subject<'_>,
    device: &Device,
    tokens: &[TokenId],
    routes: Routes,
) -> Result<(Vec<f32>, Vec<f64>), Failure> {
    let (witness, seen) = Gatherer::with(routes, |seen: &mut Routes, layer, phase, _, taps| {
        if phase == Phase::Route {
            let own = taps.read(Tap::Route);
            let theirs = &seen.layers[layer];
            let flips = own.iter().zip(theirs).filter(|(a, b)| **a != 0.0 && **b == 0.0);
            seen.flipped.push(flips.count() as f64);
            taps.write(Tap::Route, theirs);
        }
    });
    let logits = logits_of(subject, device, witness, tokens)?;
    let flipped = std::mem::take(&mut seen.lock().expect("nothing panics").flipped);
    Ok((logits, flipped))
}

fn logits_of(
    subject: &Subject<'_>,
    device: &Device,
    witness: Box<dyn qwire_model::Witness>,
    tokens: &[TokenId],
) -> Result<Vec<f32>, Failure> {
    let size = Size { rows: tokens.len(), positions: tokens.len() };
    let mut ready = subject.ready(device, subject.kv, size, Some(witness))?;
    let batch = Batch::single(tokens, 0, pages(tokens.len()), true);
    if let Some(poison) = ready.runner.step(&batch).first() {
        return Err(Failure::new(poison));
    }
    Ok(outputs(&mut *ready.runner, tokens.len()))
}

/// The device against the definition in f64, whose rows visit the same experts.
pub fn reference(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let Some(device) = subject.device_of_contract() else { return Ok(no_device()) };
    let positions = if subject.is_large() { FEW } else { MANY };
    against(subject, &device, (&Device::Reference, positions), samples)
}

/// The device against the CPU, whose rows visit the same experts.
pub fn company(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let Some(device) = subject.device_of_contract() else { return Ok(no_device()) };
    against(subject, &device, (subject.device, MANY), samples)
}

fn against(
    subject: &Subject<'_>,
    device: &Device,
    (truth, positions): (&Device, usize),
    samples: &mut Samples,
) -> Result<Measured, Failure> {
    let tokens = subject.tokens(positions);
    let (found, routes) = observed(subject, device, &tokens)?;
    let (expected, flipped) = imposed(subject, truth, &tokens, routes)?;
    let vocab = expected.len() / tokens.len();
    for (found, expected) in found.chunks_exact(vocab).zip(expected.chunks_exact(vocab)) {
        agree(samples, found, expected);
    }
    flipped.into_iter().for_each(|flips| put(samples, "flipped_experts", flips));
    Ok(Measured::Done)
}

/// The device against logits from elsewhere.
pub fn logits_file(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let Some((path, ids)) = &subject.logits else {
        return Ok(Measured::Skipped("no --logits were given".into()));
    };
    let fault = |why: String| Failure::new(format!("{}: {why}", path.display()));
    let tokens: Vec<TokenId> = ids.iter().copied().map(TokenId).collect();
    let runner = subject
        .runner(subject.device, Size { rows: tokens.len().min(512), positions: tokens.len() })?;
    let mut desk = Desk::new(runner, subject.interrupt);
    let vocab = desk.runner.vocab();
    let file = File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut reader = npy::Reader::open(BufReader::new(file), tokens.len(), vocab).map_err(fault)?;
    let mut table = Table::default();
    for chunk in tokens.chunks(512) {
        let found = desk.extend(&mut table, chunk, (512, true))?;
        for found in found.chunks_exact(vocab) {
            agree(samples, found, reader.row().map_err(fault)?);
        }
    }
    Ok(Measured::Done)
}

/// How far one row is from the truth. Where the best token is another one, the truth's lead over
/// it, in standard deviations of the truth's logits: what is nearly a tie has no best token.
fn agree(samples: &mut Samples, found: &[f32], expected: &[f32]) {
    put(samples, "cosine", cosine(expected, found));
    let (ours, theirs) = (best(found).0 as usize, best(expected).0 as usize);
    let lead = f64::from(expected[theirs]) - f64::from(expected[ours]);
    let n = expected.len() as f64;
    let mean = expected.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let square = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
    let spread = (expected.iter().map(square).sum::<f64>() / n).sqrt();
    put(samples, "top1", f64::from(ours == theirs));
    put(samples, "missed_lead", if ours == theirs { 0.0 } else { lead / spread });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_counts_by_the_lead_of_what_was_missed() {
        let mut samples = Samples::new();
        agree(&mut samples, &[1.0, 0.0], &[1.0, 0.0]);
        agree(&mut samples, &[0.0, 1.0], &[1.0, -1.0]);
        assert_eq!(samples["top1"], [1.0, 0.0]);
        assert_eq!(samples["missed_lead"], [0.0, 2.0]);
    }
}
