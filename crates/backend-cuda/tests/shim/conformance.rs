//! The backend over the shim against the reference, phase by phase.

use std::sync::Arc;

use qwire_backend_cuda::Gpu;
use qwire_gguf::{Dtype, File};
use qwire_model::KvType;
use qwire_model::conformance::{self, Bounds};

use crate::loader::{Order, shim};
use crate::models::{golden, rewritten};

/// Every linear map reads 15 bits, whatever it is for.
fn quantised() -> Bounds {
    let bounds = Bounds::quantised(KvType::F16);
    Bounds { narrow: bounds.wide, ..bounds }
}

fn check(file: &Arc<File>, name: &str, bounds: Bounds) {
    let Some(device) = shim(Order::Forward) else { return };
    if let Err(error) = conformance::run(file, Gpu::new(device), KvType::F16, bounds) {
        panic!("{name}: {error}");
    }
}

#[test]
fn floats_conform() {
    let bounds = Bounds::float(KvType::F16);
    check(&golden("moes-f32"), "moes-f32", bounds);
    for dtype in [Dtype::F16, Dtype::BF16] {
        let file = rewritten(&golden("moes-f32"), |tensor, _| {
            if tensor.dims.len() > 1 { dtype } else { tensor.dtype }
        });
        check(&file, dtype.name(), bounds);
    }
}

#[test]
fn quantised_mixtures_conform() {
    for name in ["moe-q4_k_m", "moe-q5_k_m"] {
        check(&golden(name), name, quantised());
    }
}

#[test]
fn a_quantised_dense_model_conforms() {
    check(&golden("dense2-q6_k"), "dense2-q6_k", quantised());
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let Some(device) = shim(Order::Forward) else { return };
    let bounds = quantised();
    let error = conformance::run(&golden("dense3-q4_0"), Gpu::new(device), KvType::F16, bounds);
    let expected = "has type Q4_0, which cannot run on a CUDA device; types that can: F32, F16, \
                    BF16, Q8_0, Q4_K, Q5_K, Q6_K";
    let error = error.expect_err("no kernel reads Q4_0");
    assert!(error.starts_with("tensor `") && error.ends_with(expected), "{error}");
    let Some(device) = shim(Order::Forward) else { return };
    let error = conformance::run(&golden("moes-f32"), Gpu::new(device), KvType::F32, bounds);
    let error = error.expect_err("the cache is f16");
    assert_eq!(error, "a cache of f32 cannot be kept on a CUDA device; accepted: f16");
}
