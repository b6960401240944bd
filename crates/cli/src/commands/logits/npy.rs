//! NumPy arrays: the header of a float32 matrix in C order, written and read. Nothing else of it.
//!
//! ```text
//! "\x93NUMPY" │ version u8 u8 │ length of the header u16 (u32 from version 2) │ header │ data
//! header      a Python dict in ASCII, ended by a newline, so that the data starts at 64 × n
//! ```

use std::io::Read;

const MAGIC: &[u8] = b"\x93NUMPY";
const MAX_HEADER_BYTES: usize = 1 << 16;

/// The bytes before the data.
pub fn header(rows: usize, columns: usize) -> Vec<u8> {
    let shape = format!("({rows}, {columns})");
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let before = MAGIC.len() + 2 + 2;
    let len = (before + dict.len() + 1).next_multiple_of(64) - before;
    let mut bytes = [MAGIC, &[1, 0], &(len as u16).to_le_bytes(), dict.as_bytes()].concat();
    bytes.resize(before + len - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// Rows of such an array, one after the other.
pub struct Reader<R> {
    source: R,
    bytes: Vec<u8>,
    row: Vec<f32>,
}

impl<R: Read> Reader<R> {
    /// Reads the header and proves that the array has this shape.
    pub fn open(mut source: R, rows: usize, columns: usize) -> Result<Self, String> {
        let mut start = [0; 8];
        source.read_exact(&mut start).map_err(|_| "is too short for a .npy file")?;
        if !start.starts_with(MAGIC) {
            return Err("is not a .npy file".into());
        }
        let wide = start[6] > 1;
        let mut len = [0; 4];
        let field = if wide { &mut len[..] } else { &mut len[..2] };
        source.read_exact(field).map_err(|_| "its header is cut off")?;
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_HEADER_BYTES {
            return Err(format!("its header has {len} bytes; accepted: {MAX_HEADER_BYTES}"));
        }
        let mut text = vec![0; len];
        source.read_exact(&mut text).map_err(|_| "its header is cut off")?;
        check(&String::from_utf8_lossy(&text), rows, columns)?;
        Ok(Self { source, bytes: vec![0; 4 * columns], row: vec![0.0; columns] })
    }

    /// The next row.
    pub fn row(&mut self) -> Result<&[f32], String> {
        self.source.read_exact(&mut self.bytes).map_err(|error| format!("its data: {error}"))?;
        for (value, bytes) in self.row.iter_mut().zip(self.bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(&self.row)
    }
}

fn check(header: &str, rows: usize, columns: usize) -> Result<(), String> {
    let dtype = entry(header, "descr").map(|value| value.trim_matches(['\'', '"']));
    if dtype != Some("<f4") {
        let found = dtype.unwrap_or("missing");
        return Err(format!("its type is {found}; accepted: <f4 (little-endian float32)"));
    }
    if entry(header, "fortran_order") != Some("False") {
        return Err("its order is Fortran's; accepted: C".into());
    }
    let shape: Option<Vec<usize>> = entry(header, "shape").and_then(|shape| {
        let numbers = shape.trim_matches(['(', ')']).split(',');
        numbers.map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect()
    });
    let expected = [rows, columns];
    if shape.as_deref() != Some(&expected) {
        let found = shape.map_or("missing".into(), |shape| format!("{shape:?}"));
        return Err(format!("its shape is {found}; expected {expected:?}"));
    }
    Ok(())
}

/// The value of a key in a Python dict of constants and tuples.
fn entry<'a>(dict: &'a str, key: &str) -> Option<&'a str> {
    let at = dict.find(&format!("'{key}'")).or_else(|| dict.find(&format!("\"{key}\"")))?;
    let rest = dict[at + key.len() + 2..].trim_start().strip_prefix(':')?.trim_start();
    let end = match rest.strip_prefix('(') {
        Some(inner) => inner.find(')')? + 2,
        None => rest.find([',', '}'])?,
    };
    Some(rest[..end].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (rows, columns) in [(1, 1), (2, 3), (123_456, 151_936)] {
            assert!(header(rows, columns).len().is_multiple_of(64));
            let bytes = header(rows, columns);
            let read = Reader::open(bytes.as_slice(), rows, columns);
            assert!(read.is_ok(), "{:?}", read.err());
        }
        let data = [1.0f32, -2.5, f32::MAX].map(f32::to_le_bytes).concat();
        let file = [header(1, 3), data].concat();
        let mut reader = Reader::open(file.as_slice(), 1, 3).unwrap();
        assert_eq!(reader.row(), Ok([1.0, -2.5, f32::MAX].as_slice()));
        assert!(reader.row().is_err());
    }

    #[test]
    fn other_arrays_are_refused() {
        let check = |file: &[u8], words: &str| {
            let fault = Reader::open(file, 2, 3).err().expect("a fault");
            assert!(fault.contains(words), "{fault:?} lacks {words:?}");
        };
        check(b"", "too short");
        check(b"not an array", "not a .npy");
        check(b"\x93NUMPY\x01\0\xff\xff{", "cut off");
        check(b"\x93NUMPY\x02\0\xff\xff\xff\xff{", "has 4294967295 bytes");
        check(&header(2, 4), "shape is [2, 4]; expected [2, 3]");
        let dict = |text: &str| [MAGIC, &[1, 0, text.len() as u8, 0], text.as_bytes()].concat();
        check(&dict("{}"), "type is missing");
        check(&dict("{'descr': '<f8', "), "type is <f8");
        check(&dict("{'descr': '<f4', 'fortran_order': True}"), "Fortran");
        check(&dict("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }"), "is [6]");
        check(&dict("{'descr': '<f4', 'fortran_order': False, 'shape': (x, }"), "missing");
    }
}
