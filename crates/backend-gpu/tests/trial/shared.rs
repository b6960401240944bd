//! A device that shares its layers with the CPU: what the host computes has the CPU's bits, and the
//! whole is as near the reference, and as much the same in any chunk, batch and run.

use qwire_backend_cpu::Cpu;
use qwire_backend_gpu::Gpu;
use qwire_backend_gpu::device::Device;
use qwire_kernels::Isa;
use qwire_model::conformance::Bounds;
use qwire_model::{Backend, Batch, KvType, Loaded, PageId, Tap, TokenId};

use super::models::golden;
use super::phases;
use super::whole::{self, Company, Nearness, Plan, load};

/// Layers of the golden mixtures.
const LAYERS: usize = 3;
const ROWS: usize = 9;

/// A device that has the experts of so many layers.
pub fn sharing<D: Device>(device: D, layers: usize) -> Gpu<D> {
    Gpu::sharing(device, Cpu::new(2, Isa::detect()).expect("two threads"), layers)
}

/// Phase by phase, with a layer on each side.
pub fn conforms<D: Device>(device: impl Fn() -> Option<D>) {
    let bounds = Bounds::quantised(KvType::F16);
    for name in ["moe-q8_0", "moe-q4_k_m"] {
        let gpu = device().map(|device| sharing(device, 1));
        phases::check(gpu, &golden(name), name, bounds);
    }
    // A dense model is a mixture with one expert, and the CPU reads more formats.
    let gpu = device().map(|device| sharing(device, 0));
    phases::check(gpu, &golden("dense2-q6_k"), "dense2-q6_k", bounds);
}

/// Whole models, with no, some and all layers on the host. Its activations have 8 bits where the
/// device's have 15, so that it is as near as the CPU is: where a router or the best token is at a
/// tie, another may be chosen.
pub fn is_near_the_reference<D: Device>(device: impl Fn() -> Option<D>) {
    for layers in (0..=LAYERS).rev() {
        for name in ["moe-q8_0", "moe-q4_k_m"] {
            let Some(device) = device() else { return };
            let title = format!("{name}, experts of {layers} of {LAYERS} layers on the device");
            let nearness = Nearness { cosine: 0.9999, ties: Some(100), lead: 0.1 };
            whole::check(sharing(device, layers), &title, &golden(name), nearness);
        }
    }
}

/// Chunks, company and runs change no bit.
pub fn bits_depend_on_nothing_but_the_tokens<D: Device>(device: impl Fn() -> Option<D>) {
    for layers in [0, 1] {
        let plans = [
            Plan { chunk: 90, beside: 0, steps: 8 },
            Plan { chunk: 33, beside: 7, steps: 8 },
            Plan { chunk: 7, beside: 3, steps: 3 },
        ];
        let gpu = || device().map(|device| sharing(device, layers));
        whole::plans_agree(KvType::F16, plans.map(|plan| (plan, gpu)));
        let mut company = Company::new("moe-q4_k_m");
        (0..8).for_each(|beside| company.add(gpu(), beside));
    }
}

/// m of a layer's experts, and what they add to zeros, from the same h and routes.
fn experts<B: Backend>(of: &mut Loaded<B>, layer: usize) -> [Vec<f32>; 2] {
    let Loaded { backend, model, .. } = of;
    let shape = &model.shape;
    let batch = Batch::single(&[TokenId(1); ROWS], 0, vec![PageId(0)], false);
    backend.begin(&batch);
    backend.embed(&model.token_embd, &batch);
    backend.route(&model.layers[layer]);
    let value = |i: usize| (i * 7919 % 4001) as f32 * 1e-3 - 2.0;
    let h: Vec<f32> = (0..ROWS * shape.hidden).map(value).collect();
    let weight = |i: usize| {
        let chosen = (i + i / shape.experts) % shape.experts < shape.routing.used;
        if chosen { 0.25 + (i % 3) as f32 * 0.125 } else { 0.0 }
    };
    let routes: Vec<f32> = (0..ROWS * shape.experts).map(weight).collect();
    backend.write(Tap::H, &h);
    backend.write(Tap::Route, &routes);
    backend.write(Tap::X, &vec![0.0; ROWS * shape.hidden]);
    backend.expand(&model.layers[layer].experts);
    let m = backend.read(Tap::M);
    backend.reduce(&model.layers[layer].experts);
    [m, backend.read(Tap::X)]
}

/// What the host computes is what the CPU computes by itself.
pub fn host_has_the_bits_of_the_cpu<D: Device>(device: impl Fn() -> Option<D>) {
    for name in ["moe-q4_k_m", "moe-q5_k_m", "moe-q8_0", "dense3-q4_k_m"] {
        let Some(device) = device() else { return };
        let file = golden(name);
        let cpu = Cpu::new(1, Isa::detect()).expect("a thread");
        let (mut alone, mut shared) = (load(&file, cpu, 64), load(&file, sharing(device, 1), 64));
        let [ours, theirs] = [experts(&mut shared, 1), experts(&mut alone, 1)];
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(ours[0].iter().any(|m| *m != 0.0), "{name}");
        assert_eq!(bits(&ours[0]), bits(&theirs[0]), "{name}: m");
        assert_eq!(bits(&ours[1]), bits(&theirs[1]), "{name}: x");
    }
}
