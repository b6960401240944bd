//! `qwire inspect`: what is in a file, what it takes, and whether it runs here.
//!
//! A file that can be read can be inspected, whatever it holds; only `--check` fails on a model
//! that would not run.

mod check;
mod facts;
mod page;
mod sidecar;
mod weights;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::loading;
use crate::config::Environment;
use crate::failure::Failure;
pub use check::hashes;
use facts::Facts;
use sidecar::SidecarFacts;
pub use weights::WeightFacts;

/// Show what is in a model's file, what it takes, and whether it runs here
#[derive(Args)]
#[command(after_help = "\
Examples:
  qwire inspect model.gguf
  qwire inspect model.gguf --check           is it whole, are its numbers numbers, its SHA-256
  qwire inspect model.gguf --json | jq .memory")]
pub struct InspectArgs {
    /// The model, or its first file [default: the small one in the binary]
    model: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Read all of it: numbers that are not finite, the SHA-256; exit 1 unless it runs here
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub fn inspect(args: &InspectArgs, environment: &Environment) -> Result<u8, Failure> {
    let file = loading::open(args.model.as_deref(), args.json)?;
    let path = loading::shown(args.model.as_deref());
    let mut facts = Facts::gather(&file, args.tensors);
    facts.sidecar = file.path().and_then(|path| SidecarFacts::of(&file, path, environment));
    if args.check {
        facts.check = Some(check::check(&file, environment)?);
    }
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &facts).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", page::Page { path, facts: &facts })?;
    }
    out.flush()?;
    match &facts.check {
        Some(check) => facts.verdict(check).map(|()| 0).map_err(|e| e.in_file(path)),
        None => Ok(0),
    }
}
