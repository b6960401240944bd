//! The writer: a page's way into the folder, and what becomes of it where there is none.
//!
//! A write that fails is said once, and the next pages are left out for a while: a full disk stays
//! full, and nobody's answer depends on it.

use std::io;
use std::time::{Duration, Instant};

use tracing::info;

use crate::entry::Entry;
use crate::folder::Folder;

/// After a write that failed none is tried for so long.
const PAUSE: Duration = Duration::from_secs(30);

/// What became of a page.
#[derive(Debug)]
pub enum Outcome {
    /// It is in its file.
    Written,
    /// It was before.
    There,
    /// There is no room, or none was looked for.
    Skipped,
    /// It could not be written; why, if that is news.
    Failed(Option<io::Error>),
}

/// What the writer remembers.
#[derive(Debug, Default)]
pub struct Writer {
    pause: Option<Instant>,
    /// Whether the last that was said is that writing fails.
    failing: bool,
    /// Whether names of pages may be in memory only.
    unsynced: bool,
}

impl Writer {
    /// Writes a page, if it is not there.
    pub fn keep(&mut self, folder: &Folder, entry: &Entry, page: &[u8]) -> Outcome {
        if self.pause.is_some_and(|until| Instant::now() < until) {
            return Outcome::Skipped;
        }
        self.pause = None;
        if folder.holds(entry) {
            folder.touch(entry);
            return Outcome::There;
        }
        match write(folder, entry, page) {
            Ok(false) => Outcome::Skipped,
            Ok(true) => {
                if std::mem::take(&mut self.failing) {
                    info!("the disk cache: pages are kept again");
                }
                self.unsynced = true;
                Outcome::Written
            }
            Err(error) => {
                self.pause = Some(Instant::now() + PAUSE);
                let known = std::mem::replace(&mut self.failing, true);
                Outcome::Failed((!known).then_some(error))
            }
        }
    }

    /// Whether there is anything to [`Writer::sync`].
    pub fn has_names(&self) -> bool {
        self.unsynced
    }

    /// Brings names to the disk. Where that fails a crash of the system may lose some, and no more.
    pub fn sync(&mut self, folder: &Folder) {
        let _ = folder.sync();
        self.unsynced = false;
    }
}

/// False where there is no room.
fn write(folder: &Folder, entry: &Entry, page: &[u8]) -> io::Result<bool> {
    let Some(draft) = folder.draft(entry)? else { return Ok(false) };
    let written = entry.write(&draft.file, page).and_then(|()| folder.finish(&draft, entry));
    match written {
        Ok(()) => Ok(true),
        Err(error) => folder.abandon(&draft).and(Err(error)),
    }
}
