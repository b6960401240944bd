//! The forward pass on a device with memory of its own: all that CUDA and wgpu share, which is all
//! but the kernels and the driver that runs them.
//!
//! ```text
//! kernel        the names of the ops, which each driver has in its own language
//! device        what is asked of a driver: memory and launches
//! planes        weights rearranged for wide reads, without rounding
//! matrix        weights on the device
//! host          experts that another backend computes
//! workspace     all memory of a step
//! desk          launches with their arguments
//! phases        the six phases, of these
//! taps          what lies between them, for those who look
//! traffic       bytes that they move
//! ```
//! The bits are a driver's own: the same for the same rows in any batch, chunk and order of
//! threads, and near those of the CPU, not equal to them.

mod desk;
pub mod device;
mod host;
pub mod kernel;
mod matrix;
mod phases;
mod planes;
mod taps;
mod traffic;
mod workspace;

use std::ops::Range;
use std::sync::Mutex;

use qwire_model::{KvType, Shape};

use device::{Address, Device, Stream};
use host::Sharing;
use workspace::Workspace;

pub use matrix::Matrix;

/// A GPU as a backend, over any driver.
pub struct Gpu<D: Device> {
    stream: Mutex<Stream<D>>, // for readers of a shared backend; never contended
    vocab: usize,             // rows of the head
    reserved: Option<Reserved>,
    logits: Vec<f32>,
    sharing: Option<Sharing>,
}

/// What `reserve` made.
struct Reserved {
    shape: Shape,
    space: Workspace,
    kv: KvType,
    cache: Vec<Address>,  // [layers] of [pages, kv_heads, keys and values]
    rows: usize,          // of this step
    outputs: usize,       // of this step
    deepest: usize,       // splits of attention of this step
    visible: usize,       // positions that its spans see, together
    headed: Range<usize>, // outputs of this step whose logits are there
    singles: bool,        // whether each row is all of its span
    tile: usize,          // visits of a tile, at most
    layer: usize,         // that was routed last
    choice: Choice,       // of its experts
}

impl Reserved {
    /// Whether nobody has chosen the layer's experts yet: a row alone does it where they expand.
    fn waits(&self) -> bool {
        self.rows == 1 && self.choice != Choice::Given
    }
}

/// How a row's experts are chosen, as kernels number it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// By scores.
    Scores,
    /// There is only one.
    Only,
    /// They were.
    Given,
}

impl<D: Device> Gpu<D> {
    /// A backend that runs on this device.
    pub fn new(device: D) -> Self {
        let stream = Mutex::new(Stream::new(device));
        Self { stream, vocab: 0, reserved: None, logits: Vec::new(), sharing: None }
    }
}
