//! Draft: a file under way, which gets its name once it is complete and on the disk, and leaves
//! nothing behind if it never is.
//!
//! ```text
//! NAME.part, NAME.part2 ..   locked by who writes it: several may, each its own
//! NAME                       the last one that was finished
//! ```
//! The draft of a process that was killed is one that nobody locks; the next one takes it over, or
//! it is swept away.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::quantity::bytes;

/// Drafts of the same file at one time.
const WRITERS: usize = 8;

/// A file being written.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    part: Option<PathBuf>, // none where `path` is no regular file, such as /dev/null
    file: File,
}

impl Draft {
    /// Opens a draft beside `path`. What is no regular file is written in place.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |target: &Path, why: &dyn std::fmt::Display| {
            Failure::new(format!("{}: cannot create it: {why}", target.display()))
        };
        let draft = |part, file| Self { path: path.to_path_buf(), part, file };
        if is_special(path) {
            let file = File::create(path).map_err(|error| failed(path, &error))?;
            return Ok(draft(None, file));
        }
        for part in parts(path) {
            if let Some(file) = claim(&part).map_err(|error| failed(&part, &error))? {
                return Ok(draft(Some(part), file));
            }
        }
        Err(failed(path, &format!("{WRITERS} others are writing it")))
    }

    /// Removes what killed processes left of a file.
    pub fn sweep(path: &Path) {
        for part in parts(path).filter(|_| !is_special(path)) {
            let file = File::options().write(true).open(&part);
            if file.is_ok_and(|file| file.try_lock().is_ok() && is_named(&file, &part)) {
                // What cannot be removed stays, as it has until now.
                let _ = fs::remove_file(&part);
            }
        }
    }

    /// The file, for those who write at places of their choice.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, as soon as it is on the disk.
    pub fn finish(mut self) -> Result<(), Failure> {
        let Some(part) = &self.part else { return Ok(()) };
        let named = self.file.sync_all().and_then(|()| fs::rename(part, &self.path));
        named.map_err(|error| self.failed(&error))?;
        self.part = None;
        // Where a folder cannot be synced the name may be lost in a crash, and nothing else.
        let _ = File::open(folder(&self.path)).and_then(|folder| folder.sync_all());
        Ok(())
    }

    /// A failed write, in the file's name.
    pub fn failed(&self, error: &io::Error) -> Failure {
        Failure::new(format!("{}: cannot write it: {error}", self.path.display()))
    }
}

/// Refuses a name that is taken, unless `force`, and a disk too small for `len` bytes. What is
/// replaced stays until the end; a device takes what it takes.
pub fn check_room(path: &Path, len: u64, force: bool) -> Result<(), Failure> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Ok(());
    }
    if path.exists() && !force {
        let fault = format!("{}: exists already", path.display());
        return Err(Failure::new(fault).hint("--force writes over it"));
    }
    let free = free_bytes(path)?;
    if len > free {
        let (len, free) = (bytes(len), bytes(free));
        let fault = format!("{}: takes {len}, but {free} are free on its disk", path.display());
        return Err(Failure::new(fault).hint("fewer layers or smaller formats take less"));
    }
    Ok(())
}

/// Bytes that are free for a file of this name.
pub fn free_bytes(path: &Path) -> Result<u64, Failure> {
    let folder = folder(path);
    let disk = rustix::fs::statvfs(folder).map_err(|error| {
        let why = match error {
            rustix::io::Errno::NOENT => "no such folder".to_string(),
            other => other.to_string(),
        };
        Failure::new(format!("{}: {why}", folder.display()))
    })?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The folder of a file.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn is_special(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_file())
}

fn parts(path: &Path) -> impl Iterator<Item = PathBuf> {
    (1..=WRITERS).map(move |no| {
        let mut name = OsString::from(path);
        name.push(".part");
        if no > 1 {
            name.push(no.to_string());
        }
        PathBuf::from(name)
    })
}

/// Makes a draft one's own; none where somebody else has it.
fn claim(part: &Path) -> io::Result<Option<File>> {
    let (file, ours) = match File::options().write(true).create_new(true).open(part) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let Ok(file) = File::options().write(true).open(part) else { return Ok(None) };
            (file, false)
        }
        Err(error) => return Err(error),
    };
    let free = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        // No locks on this disk: only what is new is surely nobody's.
        Err(TryLockError::Error(_)) => ours,
    };
    // Before it was locked its name may have gone: finished by its writer, or swept away.
    if !free || !is_named(&file, part) {
        return Ok(None);
    }
    file.set_len(0)?;
    Ok(Some(file))
}

/// Whether an open file still has this name.
fn is_named(file: &File, path: &Path) -> bool {
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    let (open, named) = (file.metadata().map(id), fs::symlink_metadata(path).map(id));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // It may be gone already, and there is nobody to tell.
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writer_has_its_own_draft_and_debris_is_taken_over() {
        let folder = std::env::temp_dir().join(format!("qwire-draft-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a");
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap()).collect();
            names.sort_by_key(fs::DirEntry::file_name);
            names.iter().map(|e| e.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        fs::write(folder.join("a.part"), "left by a killed writer").unwrap();
        let mut first = Draft::create(&path).unwrap();
        let mut second = Draft::create(&path).unwrap();
        assert_eq!(names(), ["a.part", "a.part2"]);
        Draft::sweep(&path);
        assert_eq!(names(), ["a.part", "a.part2"], "they are being written");
        first.write_all(b"first").unwrap();
        second.write_all(b"second").unwrap();
        second.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        first.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first", "nothing of the debris");
        fs::write(folder.join("a.part3"), "left").unwrap();
        drop(Draft::create(&path).unwrap());
        Draft::sweep(&path);
        assert_eq!(names(), ["a"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
