//! A tensor of the file, proven to have the expected shape and a type that runs.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use qwire_gguf::{File, Tensor};
use qwire_kernels::quant::{FORMATS, Format, format};

/// Why a model could not be loaded: one line that names key or tensor, what was found, what is
/// accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError(pub String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

impl From<qwire_gguf::Error> for LoadError {
    fn from(error: qwire_gguf::Error) -> Self {
        Self(error.to_string())
    }
}

/// A tensor's bytes, still in the file: [count, rows, k] row by row.
#[derive(Clone)]
pub struct Weights {
    file: Arc<File>,
    tensor: Tensor,
    /// How its bytes unpack.
    pub format: &'static Format,
    /// Matrices of this shape, one after the other (experts); else 1.
    pub count: usize,
    /// Rows of one.
    pub rows: usize,
    /// Values of a row.
    pub k: usize,
}

impl Weights {
    /// Proves shape and type. `dims` is GGUF's order: k first.
    pub fn bind(file: &Arc<File>, name: &str, dims: &[usize]) -> Result<Self, LoadError> {
        let tensor = file.tensor(name).ok_or_else(|| {
            LoadError(format!("tensor `{name}` is missing; expected one of shape {dims:?}"))
        })?;
        let found: Vec<usize> = tensor.dims.iter().map(|dim| *dim as usize).collect();
        // A trailing dimension of 1 may be written or not.
        let trimmed = |dims: &[usize]| {
            let end = dims.iter().rposition(|dim| *dim != 1).map_or(1, |last| last + 1);
            dims[..end].to_vec()
        };
        if trimmed(&found) != trimmed(dims) {
            let shapes = format!("has shape {found:?}; expected {dims:?}");
            return Err(LoadError(format!("tensor `{name}` {shapes}")));
        }
        let Some(format) = format(tensor.dtype.id()) else {
            let runs: Vec<_> = FORMATS.iter().map(|format| format.name).collect();
            let types = format!("has type {}, which cannot run", tensor.dtype.name());
            let runs = runs.join(", ");
            return Err(LoadError(format!("tensor `{name}` {types}; types that can: {runs}")));
        };
        let dim = |i: usize| dims.get(i).copied().unwrap_or(1);
        let tensor = tensor.clone();
        Ok(Self { file: file.clone(), tensor, format, count: dim(2), rows: dim(1), k: dim(0) })
    }

    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.tensor.name
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        self.file.data(&self.tensor)
    }

    /// Says that all rows will be read, in order.
    pub fn stream(&self) {
        self.file.stream(&self.tensor);
    }

    /// Says that rows over all matrices will not be read soon: somebody has a copy.
    pub fn release(&self, rows: Range<usize>) {
        self.file.release(&self.tensor, self.bytes_of(rows));
    }

    /// Rows `first..first + rows` over all matrices, as bytes.
    pub fn row_bytes(&self, first: usize, rows: usize) -> &[u8] {
        &self.bytes()[self.bytes_of(first..first + rows)]
    }

    fn bytes_of(&self, rows: Range<usize>) -> Range<usize> {
        let len = self.format.row_bytes(self.k);
        rows.start * len..rows.end * len
    }

    /// One row over all matrices, exact.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        self.format.dequantise(self.row_bytes(index, 1), out);
    }

    /// Every value, exact. For vectors and other small tensors.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.count * self.rows * self.k];
        self.format.dequantise(self.bytes(), &mut values);
        values
    }
}
