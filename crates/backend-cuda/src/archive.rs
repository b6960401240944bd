//! Archive: named files in fewer bytes. What one holds that came before, in it or in another, is
//! told by its place; code for one card is mostly code for the next.
//!
//! ```text
//! files    number of files, then of each: length of its name, name, length, bytes
//! archive  length of `files`, then until it is whole: n, n bytes, m, distance  (m bytes again)
//! ```
//! Numbers are little-endian groups of seven bits. It reads what this program itself has packed,
//! and nothing foreign.

/// Fewest bytes that are worth a place.
const LEAST: usize = 8;
/// Places that are looked at for the longest run.
const TRIES: usize = 64;

/// A file: its name, its bytes.
pub type Entry = (String, Vec<u8>);

/// Packs files.
pub fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut files = Vec::new();
    put(&mut files, entries.len());
    for (name, bytes) in entries {
        for part in [name.as_bytes(), bytes] {
            put(&mut files, part.len());
            files.extend_from_slice(part);
        }
    }
    let mut packed = Vec::new();
    put(&mut packed, files.len());
    let mut places = Places::new(files.len());
    let (mut at, mut told) = (0, 0);
    while at < files.len() {
        let (len, distance) = places.longest(&files, at);
        if len < LEAST {
            places.add(&files, at);
            at += 1;
            continue;
        }
        copy(&mut packed, &files[told..at], len, distance);
        (at..at + len).for_each(|at| places.add(&files, at));
        at += len;
        told = at;
    }
    copy(&mut packed, &files[told..], 0, 0);
    packed
}

/// The files of an archive.
pub fn unpack(mut packed: &[u8]) -> Vec<Entry> {
    let len = take(&mut packed);
    let mut files = Vec::with_capacity(len);
    while files.len() < len {
        files.extend_from_slice(slice(&mut packed));
        let (len, distance) = (take(&mut packed), take(&mut packed));
        let from = files.len() - distance;
        // A run may reach into itself.
        (from..from + len).for_each(|at| files.push(files[at]));
    }
    let mut rest = files.as_slice();
    let count = take(&mut rest);
    let entry = |_| {
        let name = String::from_utf8_lossy(slice(&mut rest)).into_owned();
        (name, slice(&mut rest).to_vec())
    };
    (0..count).map(entry).collect()
}

fn copy(packed: &mut Vec<u8>, literal: &[u8], len: usize, distance: usize) {
    put(packed, literal.len());
    packed.extend_from_slice(literal);
    put(packed, len);
    put(packed, distance);
}

fn put(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take(from: &mut &[u8]) -> usize {
    let mut n = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = from.split_first().expect("a number goes on");
        *from = rest;
        n |= usize::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    n
}

/// Bytes behind their length.
fn slice<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let len = take(from);
    let (bytes, rest) = from.split_at(len);
    *from = rest;
    bytes
}

/// Where each [`LEAST`] bytes were seen, the latest first.
struct Places {
    latest: Vec<u32>,   // [1 << BITS], 1 more than the place
    previous: Vec<u32>, // [bytes], likewise
}

impl Places {
    const BITS: u32 = 16;

    fn new(bytes: usize) -> Self {
        Self { latest: vec![0; 1 << Self::BITS], previous: vec![0; bytes] }
    }

    fn bucket(bytes: &[u8], at: usize) -> Option<usize> {
        let first: [u8; LEAST] = bytes.get(at..at + LEAST)?.try_into().ok()?;
        let mixed = u64::from_le_bytes(first).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some((mixed >> (64 - Self::BITS)) as usize)
    }

    fn add(&mut self, bytes: &[u8], at: usize) {
        if let Some(bucket) = Self::bucket(bytes, at) {
            self.previous[at] = self.latest[bucket];
            self.latest[bucket] = at as u32 + 1;
        }
    }

    /// The longest run that was seen and comes again here: its length, and how far back it is.
    fn longest(&self, bytes: &[u8], at: usize) -> (usize, usize) {
        let (mut len, mut distance) = (0, 0);
        let mut place = Self::bucket(bytes, at).map_or(0, |bucket| self.latest[bucket]);
        for _ in 0..TRIES {
            let Some(from) = (place as usize).checked_sub(1) else { break };
            let pairs = bytes[from..].iter().zip(&bytes[at..]);
            let same = pairs.take_while(|(a, b)| a == b).count();
            if same > len {
                (len, distance) = (same, at - from);
            }
            place = self.previous[from];
        }
        (len, distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back() {
        let noise = |seed: u32| {
            let mut x = seed;
            let next = move || {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 24) as u8
            };
            std::iter::repeat_with(next).take(3000).collect::<Vec<u8>>()
        };
        let mut bent = noise(1);
        bent[1500] ^= 1;
        for files in [
            vec![],
            vec![("empty", vec![])],
            vec![("short", vec![7]), ("run", vec![3; 1000])],
            vec![("a", noise(1)), ("b", bent), ("c", noise(2)), ("d", noise(1))],
        ] {
            let files: Vec<Entry> =
                files.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect();
            assert_eq!(unpack(&pack(&files)), files);
        }
        let twice = [("a".into(), noise(5)), ("b".into(), noise(5))];
        assert!(pack(&twice).len() < 3100, "what comes again takes no room");
    }
}
