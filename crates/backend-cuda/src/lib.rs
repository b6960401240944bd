//! The forward pass on a CUDA device.
//!
//! ```text
//! kernels/*.cu  the ops; `cargo xtask kernels` compiles them to kernels/ptx
//! kernel        their names
//! device        what is asked of a driver: memory and launches
//! driver        the one for CUDA, loaded at run time
//! planes        weights rearranged for wide reads, without rounding
//! matrix        weights on the device
//! workspace     all memory of a step
//! phases        the six phases as launches
//! ```
//! The bits are this backend's own: the same for the same rows in any batch, chunk and order of
//! threads, and near those of the CPU, not equal to them.

pub mod device;
pub mod driver;
pub mod kernel;
mod matrix;
mod phases;
mod planes;
mod workspace;

use std::sync::Mutex;

use qwire_model::Shape;

use device::{Address, Device, Stream};
use workspace::Workspace;

pub use matrix::Matrix;

/// A GPU as a backend, over any driver.
pub struct Gpu<D: Device> {
    stream: Mutex<Stream<D>>, // for readers of a shared backend; never contended
    vocab: usize,             // rows of the head
    reserved: Option<Reserved>,
    logits: Vec<f32>,
}

/// What `reserve` made.
struct Reserved {
    shape: Shape,
    space: Workspace,
    cache: Address, // [layers, pages, kv_heads, keys and values, 64 d] in f16
    pages: usize,
    rows: usize,    // of this step
    outputs: usize, // of this step
    deepest: usize, // splits of attention of this step
}

impl<D: Device> Gpu<D> {
    /// A backend that runs on this device.
    pub fn new(device: D) -> Self {
        let stream = Mutex::new(Stream::new(device));
        Self { stream, vocab: 0, reserved: None, logits: Vec::new() }
    }
}
