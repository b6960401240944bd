//! Speaker: a loaded model that answers one request after the other. What it has read stays in the
//! engine's cache, so that the next prompt costs what is new in it.

use std::time::{Duration, Instant};

use qwire_engine::{
    Choice, Engine, Event, Finish, Refusal, Request, RequestId, Sampling, Settings,
};
use qwire_model::{Limits, Shape, TokenId};
use qwire_text::Vocabulary;

use super::SpeakerArgs;
use super::answer::{Answer, Clock, Reason};
use crate::backend::Device;
use crate::commands::loading::{Manner, Opened};
use crate::config::Environment;
use crate::failure::Failure;
use crate::memory::{self, BLIND_CONTEXT, Plan, Wish};
use crate::progress::{Bar, Unit};
use crate::quantity::{self, grouped};
use crate::signals::Interrupt;

/// Between two looks for an interrupt while a prompt is read.
const QUANTUM: Duration = Duration::from_millis(500);

/// A model that answers.
pub struct Speaker {
    engine: Engine,
    sampling: Sampling,
    ends: Vec<TokenId>,
    max_tokens: usize,
    quiet: bool,
    interrupt: Interrupt,
    started: Instant,
    /// How many were asked.
    requests: u64,
    /// How long loading took.
    pub load: Duration,
    /// Positions of prompt and answer together.
    pub context: usize,
}

/// Who listens to an answer.
pub struct Ear<'a> {
    /// Hears each piece of text.
    pub text: &'a mut dyn FnMut(&str) -> Result<(), Failure>,
    /// Likeliest tokens to hear of with each token.
    pub logprobs: Option<usize>,
}

/// How an answer went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Why it ended.
    pub reason: Reason,
    /// Tokens of its prompt that did not have to be read.
    pub cached_tokens: usize,
    /// Where the time went.
    pub clock: Clock,
}

/// What a model is asked to be ready for.
pub struct Expected {
    /// Tokens of the longest step.
    pub rows: usize,
    /// Tokens of the first prompt, where it is known.
    pub prompt: usize,
    /// Positions that will be used.
    pub positions: usize,
}

impl Expected {
    /// This prompt and its answer.
    pub fn one(prompt: usize, args: &SpeakerArgs, shape: &Shape) -> Self {
        let rows = args.device.steps.chunk(shape).min(prompt).max(1);
        let answer = args.length.max_tokens.unwrap_or(usize::MAX);
        Self { rows, prompt, positions: prompt.saturating_add(answer) }
    }

    /// Whatever may come.
    pub fn any(args: &SpeakerArgs, shape: &Shape) -> Self {
        Self { rows: args.device.steps.chunk(shape), prompt: 0, positions: usize::MAX }
    }
}

impl Speaker {
    /// Loads a model, and says on stderr what it runs on.
    pub fn load(
        model: &Opened,
        vocabulary: &Vocabulary,
        args: &SpeakerArgs,
        expected: &Expected,
        (environment, interrupt, quiet): (&Environment, &Interrupt, bool),
    ) -> Result<Self, Failure> {
        let in_file = |failure: Failure| failure.in_file(&model.path);
        let sampling = args.sampling.resolve(model.file.metadata(), vocabulary)?;
        let steps = &args.device.steps;
        let cache_bytes = cache_bytes(args, &model.shape, expected);
        let device = args.device.device(environment)?;
        let device = args.device.place(device, model, cache_bytes, environment)?;
        let plan = plan(args, model, &device, expected).map_err(in_file)?;
        let started = Instant::now();
        let outputs = 1 + args.guess.most();
        let rows = expected.rows.max(outputs);
        let limits = Limits { rows, outputs, pages: plan.pages, kv: steps.kv() };
        let manner = Manner { packing: steps.packing(), environment, interrupt, quiet };
        let ready = model.load(&device, limits, manner)?;
        let load = started.elapsed();
        if !quiet {
            let greedy = sampling.is_greedy();
            let seed = if greedy { String::new() } else { format!(" · seed {}", sampling.seed) };
            eprintln!("{} · {}{seed}", ready.device, described(&model.shape, plan, limits));
        }
        Ok(Self {
            engine: Engine::new(ready.runner, alone(plan.context, rows, args.guess.most())),
            sampling,
            ends: vocabulary.end_ids().iter().copied().map(TokenId).collect(),
            max_tokens: args.length.max_tokens.unwrap_or(usize::MAX),
            quiet,
            interrupt: interrupt.clone(),
            started,
            requests: 0,
            load,
            context: plan.context,
        })
    }

    /// The seed of every answer.
    pub fn seed(&self) -> u64 {
        self.sampling.seed
    }

    /// Answers a prompt, until the end or an interrupt.
    pub fn answer(
        &mut self,
        prompt: Vec<u32>,
        answer: &mut Answer,
        ear: &mut Ear,
    ) -> Result<Outcome, Failure> {
        let request = Request {
            prompt: prompt.into_iter().map(TokenId).collect(),
            choices: vec![Choice::plain(self.sampling.clone())],
            max_tokens: self.max_tokens,
            ends: self.ends.clone(),
            logprobs: ear.logprobs,
            ..Request::default()
        };
        let id = RequestId(self.requests);
        self.requests += 1;
        self.engine.submit(id, request, self.started.elapsed()).map_err(|refusal| {
            let failure = Failure::new(&refusal);
            match refusal {
                Refusal::TooLong { .. } => failure.hint(TOO_LONG),
                _ => failure,
            }
        })?;
        let outcome = self.until_the_end(id, answer, ear);
        // Ended by its listener, an answer would go on.
        self.engine.cancel(id, self.started.elapsed());
        outcome
    }

    /// Turns the engine until the answer has ended, and looks for an interrupt in between.
    fn until_the_end(
        &mut self,
        id: RequestId,
        answer: &mut Answer,
        ear: &mut Ear,
    ) -> Result<Outcome, Failure> {
        let bar = Bar::new("reading", Unit::Count("tokens"), !self.quiet);
        let (mut bar, mut events, mut cached_tokens) = (Some(bar), Vec::new(), 0);
        let mut clock = Clock::start(self.load);
        while !self.interrupt.raised() {
            let started = self.started;
            self.engine.turn(&|| started.elapsed(), &mut |delivery| events.push(delivery));
            let ours = events.drain(..).filter(|delivery| delivery.request == id);
            for event in ours.map(|delivery| delivery.event) {
                let reason = match event {
                    Event::Started { cached_tokens: found } => {
                        cached_tokens = found;
                        continue;
                    }
                    Event::Prefill { done, total } => {
                        if let Some(bar) = &mut bar {
                            bar.set(done as u64, total as u64);
                        }
                        continue;
                    }
                    Event::Token(sampled) => {
                        bar.take(); // gone before the first word
                        clock.step(true);
                        let piece = answer.push(sampled);
                        (ear.text)(&piece.text)?;
                        if !piece.stopped {
                            continue;
                        }
                        Reason::Stop
                    }
                    Event::Finished { finish, .. } => {
                        bar.take();
                        clock.step(finish == Finish::Stop);
                        if finish == Finish::Stop { Reason::Stop } else { Reason::Length }
                    }
                    Event::Failed(fault) => return Err(Failure::new(fault)),
                    Event::Prompt(_) | Event::Embedding(_) | Event::Predicted { .. } => continue,
                };
                (ear.text)(&answer.finish())?;
                return Ok(Outcome { reason, cached_tokens, clock });
            }
        }
        (ear.text)(&answer.finish())?;
        Ok(Outcome { reason: Reason::Interrupted, cached_tokens, clock })
    }
}

/// What helps where a prompt does not fit.
const TOO_LONG: &str = "raise --ctx or --kv-memory, or shorten the prompt";

/// One request at a time, its prompt in steps of `rows`.
fn alone(context: usize, rows: usize, guesses: usize) -> Settings {
    Settings {
        context,
        running: 1,
        waiting: 1,
        chunk_alone: rows,
        chunk_beside: rows,
        guesses,
        quantum: QUANTUM,
        ..Settings::default()
    }
}

fn plan(
    args: &SpeakerArgs,
    model: &Opened,
    device: &Device,
    expected: &Expected,
) -> Result<Plan, Failure> {
    let wish = Wish {
        context: args.memory.ctx.map(|ctx| ctx as usize),
        cache_bytes: args.memory.kv_memory,
        kv: args.device.steps.kv(),
        scratch_bytes: None,
        positions: expected.positions,
        checked: !args.memory.no_memory_check,
        last_resort: "try it with --no-memory-check",
    };
    let weights = device.weights_bytes(&model.file);
    let plan = memory::plan(&model.shape, weights, device.available(), wish)?;
    if expected.prompt > plan.context {
        let (tokens, context) = (expected.prompt, plan.context);
        return Err(Failure::new(Refusal::TooLong { tokens, context }).hint(TOO_LONG));
    }
    device.probe(plan.cache_bytes)?;
    Ok(plan)
}

/// What a card keeps free for the cache before it takes experts.
fn cache_bytes(args: &SpeakerArgs, shape: &Shape, expected: &Expected) -> u64 {
    let context = args.memory.ctx.map_or(BLIND_CONTEXT, |ctx| ctx as usize);
    let positions = context.min(shape.context).min(expected.positions);
    let whole = || memory::cache_bytes(shape, positions, args.device.steps.kv());
    args.memory.kv_memory.unwrap_or_else(whole)
}

/// What the context is, and what it costs.
fn described(shape: &Shape, plan: Plan, limits: Limits) -> String {
    let context = grouped(plan.context as u64);
    let of = if plan.context < shape.context {
        format!(" of the model's {}", grouped(shape.context as u64))
    } else {
        String::new()
    };
    let cache = quantity::bytes(plan.cache_bytes);
    format!("context {context}{of} tokens · {} cache {cache}", limits.kv.name())
}
