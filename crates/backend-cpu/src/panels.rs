//! Panels: packed at load or mapped from a sidecar. Who reads them does not know which.

use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

/// The panels of one matrix, or of one per expert: [count, rows / 16, panel].
pub(crate) enum Panels {
    /// Memory of our own.
    Packed(MmapMut),
    /// A part of a file.
    Mapped(Arc<Mmap>, Range<usize>),
}

impl Deref for Panels {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Packed(memory) => memory,
            Self::Mapped(map, part) => &map[part.clone()],
        }
    }
}
