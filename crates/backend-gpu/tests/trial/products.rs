//! Products whose activations are codes already, so that nothing is rounded but the sums of floats:
//! then a device is within 1e-6 of the reference, whatever the type of the weights.

use std::sync::Arc;

use qwire_backend_gpu::Gpu;
use qwire_backend_gpu::device::Device;
use qwire_gguf::File;
use qwire_model::reference::Reference;
use qwire_model::{Backend, Batch, KvType, Limits, Loaded, PageId, Shape, Tap, TokenId};

use super::models::golden;

const ROWS: usize = 9;
const BOUND: f64 = 1e-6;

/// Rows of integers, one in each 32 so large that the scale of their codes is 1.
fn whole(rows: usize, k: usize) -> Vec<f32> {
    let value = |i: usize| match i % 32 {
        at if at == i / 32 * 7 % 32 => 16256.0,
        _ => (i * 7919 % 401) as f32 - 200.0,
    };
    (0..rows * k).map(value).collect()
}

fn load<B: Backend>(file: &Arc<File>, backend: B) -> Loaded<B> {
    let limits = |_: &Shape| Limits { rows: ROWS, outputs: 1, pages: 1, kv: KvType::F16 };
    Loaded::load(file, backend, limits, &mut |_, _| {}).expect("the model loads")
}

/// What attention's output projection and `down` add to zeros.
fn added<B: Backend>(of: &mut Loaded<B>) -> [Vec<f32>; 2] {
    let Loaded { backend, model, .. } = of;
    let shape = &model.shape;
    let batch = Batch::single(&[TokenId(1); ROWS], 0, vec![PageId(0)], false);
    let zeros = vec![0.0; ROWS * shape.hidden];
    backend.begin(&batch);
    backend.embed(&model.token_embd, &batch);
    backend.route(&model.layers[0]);
    backend.write(Tap::X, &zeros);
    backend.write(Tap::A, &whole(ROWS, shape.q_dim()));
    backend.project(&model.layers[0]);
    let projected = backend.read(Tap::X);
    let weight = |i: usize| {
        let chosen = (i + i / shape.experts) % shape.experts < shape.routing.used;
        if chosen { 1.0 / shape.routing.used as f32 } else { 0.0 }
    };
    let routes: Vec<f32> = (0..ROWS * shape.experts).map(weight).collect();
    backend.write(Tap::Route, &routes);
    backend.write(Tap::X, &zeros);
    backend.write(Tap::M, &whole(ROWS * shape.routing.used, shape.ffn));
    backend.reduce(&model.layers[0].experts);
    [projected, backend.read(Tap::X)]
}

/// Of a golden model.
pub fn are_those_of_the_reference<D: Device>(device: Option<D>, name: &str) {
    let Some(device) = device else { return };
    let file = golden(name);
    let ours = added(&mut load(&file, Gpu::new(device)));
    let truth = added(&mut load(&file, Reference::default()));
    for ((ours, truth), phase) in ours.iter().zip(&truth).zip(["project", "reduce"]) {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let off: f64 = ours.iter().zip(truth).map(|(a, b)| square(a - b)).sum();
        let error = (off / truth.iter().map(|x| square(*x)).sum::<f64>()).sqrt();
        println!("{name}: {phase} {error:.1e}, allowed {BOUND:.0e}");
        assert!(error <= BOUND, "{name}: {phase} is {error:e} off");
    }
}
