//! A device against the reference, phase by phase.

use std::sync::Arc;

use qwire_backend_gpu::Gpu;
use qwire_backend_gpu::device::Device;
use qwire_gguf::{Dtype, File};
use qwire_model::conformance::{self, Bounds};
use qwire_model::{KvType, Phase};

use super::models::{golden, rewritten};

/// Every linear map reads 15 bits, whatever it is for.
pub fn quantised() -> Bounds {
    let bounds = Bounds::quantised(KvType::F16);
    Bounds { narrow: bounds.wide, ..bounds }
}

/// Every phase of a backend.
pub fn check<D: Device>(gpu: Option<Gpu<D>>, file: &Arc<File>, name: &str, bounds: Bounds) {
    let Some(gpu) = gpu else { return };
    match conformance::run(file, gpu, KvType::F16, bounds) {
        Ok(measured) => {
            for of in measured {
                println!("{name}: {:?} {:.1e}, allowed {:.1e}", of.phase, of.error, of.bound);
            }
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Weights of every float type.
pub fn floats_conform<D: Device>(device: impl Fn() -> Option<D>) {
    let bounds = Bounds { route: 1e-5, ..Bounds::float(KvType::F16) };
    check(device().map(Gpu::new), &golden("moes-f32"), "moes-f32", bounds);
    for dtype in [Dtype::F16, Dtype::BF16] {
        let file = rewritten(&golden("moes-f32"), |tensor, _| {
            if tensor.dims.len() > 1 { dtype } else { tensor.dtype }
        });
        check(device().map(Gpu::new), &file, dtype.name(), bounds);
    }
}

/// A golden model of quantised weights.
pub fn golden_conforms<D: Device>(device: Option<D>, name: &str) {
    check(device.map(Gpu::new), &golden(name), name, quantised());
}

/// Keys and values that are stored as codes.
pub fn codes_conform<D: Device>(device: impl Fn() -> Option<D>) {
    for name in ["moes-f32", "dense3-q4_k_m"] {
        let Some(device) = device() else { return };
        let bounds = Bounds { attend: Bounds::float(KvType::I8).attend, ..quantised() };
        let measured = conformance::run(&golden(name), Gpu::new(device), KvType::I8, bounds);
        let measured = measured.unwrap_or_else(|error| panic!("{name}: {error}"));
        for of in measured.iter().filter(|of| of.phase == Phase::Attend) {
            println!("{name}: {:?} {:.1e}, allowed {:.1e}", of.phase, of.error, of.bound);
            assert!(of.error > 1e-4, "{name}: codes round");
        }
    }
}

/// What kernels do not read is refused at load, by name.
pub fn others_are_refused<D: Device>(device: impl Fn() -> Option<D>) {
    let kind = D::KIND;
    let Some(first) = device() else { return };
    let bounds = quantised();
    let error = conformance::run(&golden("dense3-q4_0"), Gpu::new(first), KvType::F16, bounds);
    let expected = format!(
        "has type Q4_0, which cannot run on {kind}; types that can: F32, F16, BF16, Q8_0, Q4_K, \
         Q5_K, Q6_K"
    );
    let error = error.expect_err("no kernel reads Q4_0");
    assert!(error.starts_with("tensor `") && error.ends_with(&expected), "{error}");
    let Some(second) = device() else { return };
    let error = conformance::run(&golden("moes-f32"), Gpu::new(second), KvType::F32, bounds);
    let error = error.expect_err("the cache is f16");
    assert_eq!(error, format!("a cache of f32 cannot be kept on {kind}; accepted: f16, i8"));
}
