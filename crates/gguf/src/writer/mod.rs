//! Writer: a GGUF version 3 file, streamed in constant memory, the same bytes for the same calls.
//!
//! Metadata and tensors are declared first, which fixes every offset; [`Writer::begin`] writes
//! the header, and [`Data`] takes the bytes of the tensors in the declared order, in chunks of any
//! size, and pads them. What the reader would refuse is refused here.

mod owned;

use std::collections::{HashSet, VecDeque};
use std::io::Write;

use crate::error::{Error, quoted};
use crate::metadata::check_name;
use crate::shard::check_alignment;
use crate::tensor::data_bytes;
use crate::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Dtype, Value};
use owned::{put_string, put_u32, put_u64, put_value};

pub use owned::{OwnedArray, OwnedValue};

/// The metadata and tensor directory of a file to be.
#[derive(Debug)]
pub struct Writer {
    alignment: u64,
    keys: HashSet<String>,
    /// The encoded entries.
    metadata: Vec<u8>,
    names: HashSet<String>,
    /// The encoded entries.
    directory: Vec<u8>,
    /// Names and sizes of the tensors in order.
    declared: VecDeque<(String, u64)>,
    data_bytes: u64,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer {
            alignment: DEFAULT_ALIGNMENT,
            keys: HashSet::new(),
            metadata: Vec::new(),
            names: HashSet::new(),
            directory: Vec::new(),
            declared: VecDeque::new(),
            data_bytes: 0,
        }
    }
}

impl Writer {
    /// A file whose tensors are aligned to `alignment` bytes. The usual 32 needs no key; for
    /// another, the key that says so is written first.
    pub fn new(alignment: u64) -> Writer {
        if let Err(problem) = check_alignment(alignment) {
            panic!("{ALIGNMENT_KEY}: {problem}");
        }
        let mut writer = Writer { alignment, ..Writer::default() };
        if alignment != DEFAULT_ALIGNMENT {
            writer.put_entry(ALIGNMENT_KEY, Value::U32(alignment as u32)).expect("the first key");
        }
        writer
    }

    /// Adds a key, in the order of the calls. `general.alignment` is only accepted where it says
    /// what [`Writer::new`] was given.
    pub fn metadata(
        &mut self,
        key: &str,
        value: impl Into<OwnedValue>,
    ) -> Result<&mut Writer, Error> {
        let value = value.into();
        if key == ALIGNMENT_KEY {
            let accepted = self.alignment;
            if value.borrow().integer() != Some(accepted.into()) {
                let problem = format!("found {}, the writer aligns to {accepted}", value.borrow());
                return Err(key_error(key, problem));
            }
            if accepted != DEFAULT_ALIGNMENT {
                return Ok(self);
            }
        }
        self.put_entry(key, value.borrow())?;
        Ok(self)
    }

    fn put_entry(&mut self, key: &str, value: Value<'_>) -> Result<(), Error> {
        check_name(key).map_err(|problem| key_error(key, problem))?;
        if !self.keys.insert(key.to_string()) {
            return Err(key_error(key, "was already added"));
        }
        put_string(&mut self.metadata, key);
        put_u32(&mut self.metadata, value.kind() as u32);
        put_value(&mut self.metadata, value);
        Ok(())
    }

    /// Declares the next tensor.
    pub fn tensor(&mut self, name: &str, dims: &[u64], dtype: Dtype) -> Result<&mut Writer, Error> {
        let about = |problem: String| tensor_error(name, problem);
        check_name(name).map_err(about)?;
        let len = data_bytes(dims, dtype).map_err(about)?;
        let offset = self.data_bytes;
        self.data_bytes = len
            .checked_next_multiple_of(self.alignment)
            .and_then(|padded| padded.checked_add(offset))
            .ok_or_else(|| about("makes the file larger than 2^64 bytes".into()))?;
        if !self.names.insert(name.to_string()) {
            return Err(about("was already added".into()));
        }
        put_string(&mut self.directory, name);
        put_u32(&mut self.directory, dims.len() as u32);
        for &dim in dims {
            put_u64(&mut self.directory, dim);
        }
        put_u32(&mut self.directory, dtype.id());
        put_u64(&mut self.directory, offset);
        self.declared.push_back((name.to_string(), len));
        Ok(self)
    }

    /// The size of the whole file.
    pub fn len_bytes(&self) -> u64 {
        self.header_bytes().next_multiple_of(self.alignment).saturating_add(self.data_bytes)
    }

    fn header_bytes(&self) -> u64 {
        (4 + 4 + 8 + 8 + self.metadata.len() + self.directory.len()) as u64
    }

    /// Writes everything up to the data of the first tensor.
    pub fn begin<W: Write>(self, mut out: W) -> Result<Data<W>, Error> {
        let mut start = b"GGUF".to_vec();
        put_u32(&mut start, 3);
        put_u64(&mut start, self.declared.len() as u64);
        put_u64(&mut start, self.keys.len() as u64);
        for part in [&start, &self.metadata, &self.directory] {
            out.write_all(part).map_err(Error::write)?;
        }
        pad(&mut out, self.header_bytes(), self.alignment)?;
        Ok(Data { out, alignment: self.alignment, declared: self.declared, given: 0 })
    }
}

/// The data section of a file being written.
#[derive(Debug)]
pub struct Data<W> {
    out: W,
    alignment: u64,
    /// Names and sizes of the tensors that are not complete.
    declared: VecDeque<(String, u64)>,
    /// Bytes of the first of them that were written.
    given: u64,
}

impl<W: Write> Data<W> {
    /// Writes the next tensor in one piece.
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some((name, len)) = self.declared.front()
            && self.given + bytes.len() as u64 != *len
        {
            let given = self.given + bytes.len() as u64;
            return Err(tensor_error(name, format!("was given {given} bytes of {len}")));
        }
        self.write(bytes)
    }

    /// Writes the next bytes of the current tensor, and its padding once it is complete.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        if chunk.is_empty() {
            return Ok(());
        }
        let Some((name, len)) = self.declared.front() else {
            return Err(Error::new(format!(
                "{} bytes were given after the last tensor",
                chunk.len()
            )));
        };
        let given = self.given + chunk.len() as u64;
        if given > *len {
            return Err(tensor_error(name, format!("was given {given} bytes of {len}")));
        }
        self.out.write_all(chunk).map_err(Error::write)?;
        self.given = given;
        if given == *len {
            pad(&mut self.out, given, self.alignment)?;
            self.declared.pop_front();
            self.given = 0;
        }
        Ok(())
    }

    /// Proves that every tensor is complete, flushes, and gives the sink back.
    pub fn finish(mut self) -> Result<W, Error> {
        if let Some((name, len)) = self.declared.front() {
            return Err(tensor_error(name, format!("was given {} bytes of {len}", self.given)));
        }
        self.out.flush().map_err(Error::write)?;
        Ok(self.out)
    }
}

fn key_error(key: &str, problem: impl Into<String>) -> Error {
    Error::new(problem).about(|| format!("key {}", quoted(key)))
}

fn tensor_error(name: &str, problem: impl Into<String>) -> Error {
    Error::new(problem).about(|| format!("tensor {}", quoted(name)))
}

/// Writes zeros after `len` bytes up to a multiple of `alignment`.
fn pad(out: &mut impl Write, len: u64, alignment: u64) -> Result<(), Error> {
    let zeros = [0; 4096];
    let mut left = len.next_multiple_of(alignment) - len;
    while left > 0 {
        let chunk = left.min(zeros.len() as u64);
        out.write_all(&zeros[..chunk as usize]).map_err(Error::write)?;
        left -= chunk;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<T>(found: Result<T, Error>) -> String {
        found.err().expect("an error").to_string()
    }

    #[test]
    fn declarations_are_checked() {
        let mut writer = Writer::new(64);
        writer.metadata("a", 1u8).unwrap().metadata(ALIGNMENT_KEY, 64u32).unwrap();
        let aligned = line(writer.metadata(ALIGNMENT_KEY, 32u32));
        assert_eq!(aligned, "key `general.alignment`: found 32, the writer aligns to 64");
        assert_eq!(line(writer.metadata("a", 2u8)), "key `a`: was already added");
        assert_eq!(line(writer.metadata("", 2u8)), "key ``: its name is empty");
        writer.tensor("t", &[3], Dtype::F32).unwrap();
        assert_eq!(line(writer.tensor("t", &[3], Dtype::F32)), "tensor `t`: was already added");
        assert!(line(writer.tensor("u", &[3], Dtype::Q8_0)).contains("not a multiple of 32"));
        assert!(
            line(
                writer
                    .tensor("u", &[1 << 62], Dtype::I8)
                    .and_then(|writer| { writer.tensor("v", &[1 << 62, 3], Dtype::I8) })
            )
            .contains("larger than 2^64")
        );
    }

    #[test]
    #[should_panic(expected = "found 13, accepted: a power of two")]
    fn alignment_is_a_power_of_two() {
        Writer::new(13);
    }

    #[test]
    fn data_must_be_what_was_declared() {
        let begin = || {
            let mut writer = Writer::default();
            writer.tensor("a", &[3], Dtype::I8).unwrap().tensor("b", &[40], Dtype::I8).unwrap();
            let len = writer.len_bytes();
            (writer.begin(vec![]).unwrap(), len)
        };
        let (mut data, len) = begin();
        data.write(&[1]).unwrap();
        data.write(&[]).unwrap();
        data.write(&[2, 3]).unwrap();
        data.tensor(&[7; 40]).unwrap();
        assert_eq!(line(data.write(&[1])), "1 bytes were given after the last tensor");
        let bytes = data.finish().unwrap();
        assert_eq!(bytes.len() as u64, len);
        assert_eq!(
            bytes[len as usize - 96..][..35],
            [[1, 2, 3].as_slice(), &[0; 29], &[7; 3]].concat()
        );

        let (mut data, _) = begin();
        assert_eq!(line(data.tensor(&[1; 2])), "tensor `a`: was given 2 bytes of 3");
        assert_eq!(line(data.write(&[1; 4])), "tensor `a`: was given 4 bytes of 3");
        data.tensor(&[1; 3]).unwrap();
        data.write(&[1; 39]).unwrap();
        assert_eq!(line(data.finish()), "tensor `b`: was given 39 bytes of 40");
    }

    #[test]
    fn a_sink_that_fails_is_said_so() {
        let full: &mut [u8] = &mut [0; 30];
        assert!(line(Writer::default().begin(full)).starts_with("cannot write: "));
    }
}
