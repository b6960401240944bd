//! The forward pass on CPU threads.
//!
//! ```text
//! pool         workers, and buffers in disjoint pieces
//! matrix       weights in panels
//! activations  rows in the form that weights read, in tiles of tokens
//! kv           pages of keys and values
//! phases       the six phases, as tasks over tiles
//! limits       what memory and the tile kernel give at most, for comparison
//! ```
//! Every number is defined by `qwire_kernels`; this crate only decides who computes it.

mod activations;
mod bench;
mod buffers;
mod kv;
pub mod limits;
mod matrix;
mod phases;
pub mod pool;

use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use qwire_kernels::Isa;
use qwire_kernels::rope::Rope;
use qwire_model::{LoadError, Shape};

use bench::Bench;
use buffers::Buffers;
use kv::Cache;
use pool::Pool;

/// A CPU as a backend.
pub struct Cpu {
    pool: Pool,
    isa: Isa,
    benches: Vec<Mutex<Bench>>, // one per worker, never contended
    reserved: Option<Reserved>,
}

/// What `reserve` made.
struct Reserved {
    shape: Shape,
    rope: Rope,
    cache: Cache,
    buffers: Buffers,
    faults: Vec<AtomicU32>, // [rows]
}

impl Cpu {
    /// A backend of this many threads that runs code for `isa`.
    pub fn new(threads: usize, isa: Isa) -> Result<Self, LoadError> {
        let benches = (0..threads).map(|_| Mutex::default()).collect();
        let pool = Pool::new(threads);
        let pool = pool.map_err(|error| LoadError(format!("{threads} threads: {error}")))?;
        Ok(Self { pool, isa, benches, reserved: None })
    }

    /// Threads, this one among them.
    pub fn threads(&self) -> usize {
        self.pool.workers()
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}
