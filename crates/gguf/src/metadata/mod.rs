//! Metadata: the keys of a file and where their values lie, in file order and by name.
//!
//! An entry costs 36 bytes of memory against at least 14 bytes of file. Lookup is a binary search
//! in an index sorted by key, which also finds duplicates, and which no choice of keys can slow.

mod getters;
mod value;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::MAX_NAME_BYTES;
use crate::cursor::Cursor;
use crate::error::{Error, quoted};
use crate::mapping::Source;
use value::skip;

pub use value::{Array, Items, Kind, Strings, Value};

/// The keys and values of a file.
pub struct Metadata {
    source: Arc<Source>,
    entries: Vec<Entry>,
    /// Indexes of `entries`, by ascending key.
    by_key: Vec<u32>,
}

struct Entry {
    key_at: u64,
    value_at: u64,
    key_len: u16,
    kind: Kind,
    value_len: u64,
}

/// Where the header counts the keys.
pub(crate) const KEYS_AT: u64 = 16;

/// Length of a key, one byte of it, a kind, one byte of value.
pub(crate) const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;

impl Metadata {
    /// Reads `n` entries from `cursor`, which walks the bytes of `source`.
    pub(crate) fn read(
        source: &Arc<Source>,
        cursor: &mut Cursor<'_>,
        n: u64,
    ) -> Result<Metadata, Error> {
        cursor.check_count(n, MIN_ENTRY_BYTES, "keys")?;
        check_indexable(n, "keys").map_err(|problem| Error::new(problem).at(KEYS_AT))?;
        let mut entries = Vec::with_capacity(n as usize);
        for i in 0..n {
            entries.push(Entry::read(cursor, i, n)?);
        }
        let mut metadata = Metadata { source: source.clone(), entries, by_key: Vec::new() };
        metadata.sort()?;
        Ok(metadata)
    }

    fn sort(&mut self) -> Result<(), Error> {
        let key = |&i: &u32| self.key_bytes(&self.entries[i as usize]);
        let mut by_key: Vec<u32> = (0..self.entries.len() as u32).collect();
        by_key.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.cmp(b)));
        if let Some(pair) = by_key.array_windows().find(|[a, b]| key(a) == key(b)) {
            let [first, second] = pair.map(|i| &self.entries[i as usize]);
            let problem = format!("appears twice; the first is at byte {}", first.key_at);
            return Err(Error::new(problem)
                .at(second.key_at)
                .about(|| format!("key {}", quoted(self.key(second)))));
        }
        self.by_key = by_key;
        Ok(())
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.find(key).map(|entry| self.value(entry))
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Value<'_>)> {
        self.entries.iter().map(|entry| (self.key(entry), self.value(entry)))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An error about the value of `key`, for checks that only the reader of the value can make:
    /// "model.gguf: key `x`: `problem` [at byte N]". The key may be absent.
    pub fn invalid(&self, key: &str, problem: impl fmt::Display) -> Error {
        let error = Error::new(problem.to_string())
            .about(|| format!("key {}", quoted(key)))
            .in_file(self.path());
        match self.find(key) {
            Some(entry) => error.at(entry.value_at),
            None => error,
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        let at = |&i: &u32| self.key_bytes(&self.entries[i as usize]).cmp(key.as_bytes());
        let found = self.by_key.binary_search_by(at).ok()?;
        Some(&self.entries[self.by_key[found] as usize])
    }

    fn key_bytes(&self, entry: &Entry) -> &[u8] {
        &self.source.bytes()[entry.key_at as usize..][..usize::from(entry.key_len)]
    }

    fn key(&self, entry: &Entry) -> &str {
        str::from_utf8(self.key_bytes(entry)).expect("keys are checked at open")
    }

    fn value(&self, entry: &Entry) -> Value<'_> {
        let bytes = &self.source.bytes()[entry.value_at as usize..][..entry.value_len as usize];
        Value::decode(entry.kind, bytes)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (key, value.to_string()))).finish()
    }
}

impl Entry {
    fn read(cursor: &mut Cursor<'_>, i: u64, n: u64) -> Result<Entry, Error> {
        let ordinal = || format!("key {} of {n}", i + 1);
        let start = cursor.position();
        let key = cursor.string("its name").map_err(|error| error.about(ordinal))?;
        check_name(key).map_err(|problem| Error::new(problem).at(start).about(ordinal))?;
        let about = |error: Error| error.about(|| format!("key {}", quoted(key)));
        let kind = Kind::read(cursor, "the value type").map_err(about)?;
        let value_at = cursor.position();
        skip(cursor, kind).map_err(about)?;
        Ok(Entry {
            key_at: start + 8,
            value_at,
            key_len: key.len() as u16,
            kind,
            value_len: cursor.position() - value_at,
        })
    }
}

/// Entries are indexed by `u32`; more of them would take a header of over 60 GB.
pub(crate) fn check_indexable(n: u64, what: &str) -> Result<(), String> {
    let max = u32::MAX;
    if n > max.into() { Err(format!("{n} {what}; accepted: up to {max}")) } else { Ok(()) }
}

/// What is wrong with the name of a key or a tensor.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("its name is empty".into()),
        1..=MAX_NAME_BYTES => Ok(()),
        n => Err(format!("its name has {n} bytes; accepted: 1 to {MAX_NAME_BYTES}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of kind u8.
    fn read(entries: &[(&[u8], u8)]) -> Result<Metadata, String> {
        let mut bytes = vec![];
        for (key, value) in entries {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(*key);
            bytes.extend([0, 0, 0, 0, *value]);
        }
        let source = Arc::new(Source::from_bytes(bytes.into()).unwrap());
        Metadata::read(&source, &mut Cursor::new(source.bytes()), entries.len() as u64)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn order_of_the_file_and_lookup_by_name() {
        let metadata = read(&[(b"b", 1), (b"a", 2), ("é".as_bytes(), 3), (b"aa", 4)]).unwrap();
        let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["b", "a", "é", "aa"]);
        assert_eq!((metadata.len(), metadata.is_empty()), (4, false));
        for (key, value) in [("b", 1), ("a", 2), ("é", 3), ("aa", 4)] {
            assert_eq!(metadata.get(key), Some(Value::U8(value)));
        }
        assert_eq!(metadata.get(""), None);
        assert_eq!(metadata.get("ab"), None);
    }

    #[test]
    fn keys_are_checked() {
        let check = |entries: &[(&[u8], u8)], expected: &str| {
            assert_eq!(read(entries).err().as_deref(), Some(expected));
        };
        check(
            &[(b"a", 1), (b"b", 1), (b"a", 1)],
            "key `a`: appears twice; the first is at byte 8 [at byte 36]",
        );
        check(&[(b"", 1), (b"bb", 0)], "key 1 of 2: its name is empty [at byte 0]");
        let line = "key 1 of 1: its name is not valid UTF-8 (byte 0xff) [at byte 8]";
        check(&[(b"\xff\xfe", 1)], line);
        let line = "key 1 of 1: its name has 65536 bytes; accepted: 1 to 65535 [at byte 0]";
        check(&[(&vec![b'k'; 65_536], 1)], line);
        assert!(read(&[(&vec![b'k'; 65_535], 1)]).is_ok());
    }

    #[test]
    fn invalid_names_key_and_place() {
        let metadata = read(&[(b"x.heads", 0)]).unwrap();
        let error = metadata.invalid("x.heads", "found 0, accepted: 1 or more");
        assert_eq!(error.to_string(), "key `x.heads`: found 0, accepted: 1 or more [at byte 19]");
        assert_eq!(metadata.invalid("y", "gone").to_string(), "key `y`: gone");
    }
}
