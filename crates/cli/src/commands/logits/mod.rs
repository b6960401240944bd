//! `qwire logits`: what the model says after every token of a list; the tool by which others
//! check us.
//!
//! Rows are written, or compared, as they are computed; memory does not grow with the list.

pub mod agreement;
mod compare;
mod layers;
pub mod npy;
mod rows;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::loading::Opened;
use crate::arguments::DeviceArgs;
use crate::backend::Device;
use crate::config::Environment;
use crate::draft::Draft;
use crate::failure::Failure;
use crate::signals::Interrupt;
use agreement::Agreement;
pub use compare::{CompareArgs, compare};
use rows::Rows;

/// Write the logits at every position of a list of tokens, or compare them
#[derive(Args)]
#[command(after_help = "\
The list is fed as it is; nothing is added to it. Numbers are float32.

Examples:
  qwire logits model.gguf --tokens 1,2,3 --npy out.npy
  qwire logits model.gguf --tokens-file ids.json --against expected.npy --kv-type f32")]
pub struct LogitsArgs {
    /// The model, or its first file
    model: PathBuf,
    /// Ids with commas, blanks or newlines between, brackets or not
    #[arg(long, value_name = "IDS", required_unless_present = "tokens_file")]
    tokens: Option<String>,
    /// A file of ids (- is stdin)
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    tokens_file: Option<PathBuf>,
    /// Write a NumPy array [tokens, vocabulary], C order (- is stdout)
    #[arg(long, value_name = "OUT")]
    npy: Option<PathBuf>,
    /// Print JSON: {"tokens", "vocab", "logits"}, or the comparison of --against
    #[arg(long)]
    json: bool,
    /// Compare with such an array: KL divergence, best tokens, largest difference
    #[arg(long, value_name = "FILE.npy")]
    against: Option<PathBuf>,
    /// Compute with the definition in f64, slowly, instead of a device
    #[arg(long, conflicts_with_all = ["device", "threads", "isa", "pack"])]
    reference: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub fn logits(args: &LogitsArgs, environment: &Environment) -> Result<u8, Failure> {
    let stdout = Path::new("-");
    if args.npy.is_none() && !args.json && args.against.is_none() {
        let fault = "nothing to do with the logits";
        return Err(Failure::usage(fault).hint("give --npy OUT, --json or --against FILE.npy"));
    }
    let prints = args.json || args.against.is_some();
    if prints && args.npy.as_deref() == Some(stdout) {
        return Err(Failure::usage("--npy - and the report would both go to stdout"));
    }
    let device =
        if args.reference { Device::Reference } else { args.device.device(environment)? };
    let ids = rows::ids(args.tokens.as_deref(), args.tokens_file.as_deref())?;
    let interrupt = Interrupt::install()?;
    let (model, machine) = (Opened::open(&args.model)?, &args.device);
    let (kv, chunk, interrupt) = (machine.steps.kv(), usize::MAX, &interrupt);
    let rows = Rows { model: &model, device, kv, machine, environment, interrupt, chunk };
    let mut runner = rows.runner(ids.len(), None)?;
    let vocab = runner.vocab();
    rows::check(&ids, vocab)?;
    let mut sinks = args.sinks(&ids, vocab)?;
    rows.each(&mut *runner, &ids, &mut |row| sinks.iter_mut().try_for_each(|sink| sink.row(row)))?;
    sinks.into_iter().try_for_each(Sink::finish)?;
    Ok(0)
}

impl LogitsArgs {
    fn sinks(&self, ids: &[u32], vocab: usize) -> Result<Vec<Sink>, Failure> {
        let mut sinks = Vec::new();
        if let Some(path) = &self.against {
            let fault = |why| Failure::new(format!("{}: {why}", path.display()));
            let file = File::open(path).map_err(|error| fault(error.to_string()))?;
            let reader =
                npy::Reader::open(BufReader::new(file), ids.len(), vocab).map_err(fault)?;
            let agreement = Agreement::default();
            sinks.push(Sink::Against { path: path.clone(), reader, agreement, json: self.json });
        } else if self.json {
            sinks.push(Sink::json(ids, vocab)?);
        }
        if let Some(path) = &self.npy {
            let header = npy::header(ids.len(), vocab);
            let mut sink = if path == Path::new("-") {
                Sink::Stdout(BufWriter::new(io::stdout()))
            } else {
                Sink::File(BufWriter::with_capacity(1 << 20, Draft::create(path)?))
            };
            sink.write(&header)?;
            sinks.push(sink);
        }
        Ok(sinks)
    }
}

/// Where rows of logits go.
enum Sink {
    File(BufWriter<Draft>),
    Stdout(BufWriter<io::Stdout>),
    Json {
        out: BufWriter<io::Stdout>,
        rows: usize,
    },
    Against {
        path: PathBuf,
        reader: npy::Reader<BufReader<File>>,
        agreement: Agreement,
        json: bool,
    },
}

impl Sink {
    fn json(ids: &[u32], vocab: usize) -> Result<Self, Failure> {
        let mut out = BufWriter::new(io::stdout());
        let ids = serde_json::to_string(ids).map_err(io::Error::from)?;
        write!(out, "{{\"tokens\":{ids},\"vocab\":{vocab},\"logits\":[")?;
        Ok(Self::Json { out, rows: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::File(out) => out.write_all(bytes).map_err(|error| out.get_ref().failed(&error)),
            Self::Stdout(out) => Ok(out.write_all(bytes)?),
            Self::Json { .. } | Self::Against { .. } => Ok(()),
        }
    }

    fn row(&mut self, row: &[f32]) -> Result<(), Failure> {
        match self {
            Self::File(_) | Self::Stdout(_) => {
                let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
                self.write(&bytes)
            }
            Self::Json { out, rows } => {
                if *rows > 0 {
                    out.write_all(b",")?;
                }
                *rows += 1;
                Ok(serde_json::to_writer(out, row).map_err(io::Error::from)?)
            }
            Self::Against { path, reader, agreement, .. } => {
                let fault = |why| Failure::new(format!("{}: {why}", path.display()));
                agreement.add(reader.row().map_err(fault)?, row).map_err(fault)
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::File(mut out) => {
                out.flush().map_err(|error| out.get_ref().failed(&error))?;
                let (draft, _) = out.into_parts();
                draft.finish()
            }
            Self::Stdout(mut out) => Ok(out.flush()?),
            Self::Json { mut out, .. } => {
                writeln!(out, "]}}")?;
                Ok(out.flush()?)
            }
            Self::Against { agreement, json, .. } => {
                let mut out = io::stdout().lock();
                if json {
                    serde_json::to_writer(&mut out, &agreement.report())
                        .map_err(io::Error::from)?;
                    writeln!(out)?;
                } else {
                    write!(out, "{}", agreement.report())?;
                }
                Ok(out.flush()?)
            }
        }
    }
}
