//! `qwire quantize`: a model of floats, written with weights of fewer bits.

use std::io::BufWriter;
use std::path::PathBuf;
use std::thread;

use clap::Args;
use qwire_gguf::{Dtype, File, OwnedValue, Tensor, Writer};
use qwire_kernels::quant::{Format, format};
use qwire_model::synthetic::{self, MIXES, Mix};

use crate::arguments;
use crate::commands::loading::Opened;
use crate::config::Environment;
use crate::draft::{self, Draft};
use crate::failure::Failure;
use crate::progress::{Bar, Unit};
use crate::quantity::bytes;
use crate::signals::Interrupt;

/// Values that one thread takes at a time.
const PIECE: usize = 1 << 18;
/// Rows that no block of a K format divides have this, or F16.
const SUBSTITUTE: Dtype = Dtype::Q8_0;

/// Write a model with weights of fewer bits
#[derive(Args)]
#[command(after_help = "\
The weights must be F32, F16 or BF16: what was quantised before would lose twice. Norms, biases and
the router stay as they are. The same file and formats give the same bytes everywhere.

Examples:
  qwire quantize model-f16.gguf -o model-q4_k_m.gguf
  qwire quantize model-bf16.gguf -o model-q8_0.gguf --quant q8_0")]
pub struct QuantizeArgs {
    /// The model, or its first file
    model: PathBuf,
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Formats of the weights: q4_k_m, q5_k_m, q6_k, q8_0, f16, bf16 or f32
    #[arg(long, value_name = "MIX", default_value = "q4_k_m")]
    quant: String,
    /// Worker threads [default: the CPUs this process may use, or QWIRE_THREADS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Write over a file that exists
    #[arg(long)]
    force: bool,
    /// Nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub fn quantize(args: &QuantizeArgs, environment: &Environment) -> Result<u8, Failure> {
    let QuantizeArgs { model, output, .. } = args;
    let mix = mix(&args.quant)?;
    let Opened { file, shape, .. } = Opened::open(model)?;
    let in_model = |error: qwire_gguf::Error| Failure::from(error).in_file(model);
    let plan = plan(&file, mix, shape.layers).map_err(in_model)?;
    let writer = declare(&file, mix, &plan).map_err(in_model)?;
    let len = writer.len_bytes();
    draft::check_room(output, len, args.force)?;
    let default = || arguments::default_threads(environment);
    let threads = args.threads.map_or_else(default, usize::from);
    let interrupt = Interrupt::install()?;
    let draft = BufWriter::with_capacity(1 << 20, Draft::create(output)?);
    let mut data = writer.begin(draft).map_err(|error| Failure::from(error).in_file(output))?;
    let mut bar = Bar::new("quantising", Unit::Bytes, !args.quiet);
    let (mut done, total) = (0, file.tensors().iter().map(Tensor::len_bytes).sum());
    for (tensor, dtype) in file.tensors().iter().zip(plan) {
        file.stream(tensor);
        for bytes in pieces(&file, tensor, dtype, threads) {
            interrupt.check()?;
            let bytes = bytes.map_err(in_model)?;
            data.write(&bytes).map_err(|error| Failure::from(error).in_file(output))?;
        }
        done += tensor.len_bytes();
        bar.set(done, total);
    }
    drop(bar);
    let draft = data.finish().map_err(|error| Failure::from(error).in_file(output))?;
    let (draft, _) = draft.into_parts();
    draft.finish()?;
    if !args.quiet {
        let (from, len) = (bytes(file.len_bytes()), bytes(len));
        eprintln!("{}: {}, {len} of {from}", output.display(), mix.name);
    }
    Ok(0)
}

/// The mix of that name, if all its formats can be written.
fn mix(name: &str) -> Result<&'static Mix, Failure> {
    let accepted = |mix: &&Mix| mix.formats().all(|dtype| written(dtype).is_some());
    synthetic::mix(name).filter(accepted).ok_or_else(|| {
        let names: Vec<_> = MIXES.iter().filter(accepted).map(|mix| mix.name).collect();
        Failure::usage(format!("there are no formats `{name}`; accepted: {}", names.join(", ")))
    })
}

fn written(dtype: Dtype) -> Option<&'static Format> {
    format(dtype.id()).filter(|format| format.is_written())
}

/// The format of each tensor of the output.
fn plan(file: &File, mix: &Mix, layers: usize) -> Result<Vec<Dtype>, qwire_gguf::Error> {
    let tied = file.tensor("output.weight").is_none();
    let of_tensor = |tensor: &Tensor| {
        let k = tensor.dims[0] as usize;
        let Some(dtype) = mix.of_tensor(&tensor.name, k, layers, tied) else {
            return Ok(tensor.dtype);
        };
        if !matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let found = tensor.dtype.name();
            return Err(file.invalid(tensor, format!("is {found}; accepted: F32, F16 or BF16")));
        }
        let fits = |dtype: &Dtype| k.is_multiple_of(dtype.block_values() as usize);
        let dtypes = [dtype, SUBSTITUTE].into_iter().filter(|dtype| written(*dtype).is_some());
        Ok(dtypes.into_iter().find(fits).unwrap_or(Dtype::F16))
    };
    file.tensors().iter().map(of_tensor).collect()
}

/// Header and directory: the file's own keys, but for what says how the weights are kept.
fn declare(file: &File, mix: &Mix, plan: &[Dtype]) -> Result<Writer, qwire_gguf::Error> {
    let mut writer = Writer::new(file.alignment());
    for (key, value) in file.metadata().iter() {
        let about_weights = ["general.file_type", "general.quantization_version"].contains(&key);
        if !about_weights && !key.starts_with("split.") {
            writer.metadata(key, OwnedValue::from(value))?;
        }
    }
    writer
        .metadata("general.file_type", mix.file_type)?
        .metadata("general.quantization_version", 2_u32)?;
    for (tensor, dtype) in file.tensors().iter().zip(plan) {
        writer.tensor(&tensor.name, &tensor.dims, *dtype)?;
    }
    Ok(writer)
}

/// The bytes of one tensor of the output, in order, a few pieces at a time.
fn pieces<'a>(
    file: &'a File,
    tensor: &'a Tensor,
    dtype: Dtype,
    threads: usize,
) -> impl Iterator<Item = Result<Vec<u8>, qwire_gguf::Error>> + 'a {
    let (bytes, same) = (file.data(tensor), dtype == tensor.dtype);
    let step = PIECE * tensor.dtype.block_bytes() as usize / tensor.dtype.block_values() as usize;
    bytes.chunks(step * threads).map(move |bytes| {
        if same {
            return Ok(bytes.to_vec());
        }
        let results = thread::scope(|scope| {
            let work = |bytes| scope.spawn(move || requantised(bytes, tensor.dtype, dtype));
            let workers: Vec<_> = bytes.chunks(step).map(work).collect();
            workers.into_iter().map(|worker| worker.join().expect("arithmetic")).collect()
        });
        let results: Option<Vec<_>> = results;
        let fault = "holds values that are not finite; `qwire inspect --check` counts them";
        results.map(|parts| parts.concat()).ok_or_else(|| file.invalid(tensor, fault))
    })
}

/// Some values in another format; none where one is not finite.
fn requantised(bytes: &[u8], from: Dtype, to: Dtype) -> Option<Vec<u8>> {
    let [from, to] = [from, to].map(|dtype| format(dtype.id()).expect("a format that runs"));
    let mut values = vec![0.0; bytes.len() / from.block_bytes * from.block_values];
    from.dequantise(bytes, &mut values);
    let mut out = vec![0; to.row_bytes(values.len())];
    to.quantise(&values, &mut out);
    values.iter().all(|x| x.is_finite()).then_some(out)
}
