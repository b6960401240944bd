//! Synthetic: a model of true shape with random weights, for speed, memory and tests.
//!
//! ```text
//! Recipe { shape, mix, seed, layers, vocabulary }
//!   tensors      name, dims, format and deviation of every weight
//!   vocabulary   generated, or another file's; `template.jinja` beside it
//!   noise        bytes from (seed, tensor, position)  ->  Format::tame  ->  valid blocks
//! ```
//! The file is a function of the recipe alone: not of chunks, machine or time. Activations stay
//! near 1 throughout and logits are peaked, so that a run looks like one of a trained model to
//! everything but a reader. It speaks no language and measures nothing.

mod metadata;
mod mix;
mod noise;
mod shapes;
mod tensors;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use qwire_gguf::{File, Writer};

pub use mix::{MIXES, Mix, mix};
pub use shapes::{Experts, SHAPES, ShapePreset, shape};

use noise::Noise;
use tensors::Entry;
use vocabulary::Vocabulary;

/// Weights are made and written this many bytes at a time, or a little more.
const CHUNK_BYTES: usize = 4 << 20;

/// What a synthetic model is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Every size.
    pub shape: &'static ShapePreset,
    /// The formats of its weights.
    pub mix: &'static Mix,
    /// Decides every weight, together with a tensor's name.
    pub seed: u64,
    /// Only this many of the shape's layers, each as in the whole model.
    pub layers: Option<usize>,
    /// Takes tokens, types and merges from this file instead of generating them.
    pub vocabulary: Option<Arc<File>>,
}

impl Recipe {
    /// The whole shape with a vocabulary of its own.
    pub fn new(shape: &'static ShapePreset, mix: &'static Mix, seed: u64) -> Self {
        Self { shape, mix, seed, layers: None, vocabulary: None }
    }

    fn depth(&self) -> Result<usize, Error> {
        let depth = self.layers.unwrap_or(self.shape.layers);
        if depth == 0 || depth > self.shape.layers {
            return Err(Error::Layers { asked: depth, shape: self.shape });
        }
        Ok(depth)
    }
}

/// Why a recipe gave no file.
#[derive(Debug)]
pub enum Error {
    /// The vocabulary's file does not fit, or the sink failed.
    File(qwire_gguf::Error),
    /// The shape does not have so many layers.
    Layers {
        /// What the recipe wants.
        asked: usize,
        /// The shape.
        shape: &'static ShapePreset,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Layers { asked, shape } => {
                write!(f, "{asked} layers of {}; accepted: 1 to {}", shape.name, shape.layers)
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) => error.source(),
            Self::Layers { .. } => None,
        }
    }
}

impl From<qwire_gguf::Error> for Error {
    fn from(error: qwire_gguf::Error) -> Self {
        Self::File(error)
    }
}

/// The size of the file that [`write()`] writes.
pub fn len_bytes(recipe: &Recipe) -> Result<u64, Error> {
    Ok(declare(recipe)?.0.len_bytes())
}

/// Writes the model in constant memory. `progress` hears (bytes done, bytes) of weights.
pub fn write(
    recipe: &Recipe,
    out: impl Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    write_chunks(recipe, CHUNK_BYTES, out, progress)
}

/// The model in memory.
pub fn file(recipe: &Recipe) -> Result<Arc<File>, Error> {
    let mut bytes = Vec::with_capacity(len_bytes(recipe)? as usize);
    write(recipe, &mut bytes, &mut |_, _| {})?;
    Ok(Arc::new(File::from_bytes(bytes)?))
}

/// The header, and the tensors in its order.
fn declare(recipe: &Recipe) -> Result<(Writer, Vec<Entry>), Error> {
    let depth = recipe.depth()?;
    let vocabulary = match &recipe.vocabulary {
        None => Vocabulary::generate(recipe.shape.vocab),
        Some(file) => Vocabulary::borrow(file.metadata(), recipe.shape.vocab)?,
    };
    let mut writer = Writer::default();
    metadata::declare(&mut writer, recipe, depth, vocabulary)?;
    let entries = tensors::entries(recipe.shape, recipe.mix, depth);
    for entry in &entries {
        writer.tensor(&entry.name, &entry.dims, entry.dtype)?;
    }
    Ok((writer, entries))
}

fn write_chunks(
    recipe: &Recipe,
    chunk_bytes: usize,
    out: impl Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let (writer, entries) = declare(recipe)?;
    let total = entries.iter().map(Entry::len_bytes).sum();
    let (mut done, mut data) = (0, writer.begin(out)?);
    let mut chunk = Vec::new();
    for entry in &entries {
        let noise = Noise::new(recipe.seed, &entry.name);
        // A multiple of eight blocks is one of eight bytes, the grain of the noise.
        let block = entry.dtype.block_bytes();
        let step = (chunk_bytes as u64 / block + 1).next_multiple_of(8) * block;
        for start in (0..entry.len_bytes()).step_by(step as usize) {
            chunk.resize(step.min(entry.len_bytes() - start) as usize, 0);
            noise.fill(start / 8, &mut chunk);
            entry.tame(&mut chunk);
            data.write(&chunk)?;
            done += chunk.len() as u64;
            progress(done, total);
        }
    }
    data.finish()?;
    Ok(())
}
