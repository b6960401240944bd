//! Vulkan, Metal and DirectX 12 through wgpu: kernels in WGSL, and the driver that runs them. The
//! host's side of a step is `backend-gpu`.
//!
//! ```text
//! kernels/*.wgsl  the ops, each behind `prelude.wgsl` and what it shares with others
//! kernel          their sources, and where their arguments point
//! driver          memory and launches; there where the feature `wgpu` is
//! absent          the same where it is not: says so, and runs nothing
//! ```

pub mod kernel;

#[cfg(feature = "wgpu")]
pub mod driver;
#[cfg(not(feature = "wgpu"))]
#[path = "absent.rs"]
pub mod driver;

pub use qwire_backend_gpu::{Gpu, device};
