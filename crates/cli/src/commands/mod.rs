//! Commands: one file each, and what all of them do first.

mod bench;
mod inspect;
mod logits;
mod pack;
mod quantize;
mod reading;
mod run;
mod synth;
mod tokenize;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use qwire_gguf::File;
use qwire_model::{Limits, Shape, describe};

use crate::backend::{self, Device, Ready};
use crate::config::Environment;
use crate::failure::{Failure, one_line};
use crate::progress::{Bar, Unit};
use crate::quantity;
use crate::sidecar::{self, Packing, Terms};
use crate::signals::{self, Interrupt};

/// Packing that took longer than this is worth a word on how to spare it.
const LONG: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    Run(Box<run::RunArgs>),
    Inspect(inspect::InspectArgs),
    Tokenize(tokenize::TokenizeArgs),
    Logits(logits::LogitsArgs),
    Synth(synth::SynthArgs),
    Bench(bench::BenchArgs),
    Pack(pack::PackArgs),
    Quantize(quantize::QuantizeArgs),
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
            Self::Pack(args) => pack::pack(&args, environment),
            Self::Quantize(args) => quantize::quantize(&args, environment),
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

/// A model on its way to a device.
struct Loading<'a> {
    file: &'a Arc<File>,
    path: &'a Path,
    device: Device,
    limits: Limits,
    packing: Packing,
    environment: &'a Environment,
    interrupt: &'a Interrupt,
    quiet: bool,
}

impl Loading<'_> {
    /// Loads it, from its sidecar where there is one, and says what is worth saying.
    fn ready(&self) -> Result<Ready, Failure> {
        let Self { file, path, device, quiet, .. } = *self;
        let sidecar = match device {
            Device::Cpu { threads, .. } => {
                let terms = Terms { threads, interrupt: self.interrupt, quiet };
                sidecar::provide(self.packing, file, path, self.environment, &terms)?
            }
            Device::Reference => None,
        };
        let (packed, started) = (sidecar.is_none(), Instant::now());
        let mut bar = Bar::new("loading", Unit::Count("layers"), !quiet);
        let mut progress = |done, total| bar.set(done as u64, total as u64);
        let ready = backend::load(file, device, sidecar, self.limits, &mut progress);
        let ready = ready.map_err(|failure| failure.in_file(path))?;
        drop(bar);
        if !quiet {
            warn_unused(&ready.unused);
            if packed && started.elapsed() > LONG && self.packing == Packing::Auto {
                let size = quantity::bytes(file.len_bytes());
                let command = format!("`qwire pack {}`", one_line(&path.to_string_lossy()));
                eprintln!("hint: {command} spares this loading; it takes {size} of disk");
            }
        }
        Ok(ready)
    }
}

/// Names the tensors that are not used, in one line.
fn warn_unused(unused: &[String]) {
    let Some(first) = unused.first() else { return };
    let more = match unused.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let name = one_line(first);
    eprintln!("warning: tensor `{name}`{more} has no place in this architecture and is not used");
}
