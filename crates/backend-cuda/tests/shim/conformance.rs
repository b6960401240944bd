//! The backend over the shim against the reference, phase by phase.

use crate::loader::{Order, Shim, shim};
use crate::trial::{attention, phases, products};

fn device() -> Option<Shim> {
    shim(Order::Forward)
}

#[test]
fn floats_conform() {
    phases::floats_conform(device);
}

#[test]
fn quantised_mixtures_conform() {
    for name in ["moe-q4_k_m", "moe-q5_k_m"] {
        phases::golden_conforms(device(), name);
    }
}

#[test]
fn a_quantised_dense_model_conforms() {
    phases::golden_conforms(device(), "dense2-q6_k");
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    phases::others_are_refused(device);
}

#[test]
fn products_of_codes_are_those_of_the_reference() {
    for name in ["moe-q8_0", "moe-q4_k_m", "moe-q5_k_m", "dense2-q6_k", "moes-f32"] {
        products::are_those_of_the_reference(device(), name);
    }
}

#[test]
fn a_cache_of_codes_conforms() {
    phases::codes_conform(|| shim(Order::Forward));
}

#[test]
fn attention_is_that_of_what_is_stored() {
    attention::is_that_of_what_is_stored(|| shim(Order::Reverse));
}
