//! Source: the bytes of one file, mapped or in memory. The only place of this crate with `unsafe`.
//!
//! A mapped file that is replaced by rename stays as it was. One that is written in place while
//! mapped shows what was written: later reads go through checked slices, so that is at worst
//! a panic or wrong numbers. One that is truncated raises SIGBUS at the first access past its new
//! end, which the program that owns the process may turn into a message.

#![allow(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use crate::error::Error;

/// A multiple of every page size in use.
#[cfg(unix)]
const PAGE: usize = 64 << 10;

pub(crate) struct Source {
    bytes: Bytes,
    path: Option<PathBuf>,
}

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Source {
    /// Maps a regular file. Anything else is refused before it is opened, since opening a FIFO
    /// would block.
    pub(crate) fn open(path: &Path) -> Result<Source, Error> {
        let io = |cause| Error::io(path, cause);
        check_regular(path, fs::metadata(path).map_err(io)?.file_type())?;
        let file = fs::File::open(path).map_err(io)?;
        let opened = file.metadata().map_err(io)?;
        check_regular(path, opened.file_type())?;
        if opened.len() == 0 {
            return Err(empty().in_file(Some(path)));
        }
        // SAFETY: the mapping is read-only and private to this value, which never hands out
        // anything but slices bound to its own lifetime. That the file is not modified while
        // mapped cannot be enforced by any program; the head of this file says what follows then.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Source { bytes: Bytes::Mapped(bytes), path: Some(path.to_path_buf()) })
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Source, Error> {
        if bytes.is_empty() {
            return Err(empty());
        }
        Ok(Source { bytes: Bytes::Owned(bytes), path: None })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }

    /// Says that a part will not be read soon. Its memory is free at once; reading maps it again.
    pub(crate) fn release(&self, offset: usize, len: usize) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            // Only whole pages inside of the part: its neighbours may be in use.
            let start = offset.next_multiple_of(PAGE);
            let end = (offset + len) / PAGE * PAGE;
            if start < end {
                // SAFETY: the mapping is shared with the file and never written, so that dropped
                // pages read the same when they come back.
                let advised = unsafe {
                    map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
                };
                // Advice that is not taken costs memory, nothing else.
                let _ = advised;
            }
        }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.bytes().len() as u64
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

fn empty() -> Error {
    Error::new("is empty (0 bytes), not a GGUF file")
}

fn check_regular(path: &Path, found: fs::FileType) -> Result<(), Error> {
    if found.is_file() {
        return Ok(());
    }
    let problem = if found.is_dir() {
        "is a directory, not a GGUF file".to_string()
    } else {
        format!("is {}, not a regular file", special(found))
    };
    Err(Error::new(problem).in_file(Some(path)))
}

#[cfg(unix)]
fn special(found: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match found {
        t if t.is_fifo() => "a FIFO",
        t if t.is_socket() => "a socket",
        t if t.is_char_device() || t.is_block_device() => "a device",
        _ => "something special",
    }
}

#[cfg(not(unix))]
fn special(_: fs::FileType) -> &'static str {
    "something special"
}
