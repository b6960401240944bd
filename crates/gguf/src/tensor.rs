//! Tensor: one entry of the directory, proven to describe bytes that are in the file.

use crate::cursor::Cursor;
use crate::error::{Error, quoted};
use crate::metadata::{check_indexable, check_name};
use crate::{Dtype, MAX_DIMS};

/// A named array of numbers. `dims` is in the order of the file: `dims[0]` is the length of a
/// row, which is contiguous (K of a matrix), and the last is the slowest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tensor {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// One to four lengths, none of them zero.
    pub dims: Vec<u64>,
    /// The format of its numbers.
    pub dtype: Dtype,
    /// Which file of a split holds it.
    pub(crate) shard: u32,
    /// Where its data starts: from the data section while the directory is read, then absolute.
    pub(crate) start: u64,
    /// Where its entry in the directory starts.
    pub(crate) entry_at: u64,
}

/// Length of a name, one byte of it, number of dimensions, one dimension, dtype, offset.
pub(crate) const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;
/// Where the header counts the tensors.
pub(crate) const TENSORS_AT: u64 = 8;

impl Tensor {
    /// How many numbers it has.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// How many rows of `dims[0]` numbers it has.
    pub fn rows(&self) -> u64 {
        self.dims[1..].iter().product()
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> u64 {
        self.dims[0] / self.dtype.block_values() * self.dtype.block_bytes()
    }

    /// Bytes of its data, without padding.
    pub fn len_bytes(&self) -> u64 {
        self.rows() * self.row_bytes()
    }

    fn read(cursor: &mut Cursor<'_>, i: u64, n: u64, shard: u32) -> Result<Tensor, Error> {
        let ordinal = || format!("tensor {} of {n}", i + 1);
        let entry_at = cursor.position();
        let name = cursor.string("its name").map_err(|error| error.about(ordinal))?;
        check_name(name).map_err(|problem| Error::new(problem).at(entry_at).about(ordinal))?;
        let mut rest = || {
            let dims = read_dims(cursor)?;
            let dtype_at = cursor.position();
            let dtype = read_dtype(cursor)?;
            data_bytes(&dims, dtype).map_err(|problem| Error::new(problem).at(dtype_at))?;
            let start = cursor.u64("the offset")?;
            Ok(Tensor { name: name.into(), dims, dtype, shard, start, entry_at })
        };
        rest().map_err(|error: Error| error.about(|| format!("tensor {}", quoted(name))))
    }

    /// Turns the offset from the data section into one from the start of the file.
    fn place(&mut self, data_at: u64, alignment: u64, file_bytes: u64) -> Result<(), String> {
        let offset = self.start;
        if !offset.is_multiple_of(alignment) {
            return Err(format!("offset {offset} is not a multiple of the alignment {alignment}"));
        }
        let past = "lies past the end of the file";
        let start = data_at
            .checked_add(offset)
            .filter(|&start| start < file_bytes)
            .ok_or_else(|| format!("offset {offset} {past} ({file_bytes} bytes)"))?;
        let len = self.len_bytes();
        if file_bytes - start < len {
            return Err(format!(
                "its data takes {len} bytes from byte {start}, but the file ends at byte \
                 {file_bytes}: truncated?"
            ));
        }
        self.start = start;
        Ok(())
    }
}

/// Reads `n` entries from `cursor` and proves that their data is in the file, without overlap.
pub(crate) fn read_directory(
    cursor: &mut Cursor<'_>,
    n: u64,
    shard: u32,
    alignment: u64,
    tensors: &mut Vec<Tensor>,
) -> Result<(), Error> {
    cursor.check_count(n, MIN_ENTRY_BYTES, "tensors")?;
    check_indexable(n + tensors.len() as u64, "tensors")
        .map_err(|problem| Error::new(problem).at(TENSORS_AT))?;
    let first = tensors.len();
    tensors.reserve(n as usize);
    for i in 0..n {
        tensors.push(Tensor::read(cursor, i, n, shard)?);
    }
    // Positions lie inside a file, so rounding one up cannot wrap.
    let data_at = cursor.position().next_multiple_of(alignment);
    let file_bytes = cursor.position() + cursor.remaining();
    for tensor in &mut tensors[first..] {
        if data_at >= file_bytes {
            let problem = format!(
                "the data section should start at byte {data_at}, but the file has only \
                 {file_bytes}: truncated?"
            );
            return Err(tensor_error(tensor, problem));
        }
        let placed = tensor.place(data_at, alignment, file_bytes);
        placed.map_err(|problem| tensor_error(tensor, problem))?;
    }
    check_overlap(&tensors[first..])
}

/// "tensor `name`: `problem` [at byte of its entry]".
pub(crate) fn tensor_error(tensor: &Tensor, problem: impl Into<String>) -> Error {
    Error::new(problem).about(|| format!("tensor {}", quoted(&tensor.name))).at(tensor.entry_at)
}

fn read_dims(cursor: &mut Cursor<'_>) -> Result<Vec<u64>, Error> {
    let at = cursor.position();
    let n = cursor.u32("the number of dimensions")?;
    if n == 0 || n as usize > MAX_DIMS {
        return Err(Error::new(format!("{n} dimensions; accepted: 1 to {MAX_DIMS}")).at(at));
    }
    let mut dims = Vec::with_capacity(n as usize);
    for _ in 0..n {
        dims.push(cursor.u64("the dimensions")?);
    }
    Ok(dims)
}

fn read_dtype(cursor: &mut Cursor<'_>) -> Result<Dtype, Error> {
    let at = cursor.position();
    let id = cursor.u32("the type")?;
    Dtype::from_id(id).ok_or_else(|| {
        let problem = match Dtype::removed(id) {
            Some(name) => format!("type {id} ({name}) was removed from GGUF; requantise the model"),
            None => format!("type {id} is unknown; accepted: the ggml types 0 (F32) to 41 (Q1_0)"),
        };
        Error::new(problem).at(at)
    })
}

/// The bytes that such a tensor takes, or what is wrong with its shape.
pub(crate) fn data_bytes(dims: &[u64], dtype: Dtype) -> Result<u64, String> {
    if dims.is_empty() || dims.len() > MAX_DIMS {
        return Err(format!("{} dimensions; accepted: 1 to {MAX_DIMS}", dims.len()));
    }
    if dims.contains(&0) {
        return Err(format!("shape {dims:?} has a zero; accepted: 1 or more in each dimension"));
    }
    let elements = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let elements = elements.ok_or_else(|| format!("shape {dims:?} has over 2^64 elements"))?;
    let block = dtype.block_values();
    if !dims[0].is_multiple_of(block) {
        return Err(format!(
            "shape {dims:?}: a row of {} values is not a multiple of {block}, the block of {dtype}",
            dims[0]
        ));
    }
    (elements / block)
        .checked_mul(dtype.block_bytes())
        .ok_or_else(|| format!("shape {dims:?} of {dtype} takes over 2^64 bytes"))
}

fn check_overlap(tensors: &[Tensor]) -> Result<(), Error> {
    let mut by_start: Vec<u32> = (0..tensors.len() as u32).collect();
    by_start.sort_unstable_by_key(|&i| (tensors[i as usize].start, i));
    for pair in by_start.array_windows() {
        let [a, b] = pair.map(|i| &tensors[i as usize]);
        let end = a.start + a.len_bytes();
        if b.start < end {
            let (name, start) = (quoted(&a.name), a.start);
            let problem = format!(
                "its data at byte {} overlaps that of tensor {name}, bytes {start} to {end}",
                b.start
            );
            return Err(tensor_error(b, problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |dims: &[u64], dtype, rows, row_bytes| {
            let dims = dims.to_vec();
            let (shard, start, entry_at) = (0, 0, 0);
            let tensor = Tensor { name: "t".into(), dims, dtype, shard, start, entry_at };
            assert_eq!((tensor.rows(), tensor.row_bytes()), (rows, row_bytes));
            assert_eq!(tensor.elements(), rows * tensor.dims[0]);
            assert_eq!(data_bytes(&tensor.dims, dtype), Ok(tensor.len_bytes()));
        };
        check(&[5], Dtype::F32, 1, 20);
        check(&[64, 3], Dtype::Q8_0, 3, 68);
        check(&[512, 3, 4, 5], Dtype::Q4_K, 60, 288);
        check(&[256, 1, 2], Dtype::Q6_K, 2, 210);
    }

    #[test]
    fn shapes_that_are_refused() {
        let check = |dims: &[u64], dtype, words: &str| {
            let found = data_bytes(dims, dtype).unwrap_err();
            assert!(found.contains(words), "{found:?} lacks {words:?}");
        };
        check(&[], Dtype::F32, "0 dimensions; accepted: 1 to 4");
        check(&[1; 5], Dtype::F32, "5 dimensions; accepted: 1 to 4");
        check(&[32, 0], Dtype::F32, "[32, 0] has a zero");
        check(&[u64::MAX, 0], Dtype::F32, "has a zero");
        check(&[1 << 33, 1 << 33], Dtype::F32, "over 2^64 elements");
        check(&[1 << 32, 1 << 31], Dtype::F32, "takes over 2^64 bytes");
        check(
            &[33, 4],
            Dtype::Q8_0,
            "a row of 33 values is not a multiple of 32, the block of Q8_0",
        );
        check(&[128, 2], Dtype::Q4_K, "not a multiple of 256, the block of Q4_K");
        // Fits by 16 bytes and wraps only when padded: the end of the file refuses it.
        assert_eq!(data_bytes(&[4, (1 << 30) - 1, (1 << 30) + 1], Dtype::F32), Ok(u64::MAX - 15));
    }
}
