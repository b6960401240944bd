//! Sidecar: a model's panels in a file of their own, to be mapped instead of packed.
//!
//! ```text
//! byte 0   "QWIREPAN"
//!      8   u32 layout version │ u32 numbers version       little endian, as every number here
//!     16   identity of the model, 32 bytes                see [`qwire_gguf::File::identify`]
//!     48   u64 bytes of this file │ u64 matrices
//!     64   u64 length │ name │ u64 format │ u64 count │ u64 rows │ u64 k │ u64 offset   × matrices
//!          SHA-256 of each piece                          at most 64 MB of one matrix's panels
//!          SHA-256 of everything before
//!          zeros up to a page
//! offset   panels of a matrix                             each on a page of its own
//! ```
//! A [`Plan`] is what this program would write for a model. Everything before the checksums follows
//! from it, so that a file is judged by comparing bytes, and nothing in it is believed. The head is
//! written last. Where the file lies, and when there is one, is for others to decide.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use memmap2::{Advice, Mmap};
use qwire_kernels::quant::LAYOUT_VERSION;
use qwire_kernels::{Isa, NUMBERS_VERSION};
use qwire_model::{LoadError, Model};
use sha2::{Digest, Sha256};

use crate::matrix::Matrix;
use crate::memory;
use crate::panels::Panels;
use crate::pool::Pool;
use crate::{Cpu, Source};

const MAGIC: &[u8; 8] = b"QWIREPAN";
const SUM_BYTES: usize = 32;
const PAGE: u64 = 4096;
/// Buffers between those who pack and the one who writes.
const BUFFERS: usize = 2;

/// Brought into memory in one go.
const FETCH_BYTES: usize = 16 << 20;

/// Hears bytes done and bytes in all; false ends the work.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Why a file cannot stand in for a model's panels.
#[derive(Debug)]
pub enum Unfit {
    /// There is none.
    Absent,
    /// It cannot be read.
    Unreadable(io::Error),
    /// It holds something else, or not all of it: the words say what.
    Stale(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no such file"),
            Self::Unreadable(error) => write!(f, "cannot read it: {error}"),
            Self::Stale(why) => f.write_str(why),
        }
    }
}

/// The panels of a model, one matrix after the other, and where each goes.
pub struct Plan {
    matrices: Vec<Matrix>,
    offsets: Vec<u64>,
    /// Everything before the checksums.
    head: Vec<u8>,
    len_bytes: u64,
}

impl Plan {
    /// Lists the matrices of a model. Reads its identity, and nothing else of its weights.
    pub fn of(file: &Arc<qwire_gguf::File>) -> Result<Self, LoadError> {
        let mut cpu = Cpu::new(1, Isa::SCALAR)?;
        cpu.source = Source::Listed(Vec::new());
        Model::load(file, &mut cpu, &mut |_, _| {})?;
        let Source::Listed(matrices) = cpu.source else { unreachable!("set above") };

        let named: usize = matrices.iter().map(|matrix| 48 + matrix.weights.name().len()).sum();
        let pieces: usize = matrices.iter().map(|matrix| matrix.pieces().count()).sum();
        let mut end = (64 + named + (pieces + 1) * SUM_BYTES) as u64;
        let mut offsets = Vec::new();
        for matrix in &matrices {
            offsets.push(end.next_multiple_of(PAGE));
            end = end.next_multiple_of(PAGE) + matrix.len_bytes() as u64;
        }
        let mut head = MAGIC.to_vec();
        head.extend(LAYOUT_VERSION.to_le_bytes());
        head.extend(NUMBERS_VERSION.to_le_bytes());
        let mut identity = Sha256::new();
        file.identify(|bytes| identity.update(bytes));
        head.extend(identity.finalize());
        head.extend([end, matrices.len() as u64].map(u64::to_le_bytes).as_flattened());
        for (matrix, offset) in matrices.iter().zip(&offsets) {
            let (weights, name) = (&matrix.weights, matrix.weights.name());
            head.extend((name.len() as u64).to_le_bytes());
            head.extend(name.as_bytes());
            let format = u64::from(matrix.format.id);
            let sizes = [weights.count, weights.rows, weights.k].map(|size| size as u64);
            let numbers = [format, sizes[0], sizes[1], sizes[2], *offset];
            head.extend(numbers.map(u64::to_le_bytes).as_flattened());
        }
        Ok(Self { matrices, offsets, head, len_bytes: end })
    }

    /// The size of the file.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Where each piece lies in the file, and whose it is.
    fn pieces(&self) -> impl Iterator<Item = (&Matrix, u64, Range<usize>)> {
        let matrices = self.matrices.iter().zip(&self.offsets);
        matrices.flat_map(|(matrix, offset)| {
            matrix.pieces().map(move |piece| (matrix, offset + piece.start as u64, piece))
        })
    }

    /// Packs everything into an empty file; the head comes last. Threads pack a piece while the
    /// last one is hashed and written. An end that `progress` asked for is an error too.
    pub fn write(&self, out: &File, pool: &Pool, progress: Progress<'_>) -> io::Result<()> {
        let sums = thread::scope(|scope| {
            let (full, pieces) = sync_channel::<(u64, Vec<u8>)>(BUFFERS);
            let (empty, buffers) = sync_channel(BUFFERS);
            for _ in 0..BUFFERS {
                empty.send(Vec::new()).expect("there is room for all");
            }
            let writer = scope.spawn(move || {
                let mut sums = Vec::new();
                for (offset, piece) in pieces {
                    sums.extend(Sha256::digest(&piece));
                    out.write_all_at(&piece, offset)?;
                    // Nobody waits for the last buffers.
                    let _ = empty.send(piece);
                }
                Ok(sums)
            });
            let mut ended = false;
            for (matrix, offset, piece) in self.pieces() {
                ended = !progress(offset, self.len_bytes);
                // A writer that failed is gone.
                let Some(mut buffer) = buffers.recv().ok().filter(|_| !ended) else { break };
                buffer.resize(piece.len(), 0);
                matrix.pack_piece(pool, piece, &mut buffer);
                if full.send((offset, buffer)).is_err() {
                    break;
                }
            }
            drop(full);
            let sums = writer.join().expect("the writer does not panic");
            if ended { Err(io::Error::other("ended")) } else { sums }
        })?;
        let mut head = [&self.head[..], &sums[..]].concat();
        head.extend(Sha256::digest(&head));
        out.write_all_at(&head, 0)
    }

    /// Maps a file if it is what this plan would have written, as far as its head and its length
    /// tell.
    pub fn open(self: &Arc<Self>, path: &Path) -> Result<Sidecar, Unfit> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Unfit::Absent,
            _ => Unfit::Unreadable(error),
        };
        let stale = |why: &str| Err(Unfit::Stale(why.into()));
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return stale("it is no regular file");
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let pieces = self.pieces().count();
        let mut head = Vec::new();
        let len = self.head.len() + (pieces + 1) * SUM_BYTES;
        file.by_ref().take(len as u64).read_to_end(&mut head).map_err(unreadable)?;
        if !head.starts_with(MAGIC) {
            return stale("it is not a sidecar");
        }
        for (at, what, ours) in [(8, "layout", LAYOUT_VERSION), (12, "numbers", NUMBERS_VERSION)] {
            let found = head.get(at..at + 4).map(|v| u32::from_le_bytes([v[0], v[1], v[2], v[3]]));
            if let Some(found) = found.filter(|found| *found != ours) {
                return stale(&format!("it has {what} version {found}, this qwire has {ours}"));
            }
        }
        if head.get(16..48).is_some_and(|identity| *identity != self.head[16..48]) {
            return stale("it belongs to another model");
        }
        let found = file.metadata().map_err(unreadable)?.len();
        if head.len() < len || found != self.len_bytes {
            let len = self.len_bytes;
            return stale(&format!("it has {found} bytes instead of {len}"));
        }
        let (said, sum) = head.split_at(len - SUM_BYTES);
        if Sha256::digest(said)[..] != *sum || !said.starts_with(&self.head) {
            return stale("its head is damaged");
        }
        let sums = said[self.head.len()..].as_chunks::<SUM_BYTES>().0.to_vec();
        let map = Arc::new(memory::map(&file).map_err(unreadable)?);
        Ok(Sidecar { plan: self.clone(), map, sums, requests: false })
    }
}

/// A file that fits its plan, mapped. A copy is the same mapping.
#[derive(Clone)]
pub struct Sidecar {
    plan: Arc<Plan>,
    map: Arc<Mmap>,
    sums: Vec<[u8; SUM_BYTES]>,
    requests: bool, // whatever panels are taken
}

impl Sidecar {
    /// For whoever needs some of it alone: begins to bring what is taken into memory.
    #[must_use]
    pub fn in_parts(&self) -> Self {
        Self { requests: true, ..self.clone() }
    }

    /// Begins to bring all of it into memory, in order, while others work already. What they need
    /// sooner they fetch themselves.
    pub fn fetch(&self) {
        let map = Arc::downgrade(&self.map);
        let fetch = move || {
            for start in (0..).step_by(FETCH_BYTES) {
                // The last user may be gone, or the end be reached.
                let Some(map) = map.upgrade().filter(|map| start < map.len()) else { return };
                let len = FETCH_BYTES.min(map.len() - start);
                #[cfg(target_os = "linux")]
                let fetched = map.advise_range(Advice::PopulateRead, start, len);
                #[cfg(not(target_os = "linux"))]
                let fetched = map.advise_range(Advice::WillNeed, start, len);
                if fetched.is_err() {
                    return;
                }
            }
        };
        // Without it the first tokens take longer, nothing else.
        let _ = thread::Builder::new().name("qwire-fetch".into()).spawn(fetch);
    }

    /// The panels of a matrix.
    pub(crate) fn panels(&self, matrix: &Matrix) -> Result<Panels, LoadError> {
        let Plan { matrices, offsets, .. } = &*self.plan;
        let name = matrix.weights.name();
        let same = |ours: &Matrix| {
            ours.weights.name() == name
                && (ours.format.id, ours.len_bytes()) == (matrix.format.id, matrix.len_bytes())
        };
        let found = matrices.iter().position(same);
        let at = found.ok_or_else(|| LoadError(format!("tensor `{name}` is in no sidecar")))?;
        let start = offsets[at] as usize;
        // Advice that is not taken costs time, nothing else.
        #[cfg(unix)]
        if self.requests {
            let _ = self.map.advise_range(Advice::WillNeed, start, matrix.len_bytes());
        }
        Ok(Panels::Mapped(self.map.clone(), start..start + matrix.len_bytes()))
    }

    /// Reads all of it: the tensors whose panels are not what was written. None where `progress`
    /// ended it.
    pub fn damaged(&self, pool: &Pool, progress: Progress<'_>) -> Option<Vec<String>> {
        let pieces: Vec<_> = self.plan.pieces().zip(&self.sums).collect();
        let mut damaged: Vec<String> = Vec::new();
        for pieces in pieces.chunks(pool.workers()) {
            let ((_, first, _), _) = pieces[0];
            if !progress(first, self.plan.len_bytes) {
                return None;
            }
            let mut whole = vec![false; pieces.len()];
            pool.each(&mut whole, |_, i, whole| {
                let ((_, offset, piece), sum) = &pieces[i];
                let (start, len) = (*offset as usize, piece.len());
                // Advice that is not taken costs time, nothing else.
                #[cfg(unix)]
                let _ = self.map.advise_range(Advice::WillNeed, start, len);
                *whole = Sha256::digest(&self.map[start..start + len])[..] == sum[..];
            });
            let broken = pieces.iter().zip(whole).filter(|(_, whole)| !whole);
            damaged.extend(broken.map(|(((matrix, ..), _), _)| matrix.weights.name().to_string()));
        }
        damaged.dedup();
        Some(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn golden(name: &str) -> Arc<qwire_gguf::File> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name);
        Arc::new(qwire_gguf::File::open(&path).expect("a golden file"))
    }

    fn plan(name: &str) -> Arc<Plan> {
        Arc::new(Plan::of(&golden(name)).expect("it can be loaded"))
    }

    /// A folder that is gone after the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("qwire-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a temporary folder");
            Self(path)
        }

        fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            fs::write(self.0.join(name), bytes).expect("a temporary file");
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn written(plan: &Plan, folder: &Folder, threads: usize) -> Vec<u8> {
        let path = folder.0.join("written");
        let pool = Pool::new(threads).expect("threads start");
        plan.write(&File::create(&path).unwrap(), &pool, &mut |_, _| true).expect("it is written");
        fs::read(path).unwrap()
    }

    #[track_caller]
    fn stale(plan: &Arc<Plan>, path: &Path, words: &str) {
        let why = plan.open(path).err().expect("it does not fit").to_string();
        assert!(why.contains(words), "{why:?} lacks {words:?}");
    }

    #[test]
    fn a_plan_is_written_the_same_by_anybody() {
        for name in ["moe-q4_k_m.gguf", "dense2-q6_k.gguf", "moes-f32.gguf"] {
            let (folder, plan) = (Folder::new("sidecar-same"), plan(name));
            let bytes = written(&plan, &folder, 1);
            assert_eq!(bytes.len() as u64, plan.len_bytes());
            assert!(bytes == written(&plan, &folder, 3), "{name}");
            let sidecar = plan.open(&folder.file("a", &bytes)).expect("it fits");
            let pool = Pool::new(2).expect("two threads");
            assert_eq!(sidecar.damaged(&pool, &mut |_, _| true), Some(vec![]));
            assert_eq!(sidecar.damaged(&pool, &mut |_, _| false), None);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (folder, plan) = (Folder::new("sidecar-flip"), plan("dense3-q4_k_m.gguf"));
        let good = written(&plan, &folder, 2);
        let pool = Pool::new(2).expect("two threads");
        let head = plan.head.len() + (plan.pieces().count() + 1) * SUM_BYTES;
        for at in 0..head {
            let mut bytes = good[..head].to_vec();
            bytes[at] ^= 1 << (at % 8);
            let file = File::options().write(true).open(folder.file("b", &bytes)).unwrap();
            file.set_len(good.len() as u64).unwrap();
            assert!(plan.open(&folder.0.join("b")).is_err(), "byte {at}");
        }
        // Not the zeros between: nobody reads them.
        let panels: Vec<_> = plan.pieces().collect();
        for i in 0..1000 {
            let (matrix, offset, piece) = &panels[i % panels.len()];
            let at = *offset as usize + i * 7919 % piece.len();
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (i % 8);
            let sidecar = plan.open(&folder.file("c", &bytes)).expect("its head is whole");
            let damaged = sidecar.damaged(&pool, &mut |_, _| true);
            assert_eq!(damaged.unwrap(), [matrix.weights.name()], "byte {at}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (folder, plan) = (Folder::new("sidecar-fit"), plan("dense3-q4_k_m.gguf"));
        let good = written(&plan, &folder, 2);
        let check = |bytes: &[u8], words: &str| stale(&plan, &folder.file("a", bytes), words);
        for len in [0, 7] {
            check(&good[..len], "not a sidecar");
        }
        for len in [8, 16, 47, 48, 64, 200, 4096, good.len() / 2, good.len() - 1] {
            check(&good[..len], &format!("it has {len} bytes instead of {}", good.len()));
        }
        check(&[&good[..], b"x"].concat(), "bytes instead of");
        check(&vec![0; good.len()], "not a sidecar");
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        check(&changed(8, 200), "layout version 200, this qwire has");
        let words = format!("numbers version 99, this qwire has {NUMBERS_VERSION}");
        check(&changed(12, 99), &words);
        check(&changed(20, !good[20]), "another model");
        check(&changed(70, !good[70]), "its head is damaged");
        stale(&plan, &folder.0, "no regular file");
        assert!(matches!(plan.open(&folder.0.join("none")), Err(Unfit::Absent)));
        let other = self::plan("dense3-q4_0.gguf");
        stale(&other, &folder.file("b", &good), "another model");
    }

    #[test]
    fn writing_fails_aloud() {
        let plan = plan("dense3-q4_k_m.gguf");
        let pool = Pool::new(2).expect("two threads");
        if let Ok(full) = File::options().write(true).open("/dev/full") {
            let error = plan.write(&full, &pool, &mut |_, _| true).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        let folder = Folder::new("sidecar-ended");
        let file = File::create(folder.0.join("a")).unwrap();
        let mut left = 5;
        let error = plan.write(&file, &pool, &mut |_, _| {
            left -= 1;
            left > 0
        });
        assert!(error.is_err());
        stale(&plan, &folder.0.join("a"), "not a sidecar");
    }
}
