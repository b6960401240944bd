//! Memory in large pages where the system has them: they spare the table walks of a stream through
//! gigabytes, and let the processor read ahead further.
#![allow(unsafe_code)] // maps a file into memory

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap, MmapMut};

/// Zeros to write on, which take room as they are written.
pub(crate) fn reserve(len: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(len)?;
    #[cfg(target_os = "linux")]
    let _ = memory.advise(Advice::HugePage);
    Ok(memory)
}

/// A whole file, for reading.
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
