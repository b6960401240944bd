//! Commands: one file each, and what all of them do first.

mod bench;
mod inspect;
mod logits;
mod reading;
mod run;
mod synth;
mod tokenize;

use std::path::Path;
use std::sync::Arc;

use clap::Subcommand;
use qwire_gguf::File;
use qwire_model::{Shape, describe};

use crate::config::Environment;
use crate::failure::Failure;
use crate::signals;

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    Run(Box<run::RunArgs>),
    Inspect(inspect::InspectArgs),
    Tokenize(tokenize::TokenizeArgs),
    Logits(logits::LogitsArgs),
    Synth(synth::SynthArgs),
    Bench(bench::BenchArgs),
}

impl Command {
    /// Does it; the exit code where it ends well.
    pub fn run(self, environment: &Environment) -> Result<u8, Failure> {
        match self {
            Self::Run(args) => run::run(&args, environment),
            Self::Inspect(args) => inspect::inspect(&args, environment),
            Self::Tokenize(args) => tokenize::tokenize(&args),
            Self::Logits(args) => logits::logits(&args, environment),
            Self::Synth(args) => synth::synth(&args),
            Self::Bench(args) => bench::bench(&args, environment),
        }
    }
}

/// Maps a model's file, and watches that it stays whole.
fn open(path: &Path) -> Result<Arc<File>, Failure> {
    let file = File::open(path).map_err(|error| Failure::from(error).in_file(path))?;
    signals::watch_mapping(path)?;
    Ok(Arc::new(file))
}

/// The shape of a model that can run.
fn shape_of(file: &File, path: &Path) -> Result<Shape, Failure> {
    let (_, shape) = describe(file).map_err(|error| {
        Failure::from(error).in_file(path).hint("`qwire inspect` shows what is in the file")
    })?;
    Ok(shape)
}

/// Names the tensors that are not used, in one line.
fn warn_unused(unused: &[String]) {
    let Some(first) = unused.first() else { return };
    let more = match unused.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let name = crate::failure::one_line(first);
    eprintln!("warning: tensor `{name}`{more} has no place in this architecture and is not used");
}
