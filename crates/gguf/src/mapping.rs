//! Source: the bytes of one file: mapped, in memory, or part of the program. The only place of this
//! crate with `unsafe`.
//!
//! A mapped file that is replaced by rename stays as it was. One that is written in place while
//! mapped shows what was written: later reads go through checked slices, so that is at worst
//! a panic or wrong numbers. One that is truncated raises SIGBUS at the first access past its new
//! end, which the program that owns the process may turn into a message.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::{Advice, UncheckedAdvice};

use crate::error::Error;

/// A multiple of every page size in use.
#[cfg(unix)]
const PAGE: usize = 64 << 10;
/// The largest page of a system's cache of files.
#[cfg(unix)]
const LARGE_PAGE: usize = 2 << 20;

pub(crate) struct Source {
    bytes: Bytes,
    path: Option<PathBuf>,
}

enum Bytes {
    Mapped(Mmap, fs::File),
    Held(Cow<'static, [u8]>),
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
        Ok(Source { bytes: Bytes::Mapped(bytes, file), path: Some(path.to_path_buf()) })
    }

    pub(crate) fn from_bytes(bytes: Cow<'static, [u8]>) -> Result<Source, Error> {
        if bytes.is_empty() {
            return Err(empty());
        }
        Ok(Source { bytes: Bytes::Held(bytes), path: None })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map, _) => map,
            Bytes::Held(bytes) => bytes,
        }
    }

    /// Says that a small part will be read soon. Many at once come off a disk together.
    pub(crate) fn prefetch(&self, part: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map, _) = &self.bytes {
            // Advice that is not taken costs time, nothing else.
            let _ = map.advise_range(Advice::WillNeed, part.start, part.len());
        }
    }

    /// Says that all of a part will be read, in order. Two megabytes at a time come off a disk much
    /// sooner than page after page: where the file's system has large pages, asking for them is
    /// better than any read-ahead.
    pub(crate) fn stream(&self, part: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Bytes::Mapped(map, _) = &self.bytes {
            let start = part.start / PAGE * PAGE;
            // As above.
            let _ = map.advise_range(Advice::HugePage, start, part.end - start);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = part;
    }

    /// Says that a part will not be read soon. Its memory is free at once, and so is that of the
    /// system's cache where no other process maps it: a model that was copied out of its file
    /// would otherwise be in memory twice. Reading gets it again.
    pub(crate) fn release(&self, part: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map, file) = &self.bytes {
            // What lies before was read earlier and is not worth keeping for its own sake: a large
            // page that both share would never be free. What lies behind may be on its way.
            let start = part.start / LARGE_PAGE * LARGE_PAGE;
            let end = part.end / PAGE * PAGE;
            if start < end {
                // SAFETY: the mapping is shared with the file and never written, so that dropped
                // pages read the same when they come back.
                let advised = unsafe {
                    map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
                };
                // Advice that is not taken costs memory, nothing else.
                let _ = advised;
                forget(file, start..end);
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

/// Lets go of the system's cache of a part of a file.
#[cfg(target_os = "linux")]
fn forget(file: &fs::File, part: Range<usize>) {
    use rustix::fs::{Advice, fadvise};
    let len = std::num::NonZeroU64::new(part.len() as u64);
    // As above.
    let _ = fadvise(file, part.start as u64, len, Advice::DontNeed);
}

#[cfg(all(unix, not(target_os = "linux")))]
fn forget(_: &fs::File, _: Range<usize>) {}

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
