//! CUDA: kernels, and the driver that runs them. The host's side of a step is `backend-gpu`.
//!
//! ```text
//! kernels/*.cu  the ops; `cargo xtask kernels` compiles them to kernels/ptx and cubins.bin
//! archive       the form of cubins.bin
//! modules       what of both a card gets
//! driver        memory and launches, loaded at run time
//! meter         how long a launch takes
//! monitor       what it took, and switches of the driver
//! ```

pub mod archive;
pub mod driver;
mod meter;
pub mod modules;
pub mod monitor;

pub use qwire_backend_gpu::{Gpu, device, kernel};
