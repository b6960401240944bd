//! Phases against the reference, whole models, and their bits.

use qwire_backend_wgpu::Gpu;
use qwire_model::KvType;

use crate::device;
use crate::trial::phases;
use crate::trial::whole::{self, Company, Plan};

#[test]
fn floats_conform() {
    phases::floats_conform(device);
}

#[test]
fn quantised_mixtures_conform() {
    for name in ["moe-q4_k_m", "moe-q5_k_m", "moe-q8_0"] {
        phases::golden_conforms(device(), name);
    }
}

#[test]
fn a_quantised_dense_model_conforms() {
    phases::golden_conforms(device(), "dense2-q6_k");
}

#[test]
fn a_cache_of_codes_conforms() {
    phases::codes_conform(device);
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    phases::others_are_refused(device);
}

#[test]
fn whole_models_of_every_architecture_are_near_the_reference() {
    whole::models_are_near_the_reference(device);
}

#[test]
fn bits_depend_on_nothing_but_the_tokens() {
    let plans = [
        Plan { chunk: 90, beside: 0, steps: 8 },
        Plan { chunk: 64, beside: 1, steps: 8 },
        Plan { chunk: 33, beside: 7, steps: 8 },
        Plan { chunk: 7, beside: 3, steps: 3 },
    ];
    for (kv, plans) in [(KvType::F16, &plans[..]), (KvType::I8, &plans[2..])] {
        whole::plans_agree(kv, plans.iter().map(|plan| (*plan, || device().map(Gpu::new))));
    }
}

#[test]
fn every_format_has_the_same_bits_in_any_batch() {
    for name in ["moe-q4_k_m", "moe-q5_k_m", "moe-bf16", "dense2-q6_k"] {
        let mut company = Company::new(name);
        for beside in (0..8).chain([11]) {
            company.add(device().map(Gpu::new), beside);
        }
        for says in [false, true] {
            company.add_watched(device().map(Gpu::new), says);
        }
    }
}
