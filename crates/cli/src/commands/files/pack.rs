//! `qwire pack`: a model's weights as they are computed with, kept on disk, so that it starts at
//! once.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use qwire_backend_cpu::sidecar::Sidecar;

use super::super::loading::Opened;
use crate::arguments::default_threads;
use crate::commands::loading::sidecar::{self, Found, Shelf, Terms};
use crate::config::Environment;
use crate::failure::Failure;
use crate::progress::{Bar, Unit};
use crate::quantity::bytes;
use crate::signals::Interrupt;

/// Keep a model's packed weights on disk, so that it starts at once
#[derive(Args)]
#[command(after_help = "\
The file MODEL.qwire is as large as the model and lies beside it, or, where that folder cannot be
written, in the cache folder (XDG_CACHE_HOME or ~/.cache). It gives the same results, bit by bit.
Other commands use it wherever it is; one that does not fit the model any more, or was written by
another version, is never used. It can be deleted at any time.

Examples:
  qwire pack model.gguf
  qwire pack model.gguf --check              read it all: is every byte as it was written")]
pub struct PackArgs {
    /// The model, or its first file
    model: PathBuf,
    /// Compare it with its checksums; exit 1 unless it is there and whole
    #[arg(long)]
    check: bool,
    /// Write it even where there is one that fits
    #[arg(long, conflicts_with = "check")]
    force: bool,
    /// Worker threads [default: the CPUs this process may use, or QWIRE_THREADS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub fn pack(args: &PackArgs, environment: &Environment) -> Result<u8, Failure> {
    let interrupt = Interrupt::install()?;
    let threads = args.threads.map_or_else(|| default_threads(environment), usize::from);
    let terms = Terms { threads, interrupt: &interrupt, quiet: args.quiet };
    let shelf = Shelf::of(&Opened::open(&args.model)?.file, &args.model, environment)?;
    let again = "`qwire pack` writes it anew";
    let (path, size) = match shelf.look() {
        Found::Fit(path, sidecar) if args.check => {
            check(&sidecar, &terms)
                .map_err(|failure| failure.in_file(&path).hint("`qwire pack --force` mends it"))?;
            (path, "whole".to_string())
        }
        Found::Fit(path, _) if !args.force => (path, "up to date".to_string()),
        Found::Unfit(path, why) if args.check => {
            return Err(Failure::new(why).in_file(&path).hint(again));
        }
        Found::Nothing if args.check => {
            return Err(Failure::new("it has no sidecar").in_file(&args.model).hint(again));
        }
        _ => {
            let started = Instant::now();
            shelf.sweep();
            let (path, _) = shelf.write(&terms)?;
            (path, format!("written in {:.1} s", started.elapsed().as_secs_f64()))
        }
    };
    if !args.quiet {
        eprintln!("{}: {}, {size}", path.display(), bytes(shelf.len_bytes()));
    }
    Ok(0)
}

fn check(sidecar: &Sidecar, terms: &Terms<'_>) -> Result<(), Failure> {
    let pool = sidecar::pool(terms.threads)?;
    let mut bar = Bar::new("checking", Unit::Bytes, !terms.quiet);
    let damaged = sidecar.damaged(&pool, &mut |done, total| {
        bar.set(done, total);
        !terms.interrupt.raised()
    });
    drop(bar);
    terms.interrupt.check()?;
    let damaged = damaged.unwrap_or_default();
    let Some(first) = damaged.first() else { return Ok(()) };
    let more = match damaged.len() {
        1 => String::new(),
        n => format!(" and of {} more", n - 1),
    };
    Err(Failure::new(format!("the panels of tensor `{first}`{more} are not what was written")))
}
