//! `qwire run`: one prompt, one answer.
//!
//! ```text
//! arguments, files, stdin ── prompt ──► ids ──┐
//! flags, metadata ──────── sampling ──────────┤
//! shape, free memory ───── plan ── backend ───┴─► Engine ── events ── answer ──► stdout
//! ```
//! Everything that can be refused is refused before the weights are touched.

mod answer;
mod prompt;
mod sampling;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use qwire_engine::{Choice, Engine, Event, Finish, Request, RequestId, Settings};
use qwire_model::{Limits, TokenId};
use qwire_text::Vocabulary;

use super::loading::{Manner, Opened};
use crate::arguments::DeviceArgs;
use crate::config::Environment;
use crate::failure::Failure;
use crate::memory::{self, Plan, Wish};
use crate::progress::{Bar, Unit};
use crate::quantity::{self, grouped, parse_bytes};
use crate::signals::Interrupt;
use answer::{Answer, Clock, Reason, Style};

/// Between two looks for an interrupt while the prompt is read.
const QUANTUM: Duration = Duration::from_millis(500);

/// Answer a prompt
#[derive(Args)]
#[command(after_help = "\
The prompt is put into the model's own chat template, unless --raw. The answer streams to stdout,
everything else goes to stderr. Ctrl-C ends it with what there is (exit code 130). How tokens are
chosen is taken from the model's file, else as Qwen recommends: --temp 0.7 --top-k 20 --top-p 0.8.

Examples:
  qwire run model.gguf \"Why is the sky blue?\"
  qwire run model.gguf \"Explain this:\" -f main.rs --temp 0
  echo \"Once upon a time\" | qwire run model.gguf --raw -n 200
  qwire run model.gguf \"Name a prime\" --json --logprobs 3")]
pub struct RunArgs {
    /// The model, or its first file (NAME-00001-of-00005.gguf)
    model: PathBuf,
    #[command(flatten)]
    prompt: prompt::PromptArgs,
    #[command(flatten)]
    length: LengthArgs,
    #[command(flatten)]
    sampling: sampling::SamplingArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// When the answer ends.
#[derive(Args)]
#[command(next_help_heading = "Length")]
struct LengthArgs {
    /// Most tokens to generate [default: until the context is full]
    #[arg(short = 'n', long, value_name = "N")]
    max_tokens: Option<usize>,
    /// End before this text appears; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

/// How much is kept in memory.
#[derive(Args)]
#[command(next_help_heading = "Memory")]
struct MemoryArgs {
    /// Tokens of prompt and answer together [default: the model's, or what fits in memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Memory for keys and values, such as 512M or 2G [default: what the context needs]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    kv_memory: Option<u64>,
    /// Try it even if it does not seem to fit
    #[arg(long)]
    no_memory_check: bool,
}

/// What is printed.
#[derive(Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    json: bool,
    /// With each token its log-probability and the N likeliest alternatives
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    /// Nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub fn run(args: &RunArgs, environment: &Environment) -> Result<u8, Failure> {
    let device = args.device.device(environment)?;
    let interrupt = Interrupt::install()?;
    let model = Opened::open(&args.model)?;
    let metadata = model.file.metadata();
    let in_file = |failure: Failure| failure.in_file(&args.model);
    let vocabulary = Vocabulary::from_gguf(metadata).map_err(|error| in_file(error.into()))?;
    let sampling = args.sampling.resolve(metadata, &vocabulary)?;
    let ids = prompt::ids(&args.prompt, &args.model, metadata, &vocabulary)?;
    let (seed, greedy) = (sampling.seed, sampling.is_greedy());

    let plan = plan(args, &model.shape, model.file.len_bytes(), ids.len()).map_err(in_file)?;
    let started = Instant::now();
    let rows = args.device.steps.chunk().min(ids.len()).max(1);
    let limits = Limits { rows, outputs: 1, pages: plan.pages, kv: args.device.steps.kv() };
    let packing = args.device.steps.packing();
    let manner = Manner { packing, environment, interrupt: &interrupt, quiet: args.output.quiet };
    let ready = model.load(device, limits, manner)?;
    let mut clock = Clock::new(started.elapsed());
    if !args.output.quiet {
        let seed = if greedy { String::new() } else { format!(" · seed {seed}") };
        eprintln!("{} · {}{seed}", ready.device, described(&model.shape, plan, limits));
    }

    let mut engine = Engine::new(ready.runner, alone(plan.context, rows));
    let prompt_tokens = ids.len();
    let request = Request {
        prompt: ids.into_iter().map(TokenId).collect(),
        choices: vec![Choice::plain(sampling)],
        max_tokens: args.length.max_tokens.unwrap_or(usize::MAX),
        ends: vocabulary.end_ids().iter().copied().map(TokenId).collect(),
        logprobs: args.output.logprobs,
        ..Request::default()
    };
    let id = RequestId(0);
    engine.submit(id, request, Duration::ZERO).map_err(Failure::new)?;
    let style = match (args.output.json, args.output.logprobs.is_some()) {
        (false, _) => Style::Text,
        (true, logprobs) => Style::Json { logprobs },
    };
    let mut answer = Answer::new(&vocabulary, &args.length.stop, style);
    let bar = Bar::new("reading", Unit::Count("tokens"), !args.output.quiet);
    let reason =
        until_the_end(&mut engine, &interrupt, &mut answer, &mut clock, bar).map_err(in_file)?;

    answer.finish(reason, prompt_tokens, seed, &clock)?;
    if !args.output.quiet {
        eprintln!("{}", clock.line(prompt_tokens, answer.len()));
    }
    Ok(match reason {
        Reason::Interrupted => interrupt.code().unwrap_or(130),
        _ => 0,
    })
}

/// One request at a time, its prompt in steps of `rows`.
fn alone(context: usize, rows: usize) -> Settings {
    Settings {
        context,
        running: 1,
        waiting: 1,
        chunk_alone: rows,
        chunk_beside: rows,
        quantum: QUANTUM,
        ..Settings::default()
    }
}

/// Turns the engine until the answer has ended, and looks for an interrupt in between.
fn until_the_end(
    engine: &mut Engine,
    interrupt: &Interrupt,
    answer: &mut Answer,
    clock: &mut Clock,
    bar: Bar,
) -> Result<Reason, Failure> {
    let started = Instant::now();
    let (mut bar, mut events) = (Some(bar), Vec::new());
    clock.start();
    while !interrupt.raised() {
        engine.turn(&|| started.elapsed(), &mut |delivery| events.push(delivery.event));
        for event in events.drain(..) {
            match event {
                Event::Prefill { done, total } => {
                    if let Some(bar) = &mut bar {
                        bar.set(done as u64, total as u64);
                    }
                }
                Event::Token(sampled) => {
                    bar.take(); // gone before the first word
                    clock.step(true);
                    if answer.push(sampled)? {
                        return Ok(Reason::Stop);
                    }
                }
                Event::Finished { finish, .. } => {
                    bar.take();
                    clock.step(finish == Finish::Stop);
                    let stopped = finish == Finish::Stop;
                    return Ok(if stopped { Reason::Stop } else { Reason::Length });
                }
                Event::Failed(fault) => return Err(Failure::new(fault)),
                Event::Started { .. } | Event::Prompt(_) | Event::Embedding(_) => {}
            }
        }
    }
    Ok(Reason::Interrupted)
}

fn plan(
    args: &RunArgs,
    shape: &qwire_model::Shape,
    weights: u64,
    prompt: usize,
) -> Result<Plan, Failure> {
    let wish = Wish {
        context: args.memory.ctx.map(|ctx| ctx as usize),
        cache_bytes: args.memory.kv_memory,
        kv: args.device.steps.kv(),
        scratch_bytes: None,
        positions: prompt.saturating_add(args.length.max_tokens.unwrap_or(usize::MAX)),
        checked: !args.memory.no_memory_check,
        last_resort: "try it with --no-memory-check",
    };
    let plan = memory::plan(shape, weights, memory::available(), wish)?;
    if prompt > plan.context {
        let (prompt, holds) = (grouped(prompt as u64), grouped(plan.context as u64));
        let fault = format!("the prompt has {prompt} tokens; the context holds {holds}");
        return Err(Failure::new(fault).hint("raise --ctx or --kv-memory, or shorten the prompt"));
    }
    memory::probe(plan.cache_bytes)?;
    Ok(plan)
}

/// What the context is, and what it costs.
fn described(shape: &qwire_model::Shape, plan: Plan, limits: Limits) -> String {
    let context = grouped(plan.context as u64);
    let of = if plan.context < shape.context {
        format!(" of the model's {}", grouped(shape.context as u64))
    } else {
        String::new()
    };
    let cache = quantity::bytes(plan.cache_bytes);
    format!("context {context}{of} tokens · {} cache {cache}", limits.kv.name())
}
