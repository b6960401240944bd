//! Shard: one GGUF file, parsed from its first byte to its last tensor.

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::error::Error;
use crate::mapping::Source;
use crate::metadata::{self, KEYS_AT, Metadata};
use crate::tensor::{self, TENSORS_AT, Tensor, read_directory};
use crate::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAX_ALIGNMENT};

pub(crate) struct Shard {
    pub(crate) source: Arc<Source>,
    pub(crate) version: u32,
    pub(crate) alignment: u64,
    /// Bytes of header, metadata and directory.
    pub(crate) head_bytes: usize,
}

struct Header {
    version: u32,
    tensors: u64,
    keys: u64,
}

/// What files start with that are given to us by mistake.
const NOT_GGUF: [(&[u8], &str); 8] = [
    (b"version https://git-lfs", "a Git LFS pointer: the model itself was not downloaded"),
    (b"<", "a web page or XML: the download went wrong"),
    (b"PK\x03\x04", "a ZIP archive or PyTorch checkpoint: convert it to GGUF"),
    (b"tjgg", "an older ggml format: convert the model again"),
    (b"lmgg", "an older ggml format: convert the model again"),
    (b"fmgg", "an older ggml format: convert the model again"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive: unpack it first"),
];

impl Shard {
    /// Parses `source` as the file number `no` of a model and adds its tensors.
    pub(crate) fn read(
        source: Source,
        no: u32,
        tensors: &mut Vec<Tensor>,
    ) -> Result<(Shard, Metadata), Error> {
        let source = Arc::new(source);
        let mut parse = || {
            let mut cursor = Cursor::new(source.bytes());
            let header = Header::read(&mut cursor)?;
            let metadata = Metadata::read(&source, &mut cursor, header.keys)?;
            let alignment = alignment(&metadata)?;
            read_directory(&mut cursor, header.tensors, no, alignment, tensors)?;
            let head_bytes = cursor.position() as usize;
            let (source, version) = (source.clone(), header.version);
            Ok((Shard { source, version, alignment, head_bytes }, metadata))
        };
        parse().map_err(|error: Error| error.in_file(source.path()))
    }
}

impl Header {
    fn read(cursor: &mut Cursor<'_>) -> Result<Header, Error> {
        check_magic(cursor)?;
        let version = cursor.u32("the header")?;
        check_version(version).map_err(|problem| Error::new(problem).at(4))?;
        let tensors = cursor.u64("the header")?;
        let keys = cursor.u64("the header")?;
        let check = |n, min_bytes, what, at| {
            cursor.check_count(n, min_bytes, what).map_err(|error| error.at(at))
        };
        check(tensors, tensor::MIN_ENTRY_BYTES, "tensors", TENSORS_AT)?;
        check(keys, metadata::MIN_ENTRY_BYTES, "keys", KEYS_AT)?;
        Ok(Header { version, tensors, keys })
    }
}

fn check_magic(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    let bytes = cursor.clone().bytes(cursor.remaining(), "the file")?;
    if bytes.len() < 4 {
        return Err(Error::new(format!("not a GGUF file: only {} bytes long", bytes.len())));
    }
    let magic = cursor.bytes(4, "the header")?;
    if magic == b"GGUF" {
        return Ok(());
    }
    let guess = NOT_GGUF.iter().find(|(start, _)| bytes.starts_with(start));
    let safetensors = bytes.get(8) == Some(&b'{') && bytes.get(4..8) == Some(&[0; 4]);
    let guess = match guess {
        Some((_, guess)) => format!("; it looks like {guess}"),
        None if safetensors => "; it looks like a safetensors file: convert it to GGUF".into(),
        None => String::new(),
    };
    let found = magic.escape_ascii();
    Err(Error::new(format!("not a GGUF file: it starts with `{found}`, not `GGUF`{guess}")).at(0))
}

fn check_version(version: u32) -> Result<(), String> {
    match version {
        2 | 3 => Ok(()),
        1 => Err("GGUF version 1 is obsolete; accepted: 2 and 3 (convert the model again)".into()),
        _ if (1..=3).contains(&version.swap_bytes()) => {
            Err("a big-endian GGUF file; accepted: little-endian (convert the model again)".into())
        }
        _ => Err(format!("GGUF version {version}; accepted: 2 and 3")),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, Error> {
    let alignment = metadata.u64(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    check_alignment(alignment).map_err(|problem| metadata.invalid(ALIGNMENT_KEY, problem))?;
    Ok(alignment)
}

pub(crate) fn check_alignment(alignment: u64) -> Result<(), String> {
    if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        return Ok(());
    }
    Err(format!("found {alignment}, accepted: a power of two from 1 to {MAX_ALIGNMENT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let source = Source::from_bytes(bytes.to_vec().into()).unwrap();
        let error = Shard::read(source, 0, &mut vec![]).err().expect("an error").to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }

    #[test]
    fn files_of_another_format_are_recognised() {
        check(b"GGU", "not a GGUF file: only 3 bytes long");
        check(b"FUGGxxxxxxxx", "it starts with `FUGG`, not `GGUF` [at byte 0]");
        check(b"\x00\x01\n\xffxxxxxxxx", r"it starts with `\x00\x01\n\xff`, not `GGUF`");
        check(b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer");
        check(b"<!DOCTYPE html>", "a web page");
        check(b"\x10\0\0\0\0\0\0\0{\"a\":1}", "a safetensors file");
    }

    #[test]
    fn headers() {
        let header = |version: u32, tensors: u64, keys: u64| {
            let counts = [tensors.to_le_bytes(), keys.to_le_bytes()].concat();
            [b"GGUF".as_slice(), &version.to_le_bytes(), &counts].concat()
        };
        check(&header(1, 0, 0), "GGUF version 1 is obsolete; accepted: 2 and 3");
        check(&header(0, 0, 0), "GGUF version 0; accepted: 2 and 3 ");
        check(&header(4, 0, 0), "GGUF version 4; accepted: 2 and 3 ");
        check(&header(3 << 24, 0, 0), "a big-endian GGUF file; accepted: little-endian");
        check(&header(3, 1, 0), "1 tensors cannot fit in the 0 bytes left (at most 0) [at byte 8]");
        check(
            &header(3, 0, u64::MAX),
            "keys cannot fit in the 0 bytes left (at most 0) [at byte 16]",
        );
        check(
            &header(3, 0, 0)[..23],
            "ends inside the header: it needs 8 bytes, 7 left [at byte 16]",
        );
    }
}
