//! CUDA: kernels, and the driver that runs them. The host's side of a step is `backend-gpu`.
//!
//! ```text
//! kernels/*.cu  the ops; `cargo xtask kernels` compiles them to kernels/ptx
//! driver        memory and launches, loaded at run time
//! ```

pub mod driver;

pub use qwire_backend_gpu::{Gpu, device, kernel};
