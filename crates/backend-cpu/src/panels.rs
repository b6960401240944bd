//! Panels: the memory they lie in, packed at load or mapped from a sidecar. Who reads them does
//! not know which.
#![allow(unsafe_code)] // maps a file into memory

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::{Advice, Mmap, MmapMut};

/// The panels of one matrix, or of one per expert: [count, rows / 16, panel].
pub(crate) enum Panels {
    /// Memory of our own.
    Packed(MmapMut),
    /// A part of a file.
    Mapped(Arc<Mmap>, Range<usize>),
}

impl Panels {
    /// Memory to pack into, in large pages where the system has them: they spare the table walks
    /// of a stream through gigabytes.
    pub(crate) fn reserve(len: usize) -> io::Result<MmapMut> {
        let memory = MmapMut::map_anon(len)?;
        #[cfg(target_os = "linux")]
        let _ = memory.advise(Advice::HugePage);
        Ok(memory)
    }
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

/// Maps a whole file for reading, in large pages where its system can.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is read-only and handed out as slices bound to its lifetime. Sidecars
    // are replaced by rename, never written in place by us; one that another program changes under
    // us gives wrong numbers, one that it truncates raises SIGBUS, which the program that owns the
    // process may turn into a message.
    let map = unsafe { Mmap::map(file) }?;
    #[cfg(target_os = "linux")]
    let _ = map.advise(Advice::HugePage);
    Ok(map)
}
