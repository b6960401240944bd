//! `qwire synth`: a model of a true shape with random weights, written to a file.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use qwire_model::synthetic::{self, MIXES, Mix, Recipe, SHAPES, ShapePreset};

use super::super::loading;
use crate::draft::{self, Draft};
use crate::failure::Failure;
use crate::progress::{Bar, Unit};
use crate::quantity::{bytes, grouped};
use crate::signals::Interrupt;

/// Write a model of a true shape with random weights
#[derive(Args)]
#[command(after_help = "\
It loads and runs as the real one does, and says nothing sensible. The same shape, formats and
seed give the same file everywhere.

Examples:
  qwire synth --list
  qwire synth tiny-moe -o tiny.gguf
  qwire synth qwen3-30b-a3b -o big.gguf --quant q4_k_m --layers 4")]
pub struct SynthArgs {
    /// The shape, one of --list
    #[arg(required_unless_present = "list")]
    shape: Option<String>,
    /// Where to write it (- is stdout)
    #[arg(short, long, value_name = "FILE", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Formats of the weights, one of --list
    #[arg(long, value_name = "MIX", default_value = "q4_k_m")]
    quant: String,
    /// Other seed, other weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Only the first N layers [default: all]
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Take the vocabulary of this GGUF file instead of a generated one
    #[arg(long, value_name = "FILE")]
    vocab: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long)]
    force: bool,
    /// List shapes and formats, then end
    #[arg(long)]
    list: bool,
    /// Nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub fn synth(args: &SynthArgs) -> Result<u8, Failure> {
    let (Some(name), Some(path), false) = (&args.shape, &args.output, args.list) else {
        return list();
    };
    let known = "`qwire synth --list` names them";
    let shape = synthetic::shape(name)
        .ok_or_else(|| Failure::usage(format!("there is no shape `{name}`")).hint(known))?;
    let mix = synthetic::mix(&args.quant).ok_or_else(|| {
        Failure::usage(format!("there are no formats `{}`", args.quant)).hint(known)
    })?;
    let vocabulary =
        args.vocab.as_deref().map(|path| loading::open(Some(path), false)).transpose()?;
    let recipe = Recipe { shape, mix, seed: args.seed, layers: args.layers, vocabulary };
    let len = synthetic::len_bytes(&recipe).map_err(Failure::new)?;
    let stdout = path == Path::new("-");
    let path = if stdout { Path::new("/dev/stdout") } else { path };
    if !stdout {
        draft::check_room(path, len, args.force)?;
    }
    let interrupt = Interrupt::install()?;
    let draft = Draft::create(path)?;
    let mut bar = Bar::new("writing", Unit::Bytes, !args.quiet);
    let mut out = Interruptible { out: BufWriter::with_capacity(1 << 20, draft), interrupt };
    let written = synthetic::write(&recipe, &mut out, &mut |done, total| bar.set(done, total));
    drop(bar);
    out.interrupt.check()?;
    written.map_err(|error| Failure::new(error).in_file(path))?;
    let (draft, _) = out.out.into_parts();
    draft.finish()?;
    if !args.quiet {
        let (name, mix, path) = (shape.name, mix.name, path.display());
        eprintln!("{path}: {name}, {mix}, seed {}, {}", args.seed, bytes(len));
    }
    Ok(0)
}

fn list() -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    let usual = &MIXES[0];
    let columns = "layers   width  experts     vocabulary";
    writeln!(out, "{:<19} {columns} {:>12}", "Shapes", format!("as {}", usual.name))?;
    for shape in &SHAPES {
        writeln!(out, "{}", line(shape, usual)?)?;
    }
    let mixes: Vec<_> = MIXES.iter().map(|mix| mix.name).collect();
    writeln!(out, "\nFormats (--quant)\n  {}", mixes.join(" "))?;
    out.flush()?;
    Ok(0)
}

fn line(shape: &'static ShapePreset, mix: &'static Mix) -> Result<String, Failure> {
    let len = synthetic::len_bytes(&Recipe::new(shape, mix, 0)).map_err(Failure::new)?;
    let experts = shape
        .experts
        .as_ref()
        .map_or("dense".to_string(), |experts| format!("{} of {}", experts.used, experts.count));
    Ok(format!(
        "  {:<17} {:>6} {:>7}  {experts:<9} {:>12} {:>12}",
        shape.name,
        shape.layers,
        grouped(shape.hidden as u64),
        grouped(shape.vocab as u64),
        bytes(len)
    ))
}

/// A sink that fails once the user wants it to.
struct Interruptible<W> {
    out: W,
    interrupt: Interrupt,
}

impl<W: Write> Write for Interruptible<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // `Interrupted` would be tried again.
        if self.interrupt.raised() { Err(io::Error::other("ended")) } else { self.out.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
