//! `qwire compare`: two ways to the same logits, how far they are apart, and in which phase of
//! which layer they part.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args;
use qwire_kernels::Isa;
use qwire_model::{KvType, Witness};
use qwire_text::Vocabulary;
use serde_json::json;

use super::agreement::Agreement;
use super::layers::{Comparer, Departures, Parting, Recorder, Trace};
use super::npy;
use super::rows::{Rows, ids};
use crate::arguments::{DeviceArgs, KvArg};
use crate::backend::Device;
use crate::commands::loading::Opened;
use crate::commands::verify::text_tokens;
use crate::config::Environment;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// Tokens of text where nobody gives any.
const TOKENS: usize = 64;
/// Rows of a step whose phases are compared: what each of them left is kept.
const WATCHED: usize = 32;
/// Most bytes of logits that are kept.
const MOST_BYTES: usize = 4 << 30;

/// Compare two models, caches, devices, or logits from elsewhere
#[derive(Args)]
#[command(after_help = "\
EXPECTED is what FOUND is judged by. Each is a model, or a NumPy array of logits (`qwire logits
--npy`, or another program). Without FOUND it is EXPECTED's model again, and --reference,
--expected-kv or --expected-isa say what is different about the first.

Examples:
  qwire compare f16.gguf q4_k_m.gguf                   what a quantisation costs
  qwire compare model.gguf --reference --layers        the CPU against f64, phase by phase
  qwire compare model.gguf --expected-kv f32           what f16 keys and values cost
  qwire compare transformers.npy model.gguf --tokens-file ids.json")]
pub struct CompareArgs {
    /// A model or a .npy file
    expected: PathBuf,
    /// Another
    found: Option<PathBuf>,
    /// Compute EXPECTED with the definition in f64, slowly
    #[arg(long, conflicts_with_all = ["expected_isa", "expected_kv"])]
    reference: bool,
    /// How EXPECTED stores keys and values [default: as --kv-type]
    #[arg(long, value_name = "TYPE")]
    expected_kv: Option<KvArg>,
    /// The instruction set of EXPECTED [default: as --isa]
    #[arg(long, value_name = "NAME")]
    expected_isa: Option<String>,
    /// Compare what each phase of each layer leaves, and say where they part
    #[arg(long)]
    layers: bool,
    /// With --layers, the relative error that counts as parting
    #[arg(long, value_name = "ERROR", default_value_t = 0.05, requires = "layers")]
    bound: f64,
    /// Ids with commas, blanks or newlines between [default: 64 tokens of text]
    #[arg(long, value_name = "IDS")]
    tokens: Option<String>,
    /// A file of ids (- is stdin)
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    tokens_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One of the two.
enum Side {
    Model { opened: Box<Opened>, device: Device, kv: KvType },
    Logits(PathBuf),
}

/// Runs the command.
pub fn compare(args: &CompareArgs, environment: &Environment) -> Result<u8, Failure> {
    let interrupt = Interrupt::install()?;
    let (expected, found) = (args.expected(environment)?, args.found(environment)?);
    let ids = args.ids(&expected, &found)?;
    let place = Place { args, environment, interrupt: &interrupt, ids: &ids };
    let trace = Arc::new(Mutex::new(Trace::default()));
    let recorder = || Box::new(Recorder(trace.clone())) as Box<dyn Witness>;
    let mut rows = Vec::new();
    place.logits(&expected, args.layers.then(recorder), None, &mut |row| {
        if (rows.len() + 1) * size_of_val(row) > MOST_BYTES {
            return Err(
                Failure::new("there are too many logits to keep").hint("give it fewer tokens")
            );
        }
        rows.push(row.to_vec());
        Ok(())
    })?;
    let trace = std::mem::take(&mut *trace.lock().expect("nothing panics under the lock"));
    let parting = Arc::new(Mutex::new(Parting::from(trace)));
    let comparer = args.layers.then(|| Box::new(Comparer(parting.clone())) as Box<dyn Witness>);
    let (mut agreement, mut at) = (Agreement::default(), 0);
    let vocab = rows.first().map(Vec::len);
    place.logits(&found, comparer, vocab, &mut |row| {
        let expected = &rows[at];
        at += 1;
        if expected.len() != row.len() {
            let (a, b) = (expected.len(), row.len());
            return Err(Failure::new(format!("vocabularies of {a} and {b} tokens do not compare")));
        }
        agreement.add(expected, row).map_err(Failure::new)
    })?;
    let departures: Option<Departures> = if args.layers {
        let parting = parting.lock().expect("nothing panics under the lock");
        Some(parting.departures(args.bound).map_err(Failure::new)?)
    } else {
        None
    };
    let mut out = io::stdout().lock();
    if args.json {
        let all = json!({ "logits": agreement.report(), "layers": departures });
        writeln!(out, "{all}")?;
    } else {
        write!(out, "{}", agreement.report())?;
        if let Some(departures) = departures {
            write!(out, "{departures}")?;
        }
    }
    out.flush()?;
    Ok(0)
}

/// What both sides have in common.
struct Place<'a> {
    args: &'a CompareArgs,
    environment: &'a Environment,
    interrupt: &'a Interrupt,
    ids: &'a [u32],
}

impl Place<'_> {
    /// Every row of one side. A file's rows must be as long as the other's, where that is known.
    fn logits(
        &self,
        side: &Side,
        witness: Option<Box<dyn Witness>>,
        vocab: Option<usize>,
        take: &mut dyn FnMut(&[f32]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match side {
            Side::Model { opened, device, kv } => {
                let chunk = if witness.is_some() { WATCHED } else { usize::MAX };
                let machine = &self.args.device;
                let (environment, interrupt) = (self.environment, self.interrupt);
                let (model, device, kv) = (opened, device.clone(), *kv);
                let rows = Rows { model, device, kv, machine, environment, interrupt, chunk };
                let mut runner = rows.runner(self.ids.len(), witness)?;
                rows.each(&mut *runner, self.ids, take)
            }
            Side::Logits(path) => {
                let fault = |why: String| Failure::new(format!("{}: {why}", path.display()));
                let file = File::open(path).map_err(|error| fault(error.to_string()))?;
                let vocab = match vocab {
                    Some(vocab) => vocab,
                    None => self.args.vocab()?,
                };
                let reader = BufReader::new(file);
                let mut reader = npy::Reader::open(reader, self.ids.len(), vocab).map_err(fault)?;
                (0..self.ids.len()).try_for_each(|_| take(reader.row().map_err(fault)?))
            }
        }
    }
}

impl CompareArgs {
    fn expected(&self, environment: &Environment) -> Result<Side, Failure> {
        let own = self.reference || self.expected_kv.is_some() || self.expected_isa.is_some();
        if self.found.is_none() && !own {
            let fault = "both sides would be the same";
            let hint = "name FOUND, or give --reference, --expected-kv or --expected-isa";
            return Err(Failure::usage(fault).hint(hint));
        }
        let mut device = self.device.device(environment)?;
        if self.reference {
            device = Device::Reference;
        } else if let (Some(name), Device::Cpu { isa, .. }) = (&self.expected_isa, &mut device) {
            *isa = Isa::named(name).map_err(Failure::new)?;
        }
        let kv = self.expected_kv.map_or(self.device.steps.kv(), KvArg::kind);
        self.side(&self.expected, device, kv)
    }

    fn found(&self, environment: &Environment) -> Result<Side, Failure> {
        let path = self.found.as_ref().unwrap_or(&self.expected);
        self.side(path, self.device.device(environment)?, self.device.steps.kv())
    }

    fn side(&self, path: &Path, device: Device, kv: KvType) -> Result<Side, Failure> {
        if !path.extension().is_some_and(|end| end.eq_ignore_ascii_case("npy")) {
            return Ok(Side::Model { opened: Box::new(Opened::open(path)?), device, kv });
        }
        if self.layers {
            let fault = "--layers needs two models: a file of logits has no layers";
            return Err(Failure::usage(fault));
        }
        Ok(Side::Logits(path.into()))
    }

    /// The list, or text in the words of the first model.
    fn ids(&self, expected: &Side, found: &Side) -> Result<Vec<u32>, Failure> {
        if self.tokens.is_some() || self.tokens_file.is_some() {
            return ids(self.tokens.as_deref(), self.tokens_file.as_deref());
        }
        let (Side::Model { opened, .. }, Side::Model { opened: other, .. }) = (expected, found)
        else {
            let fault = "logits from elsewhere are compared at tokens that are known";
            return Err(Failure::usage(fault).hint("give --tokens or --tokens-file"));
        };
        let vocabulary = Vocabulary::from_gguf(opened.file.metadata())?;
        let n = TOKENS.min(opened.shape.context).min(other.shape.context);
        Ok(text_tokens(&vocabulary, n).iter().map(|token| token.0).collect())
    }

    /// The vocabulary of the only model.
    fn vocab(&self) -> Result<usize, Failure> {
        let fault = || Failure::usage("two files of logits: name a model for one of them");
        let path = self.found.as_ref().ok_or_else(fault)?;
        let opened = Opened::open(path)?;
        let rows = opened.file.tensor("token_embd.weight").map(|tensor| tensor.rows() as usize);
        rows.ok_or_else(fault)
    }
}
