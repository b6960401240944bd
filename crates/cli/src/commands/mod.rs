//! Commands: one file each, and what all of them do first.

mod agents;
mod bench;
mod files;
mod inspect;
pub mod loading;
mod logits;
mod reading;
mod serve;
mod talk;
mod tokenize;
mod verify;

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
    Compare(logits::CompareArgs),
    Synth(files::synth::SynthArgs),
    Bench(bench::BenchArgs),
    Pack(files::pack::PackArgs),
    Quantize(files::quantize::QuantizeArgs),
    Verify(Box<verify::VerifyArgs>),
    Replay(serve::replay::ReplayArgs),
    Doctor(agents::doctor::DoctorArgs),
    Launch(agents::launch::LaunchArgs),
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
            Self::Compare(args) => logits::compare(&args, environment),
            Self::Synth(args) => files::synth::synth(&args),
            Self::Bench(args) => bench::bench(&args, environment),
            Self::Pack(args) => files::pack::pack(&args, environment),
            Self::Quantize(args) => files::quantize::quantize(&args, environment),
            Self::Verify(args) => verify::verify(&args, environment),
            Self::Replay(args) => serve::replay::replay(&args, environment),
            Self::Doctor(args) => agents::doctor::doctor(&args, environment),
            Self::Launch(args) => agents::launch::launch(&args, environment),
        }
    }
}

/// How tokens are chosen where nobody says it: as the model's file recommends, else as Qwen
/// recommends for its models. Always the best token would go round in circles.
fn recommended(metadata: &Metadata) -> Sampling {
    let found = Sampling::with_defaults(|key| {
        let value = metadata.get(key)?;
        value.float().or_else(|| value.integer().map(|integer| integer as f64))
    });
    if found != Sampling::default() {
        return found;
    }
    Sampling { temperature: 0.7, top_k: 20, top_p: 0.8, ..found }
}

/// The readers of files that others may have written. Each gives what is wrong in one line.
pub mod readers {
    use std::path::Path;

    use clap::{Args, Command, FromArgMatches};

    use super::logits::npy;
    use super::serve::ServeArgs;
    use super::verify::contract::{self, Contract};
    use super::verify::evidence;
    use crate::config::Environment;

    /// A file of `contracts/`.
    pub fn contract(text: &str) -> Result<(), String> {
        Contract::read(text).map(drop)
    }

    /// A folder of evidence, judged again; how many records it has.
    pub fn evidence(folder: &Path) -> Result<usize, String> {
        let read = evidence::read(folder, &contract::all()?);
        read.map(|(_, records)| records.len()).map_err(|failure| failure.message())
    }

    /// The file of `qwire serve --config`.
    pub fn options(path: &Path) -> Result<(), String> {
        let table = ServeArgs::augment_args(Command::new("qwire serve").no_binary_name(true));
        let flag = format!("--config={}", path.display());
        let matches = table.try_get_matches_from([flag]).map_err(|error| error.to_string())?;
        let given = ServeArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        given.settle(&Environment::default()).map(drop).map_err(|failure| failure.message())
    }

    /// A NumPy array of this shape; the sum of what is finite in it.
    pub fn array(bytes: &[u8], rows: usize, columns: usize) -> Result<f64, String> {
        let mut reader = npy::Reader::open(bytes, rows, columns)?;
        let mut sum = 0.0;
        for _ in 0..rows {
            let finite = reader.row()?.iter().filter(|value| value.is_finite());
            sum += finite.map(|value| f64::from(*value)).sum::<f64>();
        }
        Ok(sum)
    }
}
