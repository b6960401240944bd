//! The kernels on whatever adapter there is, Mesa's lavapipe where there is no card: near the
//! reference, and bits that depend on nothing but the tokens.

mod models;
mod ops;
mod shared;
#[path = "../../../backend-gpu/tests/trial/mod.rs"]
mod trial;

use std::sync::{Arc, OnceLock};

use qwire_backend_wgpu::driver::{self, Opened, Wgpu};

/// Memory on the first adapter, or none where no adapter is, which is said. Its kernels are
/// compiled once.
fn device() -> Option<Wgpu> {
    static OPENED: OnceLock<Result<Arc<Opened>, String>> = OnceLock::new();
    let open = || {
        let adapters = driver::probe()?;
        let adapter = adapters.first().expect("none is an error");
        println!("{adapter}");
        Ok(Opened::open(adapter).expect("an adapter that is there opens"))
    };
    match OPENED.get_or_init(open) {
        Ok(opened) => Some(Wgpu::on(opened.clone())),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}
