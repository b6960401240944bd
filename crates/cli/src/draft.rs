//! Draft: a file under way, which gets its name once it is complete and leaves nothing behind if
//! it never is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file being written.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    part: Option<PathBuf>, // none where `path` is no regular file, such as /dev/null
    file: File,
}

impl Draft {
    /// Opens `NAME.part` beside `path`. What is no regular file is written in place.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let special = fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
        let part = (!special).then(|| {
            let mut name = OsString::from(path);
            name.push(".part");
            PathBuf::from(name)
        });
        let target = part.as_deref().unwrap_or(path);
        let file = File::create(target).map_err(|error| {
            Failure::new(format!("{}: cannot create it: {error}", target.display()))
        })?;
        Ok(Self { path: path.to_path_buf(), part, file })
    }

    /// Gives the file its name.
    pub fn finish(mut self) -> Result<(), Failure> {
        let Some(part) = &self.part else { return Ok(()) };
        fs::rename(part, &self.path).map_err(|error| self.failed(&error))?;
        self.part = None;
        Ok(())
    }

    /// A failed write, in the file's name.
    pub fn failed(&self, error: &io::Error) -> Failure {
        Failure::new(format!("{}: cannot write it: {error}", self.path.display()))
    }
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
