//! Weights: which formats the tensors have, how many parameters, and what one token reads.

use std::collections::BTreeMap;

use qwire_gguf::{File, Tensor};
use qwire_model::Shape;
use serde::Serialize;

use crate::commands::reading::Reading;

/// All tensors together.
#[derive(Serialize)]
pub struct WeightFacts {
    pub bytes: u64,
    pub parameters: u64,
    /// The experts that a token visits, and everything else.
    pub active_parameters: u64,
    /// What a token reads: those, but one row of the embedding, unless that is the head too.
    pub active_bytes_per_token: u64,
    pub formats: Vec<FormatFacts>,
}

/// The tensors of one format.
#[derive(Serialize)]
pub struct FormatFacts {
    pub format: &'static str,
    pub tensors: usize,
    pub parameters: u64,
    pub bytes: u64,
    pub share: f64,
}

/// One tensor.
#[derive(Serialize)]
pub struct TensorFacts {
    pub name: String,
    pub shape: Vec<u64>,
    pub format: &'static str,
    pub bytes: u64,
}

impl TensorFacts {
    pub fn of(tensor: &Tensor) -> Self {
        Self {
            name: tensor.name.clone(),
            shape: tensor.dims.clone(),
            format: tensor.dtype.name(),
            bytes: tensor.len_bytes(),
        }
    }
}

impl WeightFacts {
    pub fn of(file: &File, shape: Option<&Shape>) -> Self {
        let mut formats: BTreeMap<&str, FormatFacts> = BTreeMap::new();
        let (mut bytes, mut parameters) = (0, 0);
        let reading = Reading::of(file, shape);
        for tensor in file.tensors() {
            let (values, len) = (tensor.elements(), tensor.len_bytes());
            let format = tensor.dtype.name();
            let empty = FormatFacts { format, tensors: 0, parameters: 0, bytes: 0, share: 0.0 };
            let entry = formats.entry(format).or_insert(empty);
            entry.tensors += 1;
            entry.parameters += values;
            entry.bytes += len;
            parameters += values;
            bytes += len;
        }
        let mut formats: Vec<_> = formats.into_values().collect();
        for format in &mut formats {
            format.share = format.bytes as f64 / bytes.max(1) as f64;
        }
        formats.sort_by_key(|format| std::cmp::Reverse(format.bytes));
        Self {
            bytes,
            parameters,
            active_parameters: reading.active_parameters(),
            active_bytes_per_token: reading.active_bytes(),
            formats,
        }
    }
}
