//! Commands: one file each, and what all of them do first.

mod bench;
mod inspect;
mod loading;
mod logits;
mod pack;
mod quantize;
mod reading;
mod serve;
mod synth;
mod talk;
mod tokenize;

use clap::Subcommand;
use qwire_engine::Sampling;
use qwire_gguf::Metadata;

use crate::config::Environment;
use crate::failure::Failure;

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    Run(Box<talk::RunArgs>),
    Chat(Box<talk::ChatArgs>),
    Serve(serve::ServeArgs),
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
            Self::Run(args) => talk::run(&args, environment),
            Self::Chat(args) => talk::chat(&args, environment),
            Self::Serve(args) => serve::serve(&args, environment),
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

/// How tokens are chosen as the model's file recommends it.
fn recommended(metadata: &Metadata) -> Sampling {
    Sampling::with_defaults(|key| {
        let value = metadata.get(key)?;
        value.float().or_else(|| value.integer().map(|integer| integer as f64))
    })
}
