//! GGUF files: header, metadata, tensor directory, mapping and writer. No arithmetic on weights.
//!
//! ```text
//! byte 0   "GGUF"                                       magic
//!      4   u32 version                                  2 or 3, little endian
//!      8   u64 tensors                                  entries of the directory
//!     16   u64 keys                                     entries of the metadata
//!     24   key: string │ kind: u32 │ value              × keys
//!          name: string │ n: u32 │ dims: u64 × n │ dtype: u32 │ offset: u64   × tensors
//!          zeros up to a multiple of `general.alignment` (32 when absent)
//!          data of each tensor, at its offset from here, each aligned
//!
//! string   u64 length │ UTF-8
//! array    kind: u32 │ u64 length │ elements            (the value of kind 9)
//! ```
//!
//! A file is hostile until proven otherwise. [`File::open`] checks every count, length, offset,
//! dimension and string before it is used and allocates no more than a small multiple of the
//! file's size; what it returns can be read without further checks. Values and tensor data stay
//! in the mapping: a vocabulary of 150,000 strings costs nothing until it is iterated.
//!
//! An [`Error`] is one line that names the key or tensor, what was found, what is accepted and
//! the byte offset.

mod cursor;
mod dtype;
mod error;
mod file;
mod mapping;
mod metadata;
mod shard;
mod split;
mod tensor;
mod writer;

pub use dtype::Dtype;
pub use error::Error;
pub use file::File;
pub use metadata::{Array, Items, Kind, Metadata, Strings, Value};
pub use tensor::Tensor;
pub use writer::{Data, OwnedArray, OwnedValue, Writer};

/// Alignment of tensor data where the file names none.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The largest alignment accepted; real files use 32, a page is 4,096.
const MAX_ALIGNMENT: u64 = 1 << 20;
/// The longest key or tensor name, in bytes: the limit of the specification for keys.
const MAX_NAME_BYTES: usize = 65_535;
/// The largest number of dimensions of a tensor.
const MAX_DIMS: usize = 4;
/// The key that holds the alignment of tensor data.
const ALIGNMENT_KEY: &str = "general.alignment";
