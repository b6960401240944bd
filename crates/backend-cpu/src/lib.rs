//! The forward pass on CPU threads.
//!
//! ```text
//! pool         workers, and buffers in disjoint pieces
//! matrix       weights in panels
//! panels       packed, or mapped from a sidecar
//! memory       in large pages
//! sidecar      panels kept on disk
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
mod memory;
mod panels;
mod phases;
pub mod pool;
pub mod sidecar;

use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use qwire_kernels::Isa;
use qwire_kernels::rope::Rope;
use qwire_model::{LoadError, Role, Shape};

use bench::Bench;
use buffers::Buffers;
use kv::Cache;
use matrix::Matrix;
use pool::Pool;
use sidecar::Sidecar;

/// A CPU as a backend.
pub struct Cpu {
    pool: Pool,
    isa: Isa,
    source: Source,
    benches: Vec<Mutex<Bench>>, // one per worker, never contended
    reserved: Option<Reserved>,
}

/// Where panels come from.
enum Source {
    /// The file's weights, packed into memory.
    Weights,
    /// A file of panels.
    Sidecar(Sidecar),
    /// Nowhere: matrices are only listed.
    Listed(Vec<Matrix>),
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
        Ok(Self { pool, isa, source: Source::Weights, benches, reserved: None })
    }

    /// Takes panels from here instead of packing them: the same bits, sooner.
    pub fn with_sidecar(self, sidecar: Sidecar) -> Self {
        Self { source: Source::Sidecar(sidecar), ..self }
    }

    /// Gives a matrix its panels.
    fn place(&mut self, mut matrix: Matrix, role: Role) -> Result<Matrix, LoadError> {
        if role == Role::Embedding {
            return Ok(matrix);
        }
        match &mut self.source {
            Source::Weights => matrix.panels = Some(matrix.pack(&self.pool)?),
            Source::Sidecar(sidecar) => matrix.panels = Some(sidecar.panels(&matrix)?),
            Source::Listed(list) => list.push(Matrix::new(matrix.weights.clone(), role)),
        }
        Ok(matrix)
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
