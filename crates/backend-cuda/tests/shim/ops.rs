//! Single ops against the definitions of the CPU, whose integers they must hit.

use crate::loader::{Order, shim};
use crate::trial::codes;

#[test]
fn codes_are_those_of_the_cpu() {
    Order::ALL.into_iter().for_each(|order| codes::are_those_of_the_cpu(shim(order)));
}
