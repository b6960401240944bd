//! Journal: remembered turns on disk, so that they outlive the process as cached pages do.
//!
//! ```text
//! FOLDER/NAME.turns   a file of each process, of 0600 in a folder of 0700
//!   record            length u32 │ checksum 8 │ body
//!   first body        MAGIC, and the model that sampled
//!   other bodies      key 32 │ length of the opener u16 │ opener │ tokens u32 ..
//! ```
//! Records are only appended, and a process writes to its own file alone. A file is believed up to
//! its first record that does not fit its checksum, so a process that was killed loses what it was
//! writing and nothing else. The oldest files go when all of them are more than [`LIMIT_BYTES`];
//! what of them was used meanwhile stands in a later one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::{Key, Turn};

/// Bytes of all files together.
pub const LIMIT_BYTES: u64 = 64 << 20;
/// Bytes of one file; a process that has filled one begins another.
const FILE_BYTES: u64 = LIMIT_BYTES / 4;
const MAGIC: &[u8] = b"qwire turns 1\n";
const SUFFIX: &str = "turns";
const KEY: usize = 32;
const SUM: usize = 8;

/// Writes turns down, on a thread of its own.
pub struct Journal {
    sender: Option<Sender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// What was written about a model before, the oldest first, and a journal that goes on.
    pub fn open(folder: &Path, model: &str) -> io::Result<(Self, Vec<(Key, Turn)>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut turns = Vec::new();
        for (path, ..) in files(folder)? {
            // A file that cannot be read is none.
            let _ = read(&path, model, &mut turns);
        }
        let (sender, records) = mpsc::channel();
        let pen = Pen { folder: folder.into(), model: model.into(), file: None };
        let thread = std::thread::Builder::new().name("qwire-turns".into());
        let thread = thread.spawn(move || pen.write(&records))?;
        Ok((Self { sender: Some(sender), thread: Some(thread) }, turns))
    }

    /// Writes a turn down within a moment.
    pub fn note(&self, key: &Key, turn: &Turn) {
        let mut body = Vec::with_capacity(KEY + 2 + turn.opener.len() + 4 * turn.tokens.len());
        body.extend_from_slice(key);
        body.extend_from_slice(&(turn.opener.len() as u16).to_le_bytes());
        body.extend_from_slice(turn.opener.as_bytes());
        turn.tokens.iter().for_each(|token| body.extend_from_slice(&token.to_le_bytes()));
        if let Some(sender) = &self.sender {
            // A thread that has given up has said so.
            let _ = sender.send(record(&body));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.sender.take();
        if let Some(thread) = self.thread.take() {
            // What it could not write it has told.
            let _ = thread.join();
        }
    }
}

fn record(body: &[u8]) -> Vec<u8> {
    let mut record = (body.len() as u32).to_le_bytes().to_vec();
    record.extend_from_slice(&Sha256::digest(body)[..SUM]);
    record.extend_from_slice(body);
    record
}

/// The body at the start of these bytes, if it is whole, and what follows.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<SUM>()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    (Sha256::digest(body)[..SUM] == *sum).then_some((body, rest))
}

/// Adds the turns of a file that is about this model.
fn read(path: &Path, model: &str, turns: &mut Vec<(Key, Turn)>) -> io::Result<()> {
    let mut bytes = Vec::new();
    File::open(path)?.take(2 * FILE_BYTES).read_to_end(&mut bytes)?;
    let Some((head, mut rest)) = first(&bytes) else { return Ok(()) };
    if head.strip_prefix(MAGIC) != Some(model.as_bytes()) {
        return Ok(());
    }
    while let Some((body, more)) = first(rest) {
        turns.extend(turn(body));
        rest = more;
    }
    Ok(())
}

fn turn(body: &[u8]) -> Option<(Key, Turn)> {
    let (key, rest) = body.split_first_chunk::<KEY>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (opener, tokens) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
    let (tokens, odd) = tokens.as_chunks::<4>();
    let opener = str::from_utf8(opener).ok().filter(|_| odd.is_empty())?.into();
    let tokens = tokens.iter().map(|token| u32::from_le_bytes(*token)).collect();
    Some((*key, Turn { opener, tokens }))
}

/// Every file of turns, the oldest first: its path, its time and its length.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, SystemTime, u64)>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let (path, meta) = (entry.path(), entry.metadata().ok()?);
        let ours = meta.is_file() && path.extension().is_some_and(|suffix| suffix == SUFFIX);
        ours.then(|| (path, meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len()))
    };
    let mut files: Vec<_> = fs::read_dir(folder)?.filter_map(entry).collect();
    files.sort_unstable_by_key(|(path, time, _)| (*time, path.clone()));
    Ok(files)
}

/// The writing side.
struct Pen {
    folder: PathBuf,
    model: String,
    /// The file that is written, and how long it is.
    file: Option<(File, u64)>,
}

impl Pen {
    fn write(mut self, records: &Receiver<Vec<u8>>) {
        while let Ok(first) = records.recv() {
            // What came meanwhile goes to the disk with it.
            let batch = std::iter::once(first).chain(records.try_iter());
            let written = batch.collect::<Vec<_>>().iter().try_for_each(|record| self.add(record));
            let synced = written.and_then(|()| match &self.file {
                Some((file, _)) => file.sync_data(),
                None => Ok(()),
            });
            if let Err(error) = synced {
                let folder = self.folder.display();
                tracing::warn!(%folder, %error, "turns are no longer written down");
                return;
            }
        }
    }

    fn add(&mut self, record: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|(_, len)| len + record.len() as u64 > FILE_BYTES) {
            self.file = Some(self.begin()?);
            self.make_room()?;
        }
        let Some((file, len)) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write_all(record) {
            // Half a record would hide those behind it.
            file.set_len(*len)?;
            return Err(error);
        }
        *len += record.len() as u64;
        Ok(())
    }

    /// A file that nobody else writes, with its first record.
    fn begin(&self) -> io::Result<(File, u64)> {
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|error| io::Error::other(error.to_string()))?;
        let name = format!("{:016x}.{SUFFIX}", u64::from_le_bytes(name));
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let mut file = options.open(self.folder.join(name))?;
        file.lock()?;
        let head = record(&[MAGIC, self.model.as_bytes()].concat());
        file.write_all(&head)?;
        Ok((file, head.len() as u64))
    }

    /// Removes the oldest files that nobody writes, until another one has room.
    fn make_room(&self) -> io::Result<()> {
        let files = files(&self.folder)?;
        let mut total: u64 = files.iter().map(|(.., len)| len).sum();
        for (path, _, len) in files {
            if total + FILE_BYTES <= LIMIT_BYTES {
                break;
            }
            let Ok(file) = File::open(&path) else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            fs::remove_file(path)?;
            total -= len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("qwire-turns-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder); // of a run that was killed
        folder
    }

    fn sample(n: u8) -> (Key, Turn) {
        (
            [n; KEY],
            Turn { opener: "<|im_start|>assistant\n".into(), tokens: [n.into(); 300].into() },
        )
    }

    fn read_all(folder: &Path, model: &str) -> Vec<(Key, Turn)> {
        Journal::open(folder, model).unwrap().1
    }

    #[test]
    fn what_is_written_is_read_and_nothing_torn_is() {
        let folder = folder("torn");
        let (journal, found) = Journal::open(&folder, "a").unwrap();
        assert!(found.is_empty());
        let turns: Vec<_> = (1..=3).map(sample).collect();
        turns.iter().for_each(|(key, turn)| journal.note(key, turn));
        drop(journal);
        assert_eq!(read_all(&folder, "a"), turns);
        assert_eq!(read_all(&folder, "b"), []);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (path, ..) = files(&folder).unwrap().remove(0);
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let found = read_all(&folder, "a");
            assert!(found.len() < 3 && turns.starts_with(&found), "{len} bytes");
        }
        let mut bits = 0..whole.len() * 8;
        while let Some(bit) = bits.nth(28) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            let found = read_all(&folder, "a");
            assert!(found.len() < 3 && turns.starts_with(&found), "bit {bit}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_oldest_files_make_room_and_no_living_one() {
        let folder = folder("room");
        let (journal, _) = Journal::open(&folder, "a").unwrap();
        let big = |n| Turn { tokens: vec![n; 1 << 20].into(), ..sample(0).1 };
        for n in 0..24 {
            journal.note(&[n as u8; KEY], &big(n));
        }
        drop(journal);
        let total = |folder: &Path| files(folder).unwrap().iter().map(|file| file.2).sum::<u64>();
        assert!(total(&folder) <= LIMIT_BYTES, "{}", total(&folder));
        let found = read_all(&folder, "a");
        assert_eq!(found.last().map(|(key, _)| key[0]), Some(23));
        assert!(found.len() >= 9, "{}", found.len());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn two_processes_write_side_by_side() {
        let folder = folder("two");
        let (one, other) = (Journal::open(&folder, "a").unwrap().0, Journal::open(&folder, "a"));
        let other = other.unwrap().0;
        for n in 0..20 {
            let (key, turn) = sample(n);
            if n % 2 == 0 { one.note(&key, &turn) } else { other.note(&key, &turn) }
        }
        drop((one, other));
        let mut found: Vec<u8> = read_all(&folder, "a").iter().map(|(key, _)| key[0]).collect();
        found.sort_unstable();
        assert_eq!(found, (0..20).collect::<Vec<_>>());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_is_told() {
        let file = std::env::temp_dir().join(format!("qwire-turns-file-{}", std::process::id()));
        fs::write(&file, "x").unwrap();
        assert!(Journal::open(&file, "a").is_err());
        fs::remove_file(file).unwrap();
    }
}
