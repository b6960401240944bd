//! Pages of prefixes on disk: found again by later runs, and by other processes.
//!
//! ```text
//! Disk      the engine's store: a thread that writes, one that reads, bounded memory between
//!  ├ Folder   what lies where: room, eviction, drafts; shared by processes under one lock
//!  ├ Entry    the bytes of one page's file, and its name
//!  └ digest   the full hash of a model's files, computed once and remembered
//! ```
//! A page that cannot be written or read is a page that is computed again: nothing here fails a
//! request, and nothing here keeps the engine waiting.

mod digest;
mod disk;
mod entry;
mod folder;
mod writer;

pub use digest::Digest;
pub use disk::{Disk, Terms};
pub use entry::{Entry, HEAD_BYTES, Identity, Unfit, hex};
pub use folder::{Folder, room_bytes};
