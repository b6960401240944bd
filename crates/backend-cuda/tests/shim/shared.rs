//! Layers shared with the CPU, over the shim.

use crate::loader::{Order, Shim, shim};
use crate::trial::shared;

fn device() -> Option<Shim> {
    shim(Order::Forward)
}

#[test]
fn shared_layers_conform() {
    shared::conforms(device);
}

#[test]
fn shared_models_are_near_the_reference() {
    shared::is_near_the_reference(device);
}

#[test]
fn bits_of_shared_models_depend_on_nothing_but_the_tokens() {
    shared::bits_depend_on_nothing_but_the_tokens(device);
}

#[test]
fn a_host_has_the_bits_of_the_cpu() {
    shared::host_has_the_bits_of_the_cpu(device);
}
