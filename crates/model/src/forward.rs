//! The forward pass. There is one.

use std::ops::Range;

use crate::backend::Backend;
use crate::batch::Batch;
use crate::model::Model;

/// Runs some layers over a batch. A prompt's chunk may be parked between layers: embedding happens
/// before the first one, the final norm after the last.
pub fn forward<B: Backend>(b: &mut B, m: &Model<B>, batch: &Batch, layers: Range<usize>) {
    b.begin(batch);
    if layers.start == 0 {
        b.embed(&m.token_embd, batch);
    }
    for layer in &m.layers[layers.clone()] {
        b.qkv(layer);
        b.attend(layer, batch);
        b.project(layer);
        b.route(layer);
        b.expand(&layer.experts);
        b.reduce(&layer.experts);
    }
    if layers.end == m.layers.len() {
        b.close(&m.output_norm, batch);
    }
}
