//! The mathematics of one thread, on slices: the definition of every number qwire computes.
//!
//! Each function is defined by plain scalar Rust that fixes the order of every operation. [`isa`]
//! compiles that same text again for wider instruction sets; the products of weights, where the
//! time goes, have kernels of their own in `lanes`, which give the same bits.
//!
//! ```text
//! quant       a GGUF block  ->  codes, scales, biases (and from those: its weights, exactly)
//! activation  a row of f32  ->  8-bit or 15-bit codes, a scale per 32 values
//! tile        a panel of 16 rows x a pack of up to 16 tokens  ->  dot products
//! lanes       the same for whole vectors of rows, per instruction set
//! norm rope attention route silu exp half              the rest of a transformer layer
//! ```
//! It imports nothing of the workspace, knows no threads and no files.

/// Counts changes of any bit of any result; part of fingerprints and cache keys.
pub const NUMBERS_VERSION: u32 = 2;

pub mod activation;
pub mod attention;
pub mod exp;
pub mod half;
pub mod isa;
mod lanes;
pub mod norm;
pub mod quant;
pub mod rope;
pub mod route;
pub mod tile;

pub use isa::Isa;
