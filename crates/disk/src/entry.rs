//! An entry: one page in a file.
//!
//! ```text
//! byte 0   "QWIREKVP"
//!      8   u32 version │ u32 positions                     little endian, as every number here
//!     16   key, 32 bytes
//!     48   u64 bytes of the page
//!     56   SHA-256 of everything before and of the page
//!     88   the page
//!
//! name     DEPTH-ABOVE-KEY      pages before it, the first half of the key above, the key: in hex
//! ```
//! Whoever looks for a page knows what its head must be, and compares: nothing of a file is parsed
//! or believed. A name tells who hangs on whom, for eviction alone.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;

use qwire_engine::pages::PAGE;
use qwire_engine::{Key, Named, Salt};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"QWIREKVP";
const VERSION: u32 = 1;
/// Everything before the page.
pub const HEAD_BYTES: usize = 88;
const SUM_AT: usize = 56;

/// Read or written, and hashed while it is in the processor's cache.
const PIECE_BYTES: usize = 256 << 10;

/// Everything that the bytes of a page follow from, but whose it is and its tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Of these facts, each with its name.
    pub fn of(facts: &[(&str, &[u8])]) -> Self {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(VERSION.to_le_bytes());
        hash.update((PAGE as u64).to_le_bytes());
        for (name, value) in facts {
            for part in [name.as_bytes(), value] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        Self(hash.finalize().into())
    }

    /// The key of a page.
    pub fn key(&self, salt: Salt, above: Option<Key>, tokens: &[u32]) -> Key {
        let mut hash = Sha256::new();
        if let Some(above) = above {
            hash.update(above.0);
        } else {
            hash.update(self.0);
            hash.update(salt.0.to_le_bytes());
        }
        let mut bytes = [0; 4 * PAGE];
        for (bytes, token) in bytes.as_chunks_mut().0.iter_mut().zip(tokens) {
            *bytes = token.to_le_bytes();
        }
        hash.update(&bytes[..4 * tokens.len().min(PAGE)]);
        Key(hash.finalize().into())
    }

    /// The names of a prefix's full pages.
    pub fn names(&self, salt: Salt, tokens: &[u32]) -> impl Iterator<Item = Named> {
        let mut above = None;
        tokens.chunks_exact(PAGE).enumerate().map(move |(i, tokens)| {
            let key = self.key(salt, above, tokens);
            Named { key, above: above.replace(key), depth: i * PAGE }
        })
    }

    /// The folder of its pages.
    pub fn folder(&self) -> String {
        hex(&self.0[..16])
    }
}

/// Why a file does not give its page.
#[derive(Debug)]
pub enum Unfit {
    /// There is none.
    Absent,
    /// It is not what was written.
    Damaged,
    /// The system cannot read it.
    Unreadable(io::Error),
}

/// A page as a file has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: Named,
    /// Bytes of the page.
    pub len: usize,
}

impl Entry {
    /// The file's name.
    pub fn file_name(&self) -> String {
        let Named { key, above, depth } = self.name;
        let above = above.map_or([0; 16], |above| *above.0.first_chunk().expect("32 bytes"));
        format!("{:06x}-{}-{}", depth / PAGE, hex(&above), hex(&key.0))
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        (HEAD_BYTES + self.len) as u64
    }

    fn head(&self) -> [u8; SUM_AT] {
        let mut head = [0; SUM_AT];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[12..16].copy_from_slice(&(PAGE as u32).to_le_bytes());
        head[16..48].copy_from_slice(&self.name.key.0);
        head[48..].copy_from_slice(&(self.len as u64).to_le_bytes());
        head
    }

    /// Writes the whole file, and brings it to the disk.
    pub fn write(&self, file: &File, page: &[u8]) -> io::Result<()> {
        assert_eq!(page.len(), self.len, "bytes of a page");
        let head = self.head();
        let mut hash = Sha256::new_with_prefix(head);
        let mut at = HEAD_BYTES as u64;
        for piece in page.chunks(PIECE_BYTES) {
            hash.update(piece);
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        file.write_all_at(&head, 0)?;
        file.write_all_at(&hash.finalize(), SUM_AT as u64)?;
        file.sync_data()
    }

    /// Reads the page, if the file is this entry and whole.
    pub fn read(&self, file: &mut File, page: &mut Vec<u8>) -> Result<(), Unfit> {
        let fault = |error: io::Error| match error.kind() {
            ErrorKind::UnexpectedEof => Unfit::Damaged,
            _ => Unfit::Unreadable(error),
        };
        let mut head = [0; HEAD_BYTES];
        file.read_exact(&mut head).map_err(fault)?;
        let (said, sum) = head.split_at(SUM_AT);
        if said != self.head() {
            return Err(Unfit::Damaged);
        }
        let mut hash = Sha256::new_with_prefix(said);
        page.resize(self.len, 0);
        for piece in page.chunks_mut(PIECE_BYTES) {
            file.read_exact(piece).map_err(fault)?;
            hash.update(&piece);
        }
        let more = file.read(&mut [0]).map_err(fault)?;
        if more > 0 || hash.finalize()[..] != *sum { Err(Unfit::Damaged) } else { Ok(()) }
    }
}

/// What a file's name tells.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// Pages before it.
    pub depth: u32,
    /// Half of the key of the page before it.
    pub above: String,
    /// Half of its own.
    pub key: String,
}

impl Place {
    /// Reads a name; none where it is no entry's.
    pub fn of(name: &str) -> Option<Self> {
        let is_hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut parts = name.split('-').filter(is_hex);
        let (depth, above, key) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || [depth.len(), above.len(), key.len()] != [6, 32, 64] {
            return None;
        }
        let depth = u32::from_str_radix(depth, 16).ok()?;
        Some(Self { depth, above: above.into(), key: key[..32].into() })
    }
}

/// Bytes as digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS[value as usize & 15] as char;
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
