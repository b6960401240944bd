//! Single ops against the definitions of the CPU, whose integers they must hit.

use crate::loader::{Order, shim};
use crate::trial::{best, codes};

#[test]
fn codes_are_those_of_the_cpu() {
    Order::ALL.into_iter().for_each(|order| codes::are_those_of_the_cpu(shim(order)));
}

#[test]
fn the_best_logits_are_those_of_a_sort() {
    Order::ALL.into_iter().for_each(|order| best::shares_are_sorted(shim(order)));
}
