//! Malformed files: one fault each, refused with a line that names the place.

use qwire_gguf::File;

/// A file whose every field can be made wrong.
struct Draft {
    magic: &'static [u8],
    version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Entry>,
    n_keys: Option<u64>,
    n_tensors: Option<u64>,
    data: Vec<u8>,
}

struct Entry {
    name: Vec<u8>,
    n_dims: Option<u32>,
    dims: Vec<u64>,
    dtype: u32,
    offset: u64,
}

const F32: u32 = 0;
const Q8_0: u32 = 8;
/// Where the data section of an unchanged draft starts; entries in messages lie before it.
const DATA_AT: usize = 256;

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

fn key(name: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(name), &kind.to_le_bytes()[..], value].concat()
}

fn array(kind: u32, n: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), &n.to_le_bytes()[..], elements].concat()
}

fn tensor(name: &[u8], dims: &[u64], dtype: u32, offset: u64) -> Entry {
    Entry { name: string(name), n_dims: None, dims: dims.to_vec(), dtype, offset }
}

impl Draft {
    fn new() -> Draft {
        Draft {
            magic: b"GGUF",
            version: 3,
            keys: vec![
                key(b"general.architecture", 8, &string(b"qwen3")),
                key(b"general.alignment", 4, &[32, 0, 0, 0]),
            ],
            tensors: vec![
                tensor(b"norm", &[8], F32, 0),
                tensor(b"out", &[64, 2], Q8_0, 32),
                tensor(b"up", &[4, 2, 2], F32, 192),
            ],
            n_keys: None,
            n_tensors: None,
            data: vec![0; 256],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_keys.unwrap_or(self.keys.len() as u64).to_le_bytes());
        out.extend(self.keys.concat());
        for Entry { name, n_dims, dims, dtype, offset } in &self.tensors {
            out.extend(name);
            out.extend(n_dims.unwrap_or(dims.len() as u32).to_le_bytes());
            out.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(dtype.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        out
    }
}

/// Applies one fault and compares the message.
fn check(fault: impl FnOnce(&mut Draft), words: &str) {
    let mut draft = Draft::new();
    fault(&mut draft);
    check_bytes(draft.bytes(), words);
}

fn check_bytes(bytes: Vec<u8>, words: &str) {
    let line = match File::from_bytes(bytes) {
        Ok(_) => panic!("accepted; expected {words:?}"),
        Err(error) => error.to_string(),
    };
    assert!(line.contains(words), "{line:?} lacks {words:?}");
    assert!(!line.contains('\n') && line.len() < 400, "not a short line: {line:?}");
}

fn accept(change: impl FnOnce(&mut Draft)) {
    let mut draft = Draft::new();
    change(&mut draft);
    File::from_bytes(draft.bytes()).unwrap();
}

#[test]
fn the_draft_is_valid() {
    let draft = Draft::new();
    assert_eq!(draft.bytes().len(), DATA_AT + draft.data.len());
    accept(|_| {});
}

#[test]
fn header() {
    check_bytes(vec![], "is empty (0 bytes)");
    check_bytes(b"GGU".to_vec(), "only 3 bytes long");
    check(|d| d.magic = b"FUGG", "starts with `FUGG`, not `GGUF`");
    check(|d| d.version = 0, "GGUF version 0; accepted: 2 and 3 [at byte 4]");
    check(|d| d.version = 1, "GGUF version 1 is obsolete");
    check(|d| d.version = 4, "GGUF version 4");
    check(|d| d.version = 3 << 24, "big-endian");
    for n in [u64::MAX, 1 << 63, 1 << 40] {
        let left = Draft::new().bytes().len() - 24;
        let cannot = format!("{n} tensors cannot fit in the {left} bytes left");
        check(|d| d.n_tensors = Some(n), &cannot);
        let cannot = format!("{n} keys cannot fit in the {left} bytes left");
        check(|d| d.n_keys = Some(n), &cannot);
    }
    check(|d| d.n_tensors = Some(4), "tensor 4 of 4: ");
    check(|d| d.n_keys = Some(3), "tensor 1 of 3: its name is empty");
    check(|d| d.n_keys = Some(1), "tensor `general.alignment`: ");
}

#[test]
fn keys() {
    let add = |name: &'static [u8], kind: u32, value: Vec<u8>| {
        move |d: &mut Draft| d.keys.push(key(name, kind, &value))
    };
    let raw = |bytes: Vec<u8>| move |d: &mut Draft| d.keys.push(bytes);
    let max = u64::MAX.to_le_bytes();
    check(raw([&max[..], b"x"].concat()), "key 3 of 3: its name claims 18446744073709551615 bytes");
    check(raw([&(1u64 << 31).to_le_bytes()[..], b"x"].concat()), "claims 2147483648 bytes");
    check(add(b"", 4, vec![0; 4]), "key 3 of 3: its name is empty");
    check(add(b"\xff\xfe", 4, vec![0; 4]), "its name is not valid UTF-8 (byte 0xff)");
    check(add(b"general.alignment", 4, vec![0; 4]), "`general.alignment`: appears twice");
    check(raw(key(&vec![b'k'; 70_000], 0, &[0])), "its name has 70000 bytes; accepted: 1 to 65535");
    check(add(b"x", 13, vec![0; 4]), "key `x`: the value type is 13; accepted: 0 (u8) to 12");
    check(add(b"x", u32::MAX, vec![0; 4]), "key `x`: the value type is 4294967295");
    check(add(b"a\nb", 13, vec![]), r"key `a\nb`: ");
    check(add(b"x", 8, [&max[..], b"abc"].concat()), "key `x`: a string claims");
    let gib = (1u64 << 30).to_le_bytes();
    check(add(b"x", 8, [&gib[..], b"abc"].concat()), "a string claims 1073741824 bytes");
    check(add(b"x", 8, string(b"ok\xc3(")), "key `x`: a string is not valid UTF-8 (byte 0xc3)");
    check(add(b"x", 7, vec![2]), "key `x`: a bool holds 2; accepted: 0 or 1");
}

#[test]
fn arrays() {
    let fault = |value: Vec<u8>, words: &str| {
        check(|d| d.keys.push(key(b"x", 9, &value)), words);
        check(|d| d.keys.push(key(b"x", 9, &value)), "key `x`: ");
    };
    fault(array(0, u64::MAX, &[]), "18446744073709551615 array elements cannot fit");
    fault(array(10, 1 << 61, &[0; 8]), "array elements cannot fit");
    fault(array(8, 1 << 40, &[]), "array elements cannot fit");
    fault(array(99, 1, &[0; 8]), "the array's element type is 99; accepted: 0 (u8) to 12 (f64)");
    fault(array(7, 2, &[1, 3]), "a bool holds 3");
    fault(array(8, 1, &string(b"\xff")), "not valid UTF-8 (byte 0xff)");
    fault(array(9, 1 << 40, &[]), "array elements cannot fit");
    let nested = |depth: usize| {
        let mut bytes = array(9, 1, &[]).repeat(depth);
        bytes.extend(array(0, 1, &[1]));
        bytes
    };
    fault(nested(2), "arrays are nested three deep");
    fault(nested(100_000), "arrays are nested three deep");
    accept(|d| d.keys.push(key(b"x", 9, &nested(1))));
    accept(|d| d.keys.push(key(b"x", 9, &array(8, 0, &[]))));
}

#[test]
fn alignment() {
    let set = |kind: u32, value: &[u8]| {
        let entry = key(b"general.alignment", kind, value);
        move |d: &mut Draft| d.keys[1] = entry
    };
    for bad in [0u32, 13, 1 << 21, 1 << 31] {
        let words = format!("`general.alignment`: found {bad}, accepted: a power of two");
        check(set(4, &bad.to_le_bytes()), &words);
    }
    check(set(5, &[255; 4]), "`general.alignment`: found -1, accepted: 0 to");
    check(set(8, &string(b"32")), "`general.alignment`: found string `32`, accepted: an integer");
    check(set(6, &32f32.to_le_bytes()), "found f32 32, accepted: an integer");
    accept(set(5, &32i32.to_le_bytes()));
    accept(set(0, &[16]));
}

#[test]
fn tensor_entries() {
    let out = |change: fn(&mut Entry), words: &str| {
        check(|d| change(&mut d.tensors[1]), words);
        check(|d| change(&mut d.tensors[1]), "tensor `out`: ");
    };
    check(
        |d| d.tensors[1].name = u64::MAX.to_le_bytes().to_vec(),
        "tensor 2 of 3: its name claims",
    );
    check(|d| d.tensors[1].name = string(b""), "tensor 2 of 3: its name is empty");
    check(|d| d.tensors[1].name = string(b"\xff"), "tensor 2 of 3: its name is not valid UTF-8");
    check(
        |d| d.tensors[1].name = string(b"up"),
        "tensor `up`: appears twice; the first is at byte",
    );
    out(|t| t.n_dims = Some(0), "0 dimensions; accepted: 1 to 4");
    out(|t| t.dims = vec![32, 1, 1, 1, 1], "5 dimensions; accepted: 1 to 4");
    out(|t| t.n_dims = Some(u32::MAX), "4294967295 dimensions");
    out(|t| t.dims = vec![64, 0], "shape [64, 0] has a zero");
    out(|t| t.dims = vec![u64::MAX, 2], "shape [18446744073709551615, 2] has over 2^64 elements");
    out(|t| t.dims = vec![1 << 33, 1 << 33], "over 2^64 elements");
    out(|t| (t.dims, t.dtype) = (vec![1 << 62, 2], F32), "of F32 takes over 2^64 bytes");
    out(|t| t.dims = vec![65, 2], "a row of 65 values is not a multiple of 32, the block of Q8_0");
    out(|t| t.dtype = 4, "type 4 (Q4_2) was removed");
    out(|t| t.dtype = 33, "type 33 (Q4_0_8_8) was removed");
    out(|t| t.dtype = 255, "type 255 is unknown");
    out(|t| t.dtype = u32::MAX, "type 4294967295 is unknown");
}

#[test]
fn tensor_data() {
    let out = |change: fn(&mut Entry), words: &str| {
        check(|d| change(&mut d.tensors[1]), words);
        check(|d| change(&mut d.tensors[1]), "tensor `out`: ");
    };
    let aligned_max = "offset 18446744073709551584 lies past the end of the file (512 bytes)";
    out(|t| t.offset = u64::MAX, "is not a multiple of the alignment 32");
    out(|t| t.offset = u64::MAX - 31, aligned_max);
    out(|t| t.offset = 33, "offset 33 is not a multiple of the alignment 32");
    out(|t| t.offset = 1 << 32, "offset 4294967296 lies past the end of the file (512 bytes)");
    out(|t| t.offset = 256, "offset 256 lies past the end of the file (512 bytes)");
    out(
        |t| t.dims = vec![64, 2000],
        "its data takes 136000 bytes from byte 288, but the file ends",
    );
    out(|t| t.dims = vec![1 << 62, 1], "its data takes");
    out(|t| t.offset = 0, "its data at byte 256 overlaps that of tensor `norm`, bytes 256 to 288");
    check(|d| d.tensors[0].offset = 32, "tensor `out`: its data at byte 288 overlaps");
    check(|d| d.data.truncate(255), "tensor `up`: its data takes 64 bytes from byte 448");
    check(|d| d.data.clear(), "tensor `norm`: the data section should start at byte 256");
    accept(|d| d.data.extend([0xaa; 4097]));
    accept(|d| {
        d.tensors.clear();
        d.data.clear();
    });
    // Data may lie in any order and with gaps.
    accept(|d| (d.tensors[0].offset, d.tensors[1].offset) = (160, 0));
}

#[test]
fn every_truncation() {
    let bytes = Draft::new().bytes();
    for len in 0..bytes.len() {
        check_bytes(bytes[..len].to_vec(), "");
    }
}
