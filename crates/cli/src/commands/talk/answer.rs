//! The answer: tokens to visible text as they come, and all of it as one JSON object.

use std::io;
use std::time::{Duration, Instant};

use qwire_engine::Sampled;
use qwire_text::{Controls, Decoder, StopStrings, Vocabulary};
use serde::Serialize;

use super::speaker::Outcome;
use crate::failure::Failure;
use crate::quantity::{grouped, rate};

/// Why the answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The model ended it, or a stop string did.
    Stop,
    /// The context or the limit of tokens is used up.
    Length,
    /// The user did.
    Interrupted,
}

/// An answer under way.
pub struct Answer<'a> {
    vocabulary: &'a Vocabulary,
    decoder: Decoder,
    stops: StopStrings,
    tokens: Vec<u32>,
    text: String,
    /// Where somebody asked.
    logprobs: Option<Vec<Scored>>,
}

/// What a token adds.
pub struct Piece {
    /// Text that can be shown.
    pub text: String,
    /// Whether a stop string is complete.
    pub stopped: bool,
}

/// A token and what it was chosen from.
#[derive(Serialize)]
struct Scored {
    token: String,
    id: u32,
    logprob: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Scored>>,
}

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    tokens: &'a [u32],
    text: &'a str,
    finish_reason: Reason,
    prompt_tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a [Scored]>,
    seed: u64,
    timings: Timings,
}

#[derive(Serialize)]
struct Timings {
    load_ms: f64,
    prompt_tokens: usize,
    prompt_ms: f64,
    prompt_tok_s: f64,
    generated_tokens: usize,
    generate_ms: f64,
    generate_tok_s: f64,
}

impl<'a> Answer<'a> {
    /// An empty answer.
    pub fn new(vocabulary: &'a Vocabulary, stops: &[String], scored: bool) -> Self {
        Self {
            vocabulary,
            decoder: Decoder::new(),
            stops: StopStrings::new(stops),
            tokens: Vec::new(),
            text: String::new(),
            logprobs: scored.then(Vec::new),
        }
    }

    /// Tokens so far.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes a token.
    pub fn push(&mut self, sampled: Sampled) -> Piece {
        let id = sampled.token.0;
        self.tokens.push(id);
        if self.logprobs.is_some() {
            let scored = self.logprob(sampled);
            self.logprobs.get_or_insert_default().push(scored);
        }
        let text = self.decoder.push(self.vocabulary.token_bytes(id, Controls::Hide));
        let visible = self.stops.push(&text);
        self.text.push_str(&visible.text);
        Piece { text: visible.text, stopped: visible.stopped.is_some() }
    }

    fn logprob(&self, sampled: Sampled) -> Scored {
        let entry = |id: u32, logprob: f32, top| {
            let token = self.vocabulary.decode(&[id], Controls::Show);
            Scored { token, id, logprob, top }
        };
        let top = sampled.top.into_iter().map(|(id, logprob)| entry(id.0, logprob, None));
        entry(sampled.token.0, sampled.logprob, Some(top.collect()))
    }

    /// What was held back.
    pub fn finish(&mut self) -> String {
        let rest = self.decoder.finish();
        let visible = self.stops.push(&rest);
        let held = visible.text + &self.stops.finish();
        self.text.push_str(&held);
        held
    }

    /// The line of JSON.
    pub fn report(
        &self,
        outcome: &Outcome,
        prompt_tokens: usize,
        seed: u64,
    ) -> Result<String, Failure> {
        let report = Report {
            tokens: &self.tokens,
            text: &self.text,
            finish_reason: outcome.reason,
            prompt_tokens,
            logprobs: self.logprobs.as_deref(),
            seed,
            timings: outcome.clock.timings(prompt_tokens, self.tokens.len()),
        };
        let line = serde_json::to_string(&report).map_err(io::Error::from)?;
        Ok(line + "\n")
    }
}

/// Where the time went: loading, reading the prompt up to the first token, every token after it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    load: Duration,
    started: Instant,
    prompt: Option<Duration>,
    generate: Duration,
    steps: usize,
}

impl Clock {
    /// The prompt begins, of a model that took so long to load.
    pub fn start(load: Duration) -> Self {
        let zero = Duration::ZERO;
        Self { load, started: Instant::now(), prompt: None, generate: zero, steps: 0 }
    }

    /// A token is there, or the end is. An end that took no step does not count.
    pub fn step(&mut self, computed: bool) {
        let elapsed = self.started.elapsed();
        match self.prompt {
            None => self.prompt = Some(elapsed),
            Some(prompt) if computed => {
                self.generate = elapsed.saturating_sub(prompt);
                self.steps += 1;
            }
            Some(_) => {}
        }
    }

    fn timings(&self, prompt_tokens: usize, generated_tokens: usize) -> Timings {
        let prompt = self.prompt.unwrap_or_default();
        Timings {
            load_ms: ms(self.load),
            prompt_tokens,
            prompt_ms: ms(prompt),
            prompt_tok_s: per_s(prompt_tokens, prompt),
            generated_tokens,
            generate_ms: ms(self.generate),
            generate_tok_s: per_s(self.steps, self.generate),
        }
    }

    /// Speeds in one line. The first token belongs to the prompt.
    pub fn line(&self, prompt_tokens: usize, generated_tokens: usize) -> String {
        let speed = |steps, time: Duration| match per_s(steps, time) {
            0.0 => String::new(),
            speed => format!(", {}", rate(speed)),
        };
        format!(
            "prompt {} tokens{} · answer {} tokens{} · load {:.1} s",
            grouped(prompt_tokens as u64),
            speed(prompt_tokens, self.prompt.unwrap_or_default()),
            grouped(generated_tokens as u64),
            speed(self.steps, self.generate),
            self.load.as_secs_f64()
        )
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn per_s(steps: usize, time: Duration) -> f64 {
    if steps == 0 || time.is_zero() {
        return 0.0;
    }
    (steps as f64 / time.as_secs_f64() * 1e3).round() / 1e3
}
