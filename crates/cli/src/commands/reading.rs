//! Reading: what a step must read of the weights, and how many products it makes with them.
//!
//! Which experts rows visit is only known after the fact; where several rows share a step they are
//! taken to choose evenly, each for itself, which is what random tokens come close to.

use qwire_gguf::{File, Tensor};
use qwire_model::Shape;

/// Tensors that are read together.
#[derive(Clone, Copy, Default, Debug)]
struct Part {
    bytes: u64,
    parameters: u64,
    products: u64, // parameters of matrices
}

impl Part {
    fn add(&mut self, tensor: &Tensor) {
        let values = tensor.elements();
        self.bytes += tensor.len_bytes();
        self.parameters += values;
        self.products += if tensor.dims.len() > 1 { values } else { 0 };
    }
}

/// The weights by when they are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    always: Part,
    head: Part,
    routed: Part,
    looked_up: Part, // the embedding, unless it is the head too
    embedding_row_bytes: u64,
    used: usize,
    experts: usize,
}

impl Reading {
    /// Sorts a file's tensors. Without a shape nothing is known to be routed.
    pub fn of(file: &File, shape: Option<&Shape>) -> Self {
        let [mut always, mut head, mut routed, mut looked_up] = [Part::default(); 4];
        let tied = file.tensor("output.weight").is_none();
        let mut embedding_row_bytes = 0;
        for tensor in file.tensors() {
            match tensor.name.as_str() {
                "output.weight" => head.add(tensor),
                "token_embd.weight" if tied => head.add(tensor),
                "token_embd.weight" => {
                    looked_up.add(tensor);
                    embedding_row_bytes = tensor.row_bytes();
                }
                name if name.contains("_exps.") && shape.is_some() => routed.add(tensor),
                _ => always.add(tensor),
            }
        }
        let (used, experts) = shape.map_or((1, 1), |shape| (shape.routing.used, shape.experts));
        Self { always, head, routed, looked_up, embedding_row_bytes, used, experts }
    }

    /// The experts that a token visits, and everything else.
    pub fn active_parameters(&self) -> u64 {
        let rest = self.always.parameters + self.head.parameters + self.looked_up.parameters;
        rest + self.visited(self.routed.parameters)
    }

    /// What one token alone reads: those, but one row of an embedding that is not the head.
    pub fn active_bytes(&self) -> u64 {
        let rest = self.always.bytes + self.head.bytes + self.embedding_row_bytes;
        rest + self.visited(self.routed.bytes)
    }

    /// Bytes of weights that a step of so many rows reads, with the head or without it.
    pub fn step_bytes(&self, rows: usize, head: bool) -> f64 {
        let missed = libm::pow(1.0 - self.used as f64 / self.experts as f64, rows as f64);
        let experts = self.routed.bytes as f64 * (1.0 - missed);
        let head = if head { self.head.bytes } else { 0 };
        (self.always.bytes + head + self.embedding_row_bytes * rows as u64) as f64 + experts
    }

    /// Products of a weight and an activation for one row, without the head.
    pub fn row_products(&self) -> u64 {
        self.always.products + self.visited(self.routed.products)
    }

    /// Products of the head for one row.
    pub fn head_products(&self) -> u64 {
        self.head.products
    }

    fn visited(&self, all: u64) -> u64 {
        (u128::from(all) * self.used as u128 / self.experts.max(1) as u128) as u64
    }
}
