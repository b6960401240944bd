//! Mutants: a hundred thousand seeded corruptions of a small valid file, and files shaped to
//! multiply memory or time. None may panic, and none may take more than four times its size.

#![allow(unsafe_code)] // the counting allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::time::Instant;

use qwire_gguf::{Dtype, File, OwnedArray, Value, Writer};

/// The system's allocator, counting what the current thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    HELD.set(HELD.get() + bytes);
    PEAK.set(PEAK.get().max(HELD.get()));
}

// SAFETY: every call goes to `System` unchanged; counting touches neither pointer nor layout.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as above.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens the file, uses it, and bounds the memory of both beside the file itself.
fn read(bytes: Vec<u8>, walk: impl FnOnce(&File)) -> Result<(), String> {
    let len = bytes.len();
    let before = HELD.get();
    PEAK.set(before);
    let opened = File::from_bytes(bytes);
    let found = match &opened {
        Ok(file) => {
            walk(file);
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    };
    let peak = PEAK.get() - before;
    assert!(peak <= 4 * len as isize + (1 << 20), "{peak} bytes for a file of {len}");
    found
}

/// Reads every value by every getter, and the ends of every tensor.
fn walk(file: &File) {
    let metadata = file.metadata();
    for (key, value) in metadata.iter() {
        assert_eq!(metadata.get(key).map(|found| found.kind()), Some(value.kind()));
        let _ = value.to_string();
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
            for item in array.iter().take(1000) {
                if let Value::Array(inner) = item {
                    assert_eq!(inner.iter().count(), inner.len());
                }
            }
        }
        let _ = (metadata.u32(key), metadata.u64(key), metadata.f32(key), metadata.bool(key));
        let _ = (metadata.str(key), metadata.i32s(key), metadata.u32s(key), metadata.f32s(key));
        if let Ok(Some(strings)) = metadata.strings(key) {
            assert_eq!(strings.len(), strings.count());
        }
    }
    for tensor in file.tensors() {
        let data = file.data(tensor);
        assert_eq!(data.len() as u64, tensor.len_bytes());
        std::hint::black_box(u16::from(data[0]) + u16::from(data[data.len() - 1]));
        assert!(file.tensor(&tensor.name).is_some());
    }
}

fn seed_file() -> Vec<u8> {
    let mut writer = Writer::new(64);
    writer.metadata("general.architecture", "qwen3moe").unwrap();
    writer.metadata("a.u8", 1u8).unwrap().metadata("a.bool", true).unwrap();
    writer.metadata("a.u64", u64::MAX).unwrap().metadata("a.f64", 0.5).unwrap();
    writer.metadata("a.tokens", OwnedArray::strings(["a", "bc", "é", ""])).unwrap();
    writer.metadata("a.types", vec![1i32, 3, -1]).unwrap();
    writer.metadata("a.flags", vec![true, false]).unwrap();
    writer.metadata("a.scores", vec![1f32, f32::NAN]).unwrap();
    let tensors = [
        ("norm", &[16][..], Dtype::F32),
        ("q8", &[64, 3], Dtype::Q8_0),
        ("q4", &[256, 1], Dtype::Q4_K),
        ("exps", &[32, 2, 2], Dtype::MXFP4),
        ("f16", &[3, 1, 1, 2], Dtype::F16),
    ];
    for (name, dims, dtype) in tensors {
        writer.tensor(name, dims, dtype).unwrap();
    }
    let len = writer.len_bytes();
    let mut data = writer.begin(vec![]).unwrap();
    for (_, dims, dtype) in tensors {
        let blocks = dims.iter().product::<u64>() / dtype.block_values();
        data.tensor(&vec![7; (blocks * dtype.block_bytes()) as usize]).unwrap();
    }
    let bytes = data.finish().unwrap();
    assert_eq!(bytes.len() as u64, len);
    bytes
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// A number that counts, lengths and sizes go wrong at.
    fn interesting(&mut self, len: usize) -> u64 {
        let len = len as u64;
        let exact = [0, 1, 2, 4, 9, 13, 255, len, len - 1, len + 1, len / 8, u64::MAX];
        match self.below(3) {
            0 => exact[self.below(exact.len())],
            1 => (1u64 << self.below(64)).wrapping_sub(self.next() % 3),
            _ => (1u64 << self.below(64)).wrapping_neg().wrapping_add(self.next() % 3),
        }
    }
}

/// Applies one corruption, mostly before `head`, the end of the directory.
fn mutate(bytes: &mut Vec<u8>, head: usize, random: &mut Random) {
    let reach = if random.below(8) == 0 { bytes.len() } else { head.min(bytes.len()) };
    let at = random.below(reach);
    match random.below(8) {
        0 => bytes.truncate(at + 1),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.next() as u8,
        3 | 4 => {
            let value = random.interesting(bytes.len()).to_le_bytes();
            let width = [4, 8][random.below(2)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&value[..width]);
        }
        kind => {
            let from = random.below(reach);
            let n = random.below(48).min(bytes.len() - from);
            let piece = bytes[from..from + n].to_vec();
            let replaced = match kind {
                5 => at..at + n.min(bytes.len() - at), // overwritten by the piece
                6 => at..at,                           // inserted
                _ => at..at + random.below(bytes.len() - at), // the file shrinks or grows
            };
            bytes.splice(replaced, piece);
        }
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
}

#[test]
fn a_hundred_thousand_mutants() {
    const MUTANTS: usize = 120_000;
    let seed = seed_file();
    let head = seed.windows(3).rposition(|name| name == b"f16").unwrap() + 3 + 4 + 32 + 12;
    assert_eq!(read(seed.clone(), walk), Ok(()));
    let mut random = Random(1);
    let mut accepted = 0;
    let mut problems = HashSet::new();
    for _ in 0..MUTANTS {
        let mut bytes = seed.clone();
        for _ in 0..=random.below(3) {
            mutate(&mut bytes, head, &mut random);
        }
        match read(bytes, walk) {
            Ok(()) => accepted += 1,
            Err(line) => {
                assert!(!line.contains('\n') && line.len() < 600, "not a short line: {line:?}");
                problems.insert(line.split(char::is_numeric).next().map(str::to_string));
            }
        }
    }
    // Proof that the mutants reach past the first check: both outcomes, by many ways.
    assert!(accepted > MUTANTS / 50 && accepted < MUTANTS / 2, "{accepted} accepted");
    assert!(problems.len() > 200, "{} kinds of problem", problems.len());
}

/// A header for `tensors` and `keys` that follow.
fn header(tensors: usize, keys: usize) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors as u64).to_le_bytes());
    bytes.extend((keys as u64).to_le_bytes());
    bytes
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn many_keys(n: usize, name: impl Fn(usize) -> String) -> Vec<u8> {
    let mut bytes = header(0, n);
    for i in 0..n {
        put_string(&mut bytes, &name(i));
        bytes.extend([0, 0, 0, 0, 1]);
    }
    bytes
}

fn many_tensors(n: usize) -> Vec<u8> {
    let mut bytes = header(n, 1);
    put_string(&mut bytes, "general.alignment");
    bytes.extend([0, 0, 0, 0, 1]);
    for i in 0..n {
        put_string(&mut bytes, &format!("{i:x}"));
        bytes.extend([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0]);
        bytes.extend((i as u64).to_le_bytes());
    }
    bytes.resize(bytes.len() + n, 0);
    bytes
}

fn one_array(kind: u32, n: usize, element: &[u8]) -> Vec<u8> {
    let mut bytes = header(0, 1);
    put_string(&mut bytes, "x");
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend((n as u64).to_le_bytes());
    bytes.extend(element.repeat(n));
    bytes
}

#[test]
fn many_small_things_take_neither_memory_nor_time() {
    let check = |what: &str, bytes: Vec<u8>, valid: bool| {
        let start = Instant::now();
        let opened = read(bytes, |file| {
            assert!(file.metadata().iter().all(|(key, _)| file.metadata().get(key).is_some()));
            assert!(file.tensors().iter().all(|tensor| file.tensor(&tensor.name).is_some()));
        });
        assert_eq!(opened.is_ok(), valid, "{what}");
        let took_s = start.elapsed().as_secs_f32();
        assert!(took_s < 5.0, "{what} took {took_s} s");
    };
    check("a million keys", many_keys(1_000_000, |i| format!("{i:x}")), true);
    let prefix = "k".repeat(4000);
    check("keys with a long prefix", many_keys(10_000, |i| format!("{prefix}{i}")), true);
    check("a million times the same key", many_keys(1_000_000, |_| "k".into()), false);
    check("many tensors", many_tensors(300_000), true);
    check("a million empty strings", one_array(8, 1_000_000, &[0; 8]), true);
    check("a million bytes", one_array(0, 1_000_000, &[7]), true);
    check("a million empty arrays", one_array(9, 1_000_000, &[0; 12]), true);
    let deep = [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    check("a million nested arrays", one_array(9, 1_000_000, &deep), false);
}
