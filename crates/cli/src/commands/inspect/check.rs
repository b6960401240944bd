//! Check: every number of a file looked at once, and the SHA-256 of each of its files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use qwire_gguf::{File, Tensor};
use qwire_kernels::quant::{Format, format};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::commands::loading::boxed_bytes;
use crate::commands::serve::loader::digits;
use crate::config::Environment;
use crate::failure::Failure;
use crate::progress::{Bar, Unit};
use crate::quantity::grouped;
use crate::signals::Interrupt;

/// Values looked at in one go.
const UNIT_VALUES: u64 = 1 << 16;
const BLOCK_BYTES: usize = 1 << 20;

/// What was found.
#[derive(Serialize)]
pub struct CheckFacts {
    pub sha256: Vec<Hash>,
    /// Tensors with numbers that are not finite, in file order.
    pub poisoned: Vec<PoisonFacts>,
    /// Tensors whose format qwire cannot read.
    pub unread: Vec<String>,
}

/// The checksum of one file.
#[derive(Serialize)]
pub struct Hash {
    pub file: String,
    pub sha256: String,
}

/// A tensor that holds NaN or infinity.
#[derive(Serialize)]
pub struct PoisonFacts {
    pub tensor: String,
    pub values: u64,
    pub first: u64,
}

impl CheckFacts {
    /// An error if a number is none.
    pub fn verdict(&self) -> Result<(), Failure> {
        let Some(first) = self.poisoned.first() else { return Ok(()) };
        let PoisonFacts { tensor, values, first } = first;
        let n = grouped(*values);
        let fault = format!("tensor `{tensor}` holds {n} values that are not finite");
        Err(Failure::new(format!("{fault}, the first at index {first}"))
            .hint("the file is damaged, or was converted from damaged weights; get it again"))
    }
}

/// Reads all of a file, on every CPU, with a bar.
pub fn check(file: &File, environment: &Environment) -> Result<CheckFacts, Failure> {
    let interrupt = Interrupt::install()?;
    let available = || thread::available_parallelism().map_or(1, usize::from);
    let workers = environment.threads.unwrap_or_else(available);
    let scan = Scan::new(file);
    let total = 2 * file.len_bytes();
    let (tell, heard) = mpsc::channel::<()>();
    let mut bar = Bar::new("checking", Unit::Bytes, true);
    let sha256 = thread::scope(|scope| {
        for _ in 0..workers {
            let tell = tell.clone();
            let (scan, interrupt) = (&scan, &interrupt);
            scope.spawn(move || {
                scan.work(interrupt);
                drop(tell);
            });
        }
        let hashes = scope.spawn(|| {
            let all = file.paths().map(|path| hash(path, &scan.done, &interrupt));
            all.collect::<Result<Vec<_>, _>>()
        });
        drop(tell);
        // Hangs up when the last worker has.
        while heard.recv_timeout(Duration::from_millis(50)) == Err(mpsc::RecvTimeoutError::Timeout)
        {
            bar.set(scan.done.load(Ordering::Relaxed), total);
        }
        while !hashes.is_finished() {
            bar.set(scan.done.load(Ordering::Relaxed), total);
            thread::sleep(Duration::from_millis(1));
        }
        hashes.join().expect("hashing does not panic")
    });
    drop(bar);
    interrupt.check()?;
    Ok(CheckFacts { sha256: sha256?, poisoned: scan.poisoned(), unread: scan.unread() })
}

/// Tensors in pieces, which any number of workers take one by one.
struct Scan<'a> {
    file: &'a File,
    pieces: Vec<Piece<'a>>,
    next: AtomicUsize,
    done: AtomicU64,                           // bytes
    found: Mutex<BTreeMap<usize, (u64, u64)>>, // tensor: (values, first)
}

/// Some values of one tensor, from a block's start.
#[derive(Clone, Copy)]
struct Piece<'a> {
    index: usize,
    tensor: &'a Tensor,
    format: &'static Format,
    first: u64,
    values: u64,
}

impl<'a> Scan<'a> {
    fn new(file: &'a File) -> Self {
        let readable = file
            .tensors()
            .iter()
            .enumerate()
            .filter_map(|(index, tensor)| Some((index, tensor, format(tensor.dtype.id())?)));
        let pieces = readable.flat_map(|(index, tensor, format)| {
            let all = tensor.elements();
            (0..all.div_ceil(UNIT_VALUES)).map(move |i| {
                let first = i * UNIT_VALUES;
                Piece { index, tensor, format, first, values: UNIT_VALUES.min(all - first) }
            })
        });
        Self {
            file,
            pieces: pieces.collect(),
            next: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            found: Mutex::default(),
        }
    }

    fn work(&self, interrupt: &Interrupt) {
        let mut values = Vec::new();
        while !interrupt.raised() {
            let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            self.look(piece, &mut values);
        }
    }

    fn look(&self, piece: &Piece<'_>, values: &mut Vec<f32>) {
        let bytes = |values: u64| piece.format.row_bytes(values as usize);
        let data = &self.file.data(piece.tensor)[bytes(piece.first)..][..bytes(piece.values)];
        values.resize(piece.values as usize, 0.0);
        piece.format.dequantise(data, values);
        let mut wrong = values.iter().enumerate().filter(|(_, value)| !value.is_finite());
        if let Some((at, _)) = wrong.next() {
            let first = piece.first + at as u64;
            let count = 1 + wrong.count() as u64;
            let mut found = self.found.lock().expect("nothing panics under the lock");
            let entry = found.entry(piece.index).or_insert((0, first));
            *entry = (entry.0 + count, entry.1.min(first));
        }
        self.done.fetch_add(data.len() as u64, Ordering::Relaxed);
    }

    fn poisoned(&self) -> Vec<PoisonFacts> {
        let found = self.found.lock().expect("nothing panics under the lock");
        let facts = |(index, (values, first)): (&usize, &(u64, u64))| {
            let tensor = self.file.tensors()[*index].name.clone();
            PoisonFacts { tensor, values: *values, first: *first }
        };
        found.iter().map(facts).collect()
    }

    fn unread(&self) -> Vec<String> {
        let tensors = self.file.tensors().iter();
        let unread = tensors.filter(|tensor| format(tensor.dtype.id()).is_none());
        unread.map(|tensor| format!("{} ({})", tensor.name, tensor.dtype)).collect()
    }
}

/// The SHA-256 of each of a model's files, or of the bytes in the binary.
pub fn hashes(file: &File, interrupt: &Interrupt) -> Result<Vec<String>, Failure> {
    if file.path().is_none() {
        let bytes = boxed_bytes().unwrap_or_default();
        return Ok(vec![digits(&Sha256::digest(bytes))]);
    }
    let done = AtomicU64::new(0);
    let all = file.paths().map(|path| hash(path, &done, interrupt).map(|hash| hash.sha256));
    let all = all.collect();
    interrupt.check()?;
    all
}

fn hash(path: &Path, done: &AtomicU64, interrupt: &Interrupt) -> Result<Hash, Failure> {
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", path.display()));
    let mut source = fs::File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    while !interrupt.raised() {
        let len = source.read(&mut block).map_err(failed)?;
        if len == 0 {
            break;
        }
        hasher.update(&block[..len]);
        done.fetch_add(len as u64, Ordering::Relaxed);
    }
    Ok(Hash { file: path.display().to_string(), sha256: digits(&hasher.finalize()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwire_gguf::{Dtype, Writer};

    #[test]
    fn numbers_that_are_none_are_found() {
        let mut values = vec![0.5f32; 200_000];
        (values[70_000], values[150_000]) = (f32::NAN, f32::INFINITY);
        let mut writer = Writer::default();
        writer.tensor("good", &[4], Dtype::F32).unwrap();
        writer.tensor("bad", &[200_000], Dtype::F32).unwrap();
        writer.tensor("odd", &[4], Dtype::I8).unwrap();
        let mut data = writer.begin(Vec::new()).unwrap();
        data.tensor(&[0; 16]).unwrap();
        data.tensor(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        data.tensor(&[0; 4]).unwrap();
        let file = File::from_bytes(data.finish().unwrap()).unwrap();

        let facts = check(&file, &Environment { threads: Some(3), ..Environment::default() });
        let facts = facts.unwrap();
        let [bad] = &facts.poisoned[..] else { panic!("one tensor is bad") };
        assert_eq!((bad.tensor.as_str(), bad.values, bad.first), ("bad", 2, 70_000));
        assert_eq!(facts.unread, ["odd (I8)"]);
        assert!(facts.verdict().unwrap_err().message().contains("the first at index 70000"));
    }
}
