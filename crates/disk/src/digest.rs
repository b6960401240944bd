//! The digest of a model: a SHA-256 of all bytes of its files.
//!
//! ```text
//! models/ID     ID: SHA-256 of path, device, inode, size and time of change of each file
//!   digest │ SHA-256 of ID and digest
//! ```
//! Reading a model of many gigabytes must not cost its first users anything: whoever asks for it
//! hears after each piece how long that took, and may let the work wait. What was read leaves the
//! system's cache at once, as the files themselves are not read while a model runs.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::entry::hex;

const PIECE_BYTES: usize = 4 << 20;

/// The digest of some files, to be found or made.
#[derive(Clone, Debug)]
pub struct Digest {
    paths: Vec<PathBuf>,
    id: [u8; 32],
    record: PathBuf,
}

impl Digest {
    /// Of these files, remembered in a cache folder.
    pub fn of(folder: &Path, paths: Vec<PathBuf>) -> io::Result<Self> {
        let mut id = Sha256::new();
        for path in &paths {
            let path = fs::canonicalize(path)?;
            let found = fs::metadata(&path)?;
            let path = path.as_os_str().as_encoded_bytes();
            let change = [found.mtime() as u64, found.mtime_nsec() as u64];
            let facts = [path.len() as u64, found.dev(), found.ino(), found.size()];
            id.update(facts.map(u64::to_le_bytes).as_flattened());
            id.update(change.map(u64::to_le_bytes).as_flattened());
            id.update(path);
        }
        let id: [u8; 32] = id.finalize().into();
        let record = folder.join("models").join(hex(&id));
        Ok(Self { paths, id, record })
    }

    /// What was found out before.
    pub fn known(&self) -> Option<[u8; 32]> {
        let record = fs::read(&self.record).ok()?;
        let (digest, sum) = record.split_first_chunk()?;
        (self.sum(digest)[..] == *sum).then_some(*digest)
    }

    fn sum(&self, digest: &[u8; 32]) -> [u8; 32] {
        Sha256::new_with_prefix(self.id).chain_update(digest).finalize().into()
    }

    /// Reads the files; none if `goes_on`, which hears how long each piece took, says no.
    pub fn make(&self, goes_on: &dyn Fn(Duration) -> bool) -> io::Result<Option<[u8; 32]>> {
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        for path in &self.paths {
            let mut file = File::open(path)?;
            let mut at = 0;
            loop {
                let start = Instant::now();
                let len = file.read(&mut piece)?;
                if len == 0 {
                    break;
                }
                hash.update(&piece[..len]);
                release(&file, at, len as u64);
                at += len as u64;
                if !goes_on(start.elapsed()) {
                    return Ok(None);
                }
            }
            hash.update(at.to_le_bytes());
        }
        let digest = hash.finalize().into();
        self.remember(&digest)?;
        Ok(Some(digest))
    }

    /// In one step: others may read it meanwhile.
    fn remember(&self, digest: &[u8; 32]) -> io::Result<()> {
        let draft = self.record.with_extension(format!("part{}", std::process::id()));
        if let Some(folder) = self.record.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let written = file.write_all(&[*digest, self.sum(digest)].concat());
        let named =
            written.and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, &self.record));
        if named.is_err() {
            // There is nobody to tell, and the folder's next user finds nothing in it.
            let _ = fs::remove_file(&draft);
        }
        named
    }
}

/// Takes a part of a file out of the system's cache. Advice that is not taken costs memory that is
/// free again when it is needed.
#[cfg(target_os = "linux")]
fn release(file: &File, at: u64, len: u64) {
    let _ = rustix::fs::fadvise(file, at, NonZero::new(len), rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn release(_: &File, _: u64, _: u64) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_made_once_for_each_content_of_the_files() {
        let folder = std::env::temp_dir().join(format!("qwire-digest-{}", std::process::id()));
        let cache = folder.join("cache");
        fs::create_dir_all(&folder).unwrap();
        let paths = ["a", "b"].map(|name| folder.join(name)).to_vec();
        let write = |a: &[u8], b: &[u8]| {
            fs::write(&paths[0], a).unwrap();
            fs::write(&paths[1], b).unwrap();
            // Files that are as long and were changed in the same tick would not be told apart.
            let tick = std::time::SystemTime::now() + Duration::from_secs(a.len() as u64);
            File::open(&paths[0]).unwrap().set_modified(tick).unwrap();
        };
        let digest = || Digest::of(&cache, paths.clone()).expect("they are there");
        let made = |digest: &Digest| digest.make(&|_| true).expect("they can be read");
        write(b"one", b"two");
        let first = digest();
        assert_eq!(
            (first.known(), first.make(&|_| false).unwrap(), first.known()),
            (None, None, None)
        );
        let one = made(&first).expect("to its end");
        assert_eq!(digest().known(), Some(one));
        write(b"onet", b"wo");
        assert_eq!(digest().known(), None);
        let other = made(&digest()).expect("to its end");
        assert_ne!(other, one, "what belongs to which file counts");
        write(b"one", b"two");
        assert_eq!(made(&digest()), Some(one));
        let record = digest().record;
        for at in 0..64 {
            let mut bytes = fs::read(&record).unwrap();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&record, &bytes).unwrap();
            assert_eq!(digest().known(), None, "byte {at}");
            bytes[at] ^= 1 << (at % 8);
            fs::write(&record, &bytes).unwrap();
        }
        assert_eq!(digest().known(), Some(one));
        fs::write(&record, [0; 10]).unwrap();
        assert_eq!(digest().known(), None);
        assert!(Digest::of(&cache, vec![folder.join("none")]).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
