//! `qwire bench`: how quickly a model reads prompts and answers, beside the limits of the machine.
//!
//! ```text
//! limits · load · deepest prefix · warm-up · A B C A B C .. · limits
//! ```
//! Repetitions go round all trials, so that a busy moment hits each of them alike; what is reported
//! is the median with the slowest and the quickest sample. Tokens are random. At the end a card's
//! kernels are timed one by one, if somebody asks.

mod bits;
pub mod machine;
mod plot;
mod profile;
mod report;
mod stage;
mod trial;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use qwire_model::Limits;

use super::loading::{Manner, Opened};
use super::reading::Reading;
use crate::arguments::{CardArgs, StepArgs, default_threads};
use crate::backend::{Device, Found};
use crate::config::Environment;
use crate::draft::Draft;
use crate::failure::Failure;
use crate::memory;
use crate::progress::{Bar, Unit};
use crate::quantity::{self, grouped};
use crate::signals::Interrupt;
use bits::Bits;
use machine::Reach;
use profile::Profile;
use report::{Report, Series};
use stage::{Extent, Stage};
use trial::{Kind, Measured, Trial};

/// Measure how quickly a model reads prompts and answers
#[derive(Args)]
#[command(after_help = "\
Every -p and -n is measured at every -d. Speeds are tokens per second of all sequences together.
GB/s counts the weights, keys and values that must be read; experts of several rows in one step
are counted as random rows would choose them. Gop/s counts two operations per product with a
weight. Limits are measured in the same run: memory that is only read, and the tile kernel with
sixteen tokens on a panel in cache. Of a CUDA card the limit is a copy within its memory.

--bits measures nothing: it computes one sequence in several ways, with the first -p and -n, and
hashes all of its logits; exit status 1 where they are not the same bits.

Examples:
  qwire bench model.gguf
  qwire bench model.gguf -p 512 -n 64 -d 0,4096,16384 --plot speed.svg
  qwire bench model.gguf -p 0 -n 64 --parallel 8
  qwire bench model.gguf --threads 1,2,4 --markdown
  qwire bench model.gguf --device cuda:0 -p 512,2048 -d 128,16384 --profile
  qwire bench model.gguf --device cuda:0 --bits")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that users have")]
pub struct BenchArgs {
    /// The model, or its first file [default: the small one in the binary]
    model: Option<PathBuf>,
    #[command(flatten)]
    trials: TrialArgs,
    #[command(flatten)]
    card: CardArgs,
    /// Replay no graphs on a CUDA card: launch every kernel anew
    #[arg(long, help_heading = "Machine")]
    no_graphs: bool,
    /// Worker threads, on a CPU alone several to compare; the model is loaded for each [default:
    /// the CPUs this process may use, or QWIRE_THREADS]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Machine")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    #[command(flatten)]
    steps: StepArgs,
    /// Time every kernel of a CUDA card too, for each trial
    #[arg(long, help_heading = "Output")]
    profile: bool,
    /// Hash logits instead of measuring
    #[arg(long, conflicts_with_all = ["profile", "no_graphs", "markdown", "plot"])]
    #[arg(help_heading = "Output")]
    bits: bool,
    /// Print a JSON array, one object per trial, per profile, or per hash
    #[arg(long, conflicts_with = "markdown", help_heading = "Output")]
    json: bool,
    /// Print a table to paste
    #[arg(long, help_heading = "Output")]
    markdown: bool,
    /// Draw speed against depth
    #[arg(long, value_name = "FILE.svg", help_heading = "Output")]
    plot: Option<PathBuf>,
}

/// What is measured.
#[derive(Args)]
#[command(next_help_heading = "Trials")]
struct TrialArgs {
    /// Prompt sizes; 0 for none
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', default_value = "512")]
    prompt: Vec<u32>,
    /// Tokens to generate; 0 for none
    #[arg(short = 'n', long, value_name = "LIST", value_delimiter = ',', default_value = "64")]
    generate: Vec<u32>,
    /// Positions that are in the cache before the clock starts
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', default_value = "0")]
    depth: Vec<u32>,
    /// Samples of each
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repetitions: u32,
    /// Sequences computed together
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    parallel: u32,
    /// Other random tokens
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Do not measure the limits of the machine
    #[arg(long)]
    no_limits: bool,
}

/// Runs the command.
pub fn bench(args: &BenchArgs, environment: &Environment) -> Result<u8, Failure> {
    let trials = args.trials.list();
    if trials.is_empty() {
        return Err(Failure::usage("-p 0 and -n 0 leave nothing to measure"));
    }
    let devices = args.devices(environment)?;
    let interrupt = Interrupt::install()?;
    let packing = args.steps.packing();
    let manner = Manner { packing, environment, interrupt: &interrupt, quiet: false };
    let job = Job { args, model: Opened::given(args.model.as_deref(), false)?, trials, manner };
    if args.bits {
        return job.hash(&devices[0]);
    }
    let extent = job.extent(&devices[0]).map_err(|failure| failure.in_file(&job.model.path))?;
    let plot = args.plot.as_deref().map(Draft::create).transpose()?;
    let mut series = Vec::new();
    for device in &devices {
        if !interrupt.raised() {
            series.push(job.measure(&job.placed(device, job.cache_bytes(extent))?, extent)?);
        }
    }
    let report = Report {
        model: job.model.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into()),
        cpu: machine::cpu(),
        memory_bytes: machine::memory_bytes(),
        kv: args.steps.kv().name(),
        chunk: job.chunk(),
        parallel: extent.parallel,
        series,
    };
    if let Some(mut draft) = plot {
        let drawn = draft.write_all(plot::svg(&report).as_bytes());
        drawn.map_err(|error| draft.failed(&error))?;
        draft.finish()?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &report.rows()).map_err(io::Error::from)?;
        writeln!(out)?;
    } else if args.markdown {
        write!(out, "{}", report.markdown())?;
    } else {
        write!(out, "{}", report.table())?;
    }
    out.flush()?;
    Ok(interrupt.code().unwrap_or(0))
}

impl BenchArgs {
    /// What is measured in turn: one device, or the CPU with so many threads each.
    fn devices(&self, environment: &Environment) -> Result<Vec<Device>, Failure> {
        let isa = self.steps.isa(environment)?;
        let devices = match self.card.find()? {
            Found::Beside(device) => vec![device],
            Found::Cpu(note) => {
                self.card.allow_cpu(note.as_deref())?;
                let device = |threads| Device::Cpu { threads, isa, note: note.clone() };
                self.threads(environment).into_iter().map(device).collect()
            }
        };
        let flags = [(self.profile, "--profile"), (self.no_graphs, "--no-graphs")];
        match flags.iter().find(|flag| flag.0 && devices[0].monitor().is_none()) {
            Some((_, flag)) => Err(Failure::usage(format!("{flag} needs a CUDA card"))
                .hint("`--device cuda:0` is the first")),
            None => Ok(devices),
        }
    }

    /// Each number of threads that is measured.
    fn threads(&self, environment: &Environment) -> Vec<usize> {
        match self.threads.as_slice() {
            [] => vec![default_threads(environment)],
            list => list.iter().copied().map(usize::from).collect(),
        }
    }
}

impl TrialArgs {
    fn list(&self) -> Vec<Trial> {
        let kinds = [(Kind::Prefill, &self.prompt), (Kind::Decode, &self.generate)];
        let mut trials = Vec::new();
        for (kind, sizes) in kinds {
            for n in sizes.iter().filter(|n| **n > 0) {
                let at = |depth: &u32| Trial { kind, n: *n as usize, depth: *depth as usize };
                trials.extend(self.depth.iter().map(at));
            }
        }
        trials
    }
}

/// A model and what to measure with it.
struct Job<'a> {
    args: &'a BenchArgs,
    model: Opened,
    trials: Vec<Trial>,
    manner: Manner<'a>,
}

impl Job<'_> {
    /// What the trials need; an error where the model or the memory does not have it.
    fn extent(&self, device: &Device) -> Result<Extent, Failure> {
        let most = |of: fn(&Trial) -> usize| self.trials.iter().map(of).max().unwrap_or(0);
        let (deepest, longest) = (most(|trial| trial.depth), most(|trial| trial.n));
        if deepest + longest > self.model.shape.context {
            let [deepest, longest, whole, context] =
                [deepest, longest, deepest + longest, self.model.shape.context]
                    .map(|tokens| grouped(tokens as u64));
            return Err(Failure::new(format!(
                "{longest} tokens at a depth of {deepest} take {whole} positions; the model's \
                 context is {context}"
            )));
        }
        let extent = Extent { parallel: self.args.trials.parallel as usize, deepest, longest };
        if !matches!(device, Device::Cpu { .. }) {
            return Ok(extent); // what has memory of its own says at load what is too much
        }
        let bytes = self.cache_bytes(extent);
        let room =
            memory::available().map(|bytes| memory::room(bytes, self.model.file.len_bytes()));
        if let Some(room) = room.filter(|room| bytes > *room) {
            let (bytes, room) = (quantity::bytes(bytes), quantity::bytes(room));
            return Err(Failure::new(format!(
                "the cache takes {bytes}; {room} of memory are left beside the weights"
            ))
            .hint(format!(
                "take smaller depths{}, or fewer sequences",
                memory::narrower(self.args.steps.kv())
            )));
        }
        memory::probe(bytes)?;
        Ok(extent)
    }

    fn cache_bytes(&self, extent: Extent) -> u64 {
        let page = self.model.shape.page_bytes(self.args.steps.kv()) as u64;
        page.saturating_mul(extent.pages() as u64)
    }

    /// A card, with the CPU beside it where the model is divided.
    fn placed(&self, device: &Device, cache_bytes: u64) -> Result<Device, Failure> {
        let (args, environment) = (self.args, self.manner.environment);
        if matches!(device, Device::Cpu { .. }) {
            return Ok(device.clone());
        }
        let host = || Ok((args.threads(environment)[0], args.steps.isa(environment)?));
        let placed = args.card.place(device.clone(), host, &self.model, cache_bytes)?;
        let most = usize::from(matches!(placed, Device::Shared(_)));
        if args.threads.len() > most {
            let fault = "--threads are the CPU's, one number where it shares the work of a card";
            return Err(Failure::usage(fault));
        }
        Ok(placed)
    }

    /// Hashes what a device computes in several ways.
    fn hash(&self, device: &Device) -> Result<u8, Failure> {
        let first = |kind| self.trials.iter().find(|trial| trial.kind == kind).map(|trial| trial.n);
        let (prompt, steps) = (first(Kind::Prefill), first(Kind::Decode));
        let bits = Bits {
            prompt: prompt.unwrap_or(1),
            steps: steps.unwrap_or(0),
            seed: self.args.trials.seed,
        };
        if bits.positions() > self.model.shape.context {
            let context = grouped(self.model.shape.context as u64);
            return Err(Failure::new(format!("the model's context is {context} tokens")));
        }
        let limits = bits.limits(self.args.steps.kv());
        let page_bytes = self.model.shape.page_bytes(limits.kv) as u64;
        let device = &self.placed(device, page_bytes * limits.pages as u64)?;
        let mut ready = self.model.load(device, limits, self.manner)?;
        eprintln!("{}", ready.device);
        let hashes = bits.run(&mut *ready.runner, device.monitor(), self.manner.interrupt);
        let hashes = hashes.map_err(|failure| failure.in_file(&self.model.path))?;
        let mut out = io::stdout().lock();
        if self.args.json {
            serde_json::to_writer(&mut out, &hashes).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            write!(out, "{}", bits::table(&hashes))?;
        }
        out.flush()?;
        Ok(self.manner.interrupt.code().unwrap_or_else(|| u8::from(!bits::agree(&hashes))))
    }

    /// Rows of a step of a prompt.
    fn chunk(&self) -> usize {
        self.args.steps.chunk(&self.model.shape)
    }

    /// Loads the model onto a device and runs every trial.
    fn measure(&self, device: &Device, extent: Extent) -> Result<Series, Failure> {
        let in_file = |failure: Failure| failure.in_file(&self.model.path);
        let kv = self.args.steps.kv();
        let prompts = self.trials.iter().filter(|trial| trial.kind == Kind::Prefill);
        let longest = prompts.map(|trial| trial.n * extent.parallel).max().unwrap_or(1);
        let rows = self.chunk().min(longest.max(extent.deepest)).max(extent.parallel);
        let limits = Limits { rows, outputs: extent.parallel, pages: extent.pages(), kv };
        let limited = !self.args.trials.no_limits;
        if let Some(monitor) = device.monitor() {
            monitor.replay(!self.args.no_graphs);
            monitor.time(limited || self.args.profile); // a card learns of it when it is opened
        }
        let ready = self.model.load(device, limits, self.manner)?;
        let cache = quantity::bytes(self.cache_bytes(extent));
        eprintln!("{} · {} cache {cache}", ready.device, kv.name());
        let mut reach = Reach::default();
        if let Some(monitor) = device.monitor() {
            monitor.time(false);
            reach.read_gb_s.extend(monitor.take().copy_gb_s);
        }
        let measures_cpu = |reach: &mut Reach| match device {
            Device::Cpu { threads, isa, .. } if limited && !self.manner.interrupt.raised() => {
                reach.measure(*threads, *isa)
            }
            _ => Ok(()),
        };
        measures_cpu(&mut reach)?;
        let reading = Reading::of(&self.model.file, Some(&self.model.shape));
        let kv_bytes = trial::kv_bytes(&self.model.shape, kv);
        let measured = |trial: &Trial| Measured {
            trial: *trial,
            cost: trial.cost(&reading, kv_bytes, extent.parallel, rows),
            samples: Vec::new(),
        };
        let mut measured: Vec<_> = self.trials.iter().map(measured).collect();
        let mut stage =
            Stage::new(ready.runner, extent, self.args.trials.seed, self.manner.interrupt);
        self.repeat(&mut stage, &mut measured).map_err(in_file)?;
        let profiles = self.profiles(&mut stage, device).map_err(in_file)?;
        drop(stage);
        measures_cpu(&mut reach)?;
        measured.retain(|measured| !measured.samples.is_empty());
        Ok(Series { device: device.clone(), reach, measured, profiles })
    }

    /// Every trial once more, or the first steps of an answer, with each kernel timed.
    fn profiles(&self, stage: &mut Stage, device: &Device) -> Result<Vec<Profile>, Failure> {
        let mut profiles = Vec::new();
        let Some(monitor) = device.monitor().filter(|_| self.args.profile) else {
            return Ok(profiles);
        };
        for trial in &self.trials {
            let n = if trial.kind == Kind::Decode { trial.n.min(profile::STEPS) } else { trial.n };
            let trial = Trial { n, ..*trial };
            monitor.time(true);
            let sampled = stage.sample(trial);
            monitor.time(false);
            let ledger = monitor.take();
            if sampled?.is_none() {
                break;
            }
            let (steps, layers) = (stage.steps(trial), self.model.shape.layers);
            profiles.push(Profile { trial, steps, layers, ledger });
        }
        Ok(profiles)
    }

    /// Warms up, and goes round the trials until each has its samples or somebody interrupts.
    fn repeat(&self, stage: &mut Stage, measured: &mut [Measured]) -> Result<(), Failure> {
        let mut bar = Bar::new("filling the cache", Unit::Count("positions"), true);
        if !stage.deepen(&mut |done, total| bar.set(done as u64, total as u64))? {
            return Ok(());
        }
        drop(bar);
        for kind in [Kind::Prefill, Kind::Decode] {
            let most = match kind {
                Kind::Prefill => self.chunk(),
                Kind::Decode => 4,
            };
            let sizes = self.trials.iter().filter(|trial| trial.kind == kind);
            if let Some(n) = sizes.map(|trial| trial.n.min(most)).max() {
                stage.sample(Trial { kind, n, depth: 0 })?;
            }
        }
        let repetitions = self.args.trials.repetitions as usize;
        let mut bar = Bar::new("measuring", Unit::Count("samples"), true);
        let total = (repetitions * measured.len()) as u64;
        for _ in 0..repetitions {
            for measured in measured.iter_mut() {
                let Some(sample) = stage.sample(measured.trial)? else { return Ok(()) };
                measured.samples.push(sample);
            }
            bar.set(measured.iter().map(|m| m.samples.len() as u64).sum(), total);
        }
        Ok(())
    }
}
