//! Recorder: keeps a capsule of each request in a folder, and no more of them than it was allowed.
//!
//! ```text
//! Generation ─ events ─► Flight ─ dropped ─► Recorder ─ a bounded channel ─► thread ─► files
//! ```
//! Nobody waits for the disk: where the thread does not keep up, capsules are left out, and the log
//! says so once. Only the owner may read what is in the folder: it holds prompts and answers.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use qwire_engine::{Event, Finish};

use super::capsule::{Capsule, Taken};

/// Capsules that wait for the disk.
const WAITING: usize = 64;
/// What the files are called: a time, a number and this.
const SUFFIX: &str = ".capsule.json";

/// How much is kept; the oldest make room.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Most files.
    pub files: usize,
    /// Most bytes.
    pub bytes: u64,
}

/// The way to the folder.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: SyncSender<Capsule>,
    late: Arc<AtomicBool>,
}

impl Recorder {
    /// Opens a folder, which is made if it is not there.
    pub fn start(folder: &Path, room: Room) -> io::Result<Self> {
        if !folder.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let mut shelf = Shelf::open(folder, room)?;
        let (sender, capsules) = sync_channel::<Capsule>(WAITING);
        std::thread::Builder::new().name("qwire-recorder".into()).spawn(move || {
            for mut capsule in capsules {
                if let Err(error) = shelf.put(&capsule.text()) {
                    tracing::warn!(%error, "a capsule could not be written");
                }
            }
        })?;
        Ok(Self { sender, late: Arc::default() })
    }

    fn keep(&self, capsule: Capsule) {
        if self.sender.try_send(capsule).is_err() && !self.late.swap(true, Ordering::Relaxed) {
            tracing::warn!("the disk is too slow for all capsules: some are left out");
        }
    }
}

/// What is heard of a generation, until it is over or nobody wants it any more.
pub struct Flight {
    recorder: Recorder,
    /// Each with its first choice.
    capsules: Vec<(usize, Capsule)>,
    choices: usize,
}

impl Flight {
    /// One of which nothing was heard.
    pub fn new(recorder: &Recorder) -> Self {
        Self { recorder: recorder.clone(), capsules: Vec::new(), choices: 0 }
    }

    /// A request is about to be queued.
    pub fn begin(&mut self, capsule: Capsule) {
        let first = self.choices;
        self.choices += capsule.choices.len();
        self.capsules.push((first, capsule));
    }

    /// Something happened to a choice.
    pub fn hear(&mut self, choice: usize, event: &Event) {
        let at = self.capsules.partition_point(|(first, _)| *first <= choice);
        let Some((first, capsule)) = at.checked_sub(1).map(|at| &mut self.capsules[at]) else {
            return;
        };
        let Some(taken) = capsule.choices.get_mut(choice - *first) else { return };
        match event {
            Event::Token(token) => {
                taken.tokens.push(token.token.0);
                if capsule.logprobs.is_some() {
                    taken.logprobs.push(token.logprob.to_bits());
                }
            }
            Event::Finished { finish, .. } => taken.finish = Some(name(*finish).into()),
            Event::Failed(fault) => taken.finish = Some(fault.to_string()),
            _ => {}
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let began = |taken: &Taken| !taken.tokens.is_empty() || taken.finish.is_some();
        for (_, capsule) in self.capsules.drain(..) {
            if capsule.choices.iter().any(began) {
                self.recorder.keep(capsule);
            }
        }
    }
}

/// An ending in a capsule.
pub fn name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Repetition => "repetition",
        Finish::Cancelled => "cancelled",
    }
}

/// The folder.
struct Shelf {
    folder: PathBuf,
    room: Room,
    /// Oldest first.
    files: VecDeque<(PathBuf, u64)>,
    bytes: u64,
    count: u64,
}

impl Shelf {
    fn open(folder: &Path, room: Room) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
                files.push((entry.path(), entry.metadata()?.len()));
            }
        }
        // Their names begin with their times.
        files.sort();
        let bytes = files.iter().map(|(_, size)| size).sum();
        Ok(Self { folder: folder.into(), room, files: files.into(), bytes, count: 0 })
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.count += 1;
        let name = format!("{:013}-{:06}{SUFFIX}", since.as_millis(), self.count % 1_000_000);
        let size = text.len() as u64;
        if size > self.room.bytes {
            return Err(io::Error::other(format!("it has {size} bytes, more than may be kept")));
        }
        while self.files.len() >= self.room.files || self.bytes + size > self.room.bytes {
            let Some((path, size)) = self.files.pop_front() else { break };
            self.bytes -= size;
            // Somebody may have taken it away.
            let _ = fs::remove_file(path);
        }
        let (draft, path) = (self.folder.join(".draft"), self.folder.join(name));
        let written = create(&draft).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            fs::rename(&draft, &path)
        });
        if written.is_err() {
            // What is half written is of no use; it may not even be there.
            let _ = fs::remove_file(&draft);
            return written;
        }
        self.files.push_back((path, size));
        self.bytes += size;
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_nobody_else_may_read() {
        let folder = std::env::temp_dir().join(format!("qwire-recorder-{}", std::process::id()));
        let mut shelf = {
            DirBuilder::new().mode(0o700).create(&folder).unwrap();
            Shelf::open(&folder, Room { files: 3, bytes: 100 }).unwrap()
        };
        for text in ["a".repeat(10), "b".repeat(20), "c".repeat(30), "d".repeat(40)] {
            shelf.put(&text).unwrap();
        }
        let held = |shelf: &Shelf| {
            let read = |(path, _): &(PathBuf, u64)| fs::read_to_string(path).unwrap();
            shelf.files.iter().map(read).map(|text| text[..1].to_owned()).collect::<String>()
        };
        assert_eq!((held(&shelf).as_str(), shelf.bytes), ("bcd", 90));
        shelf.put(&"e".repeat(60)).unwrap();
        assert_eq!((held(&shelf).as_str(), shelf.bytes), ("de", 100));
        assert!(shelf.put(&"f".repeat(101)).is_err());
        let mode = fs::metadata(&shelf.files[0].0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Shelf::open(&folder, shelf.room).unwrap();
        assert_eq!((again.files, again.bytes), (shelf.files, shelf.bytes));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(folder).unwrap();
    }
}
