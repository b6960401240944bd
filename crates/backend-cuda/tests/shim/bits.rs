//! Whole models over the shim: near the reference, and the same bits in any order of threads,
//! chunk, batch and run.

use qwire_backend_cuda::Gpu;
use qwire_model::KvType;

use crate::loader::{Order, shim};
use crate::trial::whole::{self, Company, Plan};

#[test]
fn whole_models_of_every_architecture_are_near_the_reference() {
    whole::models_are_near_the_reference(|| shim(Order::Forward));
}

#[test]
fn bits_depend_on_nothing_but_the_tokens() {
    let plans = [
        (Order::Forward, Plan { chunk: 90, beside: 0, steps: 8 }),
        (Order::Reverse, Plan { chunk: 64, beside: 1, steps: 8 }),
        (Order::Seeded(7), Plan { chunk: 33, beside: 7, steps: 8 }),
        (Order::Seeded(11), Plan { chunk: 7, beside: 3, steps: 3 }),
    ];
    let over = |plans: &[(Order, Plan)], kv| {
        let plan = |(order, plan): &(Order, Plan)| {
            let order = *order;
            (*plan, move || shim(order).map(Gpu::new))
        };
        whole::plans_agree(kv, plans.iter().map(plan));
    };
    over(&plans, KvType::F16);
    over(&plans[2..], KvType::I8);
}

/// A few steps of other formats in three orders and batches.
#[test]
fn every_format_has_the_same_bits_in_any_order_and_batch() {
    for name in ["moe-q4_k_m", "moe-q5_k_m", "dense2-q6_k"] {
        let mut company = Company::new(name);
        for (order, beside) in Order::ALL.into_iter().zip([0, 1, 7]) {
            company.add(shim(order).map(Gpu::new), beside);
        }
        company.add(shim(Order::Forward).map(Gpu::new), 11); // more than are spread
        for says in [false, true] {
            company.add_watched(shim(Order::Reverse).map(Gpu::new), says);
        }
    }
}
