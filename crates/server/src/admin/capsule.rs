//! Capsule: a request as it was computed, and everything from which it can be computed again.
//!
//! ```text
//! model, build, numbers    whose bits they are
//! prompt, sampling, terms  what was asked: tokens, numbers, and what bound the answer
//! choices                  what came: tokens, and log-probabilities as bits where they were asked
//! sum                      of all that, to see whether anybody changed it
//! ```

use std::path::PathBuf;

use qwire_engine::sampler::Dry;
use qwire_engine::{Choice, Request, Sampling, TokenId};
use qwire_text::tools::{Rules, Thinking, Tool};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::app::{Model, now};
use crate::chat::generation::Order;
use crate::chat::name::hex;
use crate::chat::{Conversation, Form, Reading, ToolChoice};
use crate::fault::Fault;

/// The form that this file reads and writes.
const VERSION: u32 = 1;

/// A request and its answers.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Capsule {
    /// The form of the capsule.
    pub capsule: u32,
    /// Seconds since 1970.
    pub at: u64,
    /// The program's version.
    pub build: String,
    /// The version of the definition of its numbers.
    pub numbers: u32,
    /// Layers whose experts the CPU computed beside a card.
    #[serde(default, skip_serializing_if = "is_none")]
    pub host_layers: usize,
    /// What the model is called.
    pub model: String,
    /// Tells its file from every other.
    pub identity: String,
    /// Where it lay.
    pub path: PathBuf,
    /// Tokens.
    pub prompt: Vec<u32>,
    /// How tokens were chosen.
    pub sampling: Draw,
    /// Most tokens of an answer, of what the context left.
    pub max_tokens: usize,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// Alternatives with each token; none if log-probabilities were not asked for.
    pub logprobs: Option<usize>,
    /// Whether what went round in circles was ended.
    pub guard_repetition: bool,
    /// What bound the answer.
    pub terms: Value,
    /// The answers.
    pub choices: Vec<Taken>,
    /// SHA-256 of the rest.
    pub sum: String,
}

/// An answer.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
pub struct Taken {
    /// Tokens.
    pub tokens: Vec<u32>,
    /// The bits of their log-probabilities, where they were asked for.
    pub logprobs: Vec<u32>,
    /// How it ended; none if nobody waited for that.
    pub finish: Option<String>,
}

/// A [`Sampling`] in a file.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "they are those of Sampling")]
pub struct Draw {
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub typical_p: f32,
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub penalty_window: u32,
    pub dry_multiplier: f32,
    pub dry_base: f32,
    pub dry_allowed_length: u32,
    pub dry_window: u32,
    pub dry_breakers: Vec<Vec<u32>>,
    /// None bans a token.
    pub logit_bias: Vec<(u32, Option<f32>)>,
    pub seed: u64,
}

impl Capsule {
    /// What is asked, before there is any answer.
    pub fn of(model: &Model, order: &Order, max_tokens: usize) -> Self {
        let (parameters, facts) = (&order.parameters, &model.facts);
        let ends = if parameters.ignore_ends { &[] } else { model.vocabulary.end_ids() };
        Self {
            capsule: VERSION,
            at: now(),
            build: facts.version.into(),
            numbers: facts.numbers,
            host_layers: facts.host_layers,
            model: model.name.clone(),
            identity: facts.identity.clone(),
            path: facts.path.clone(),
            prompt: order.ids.clone(),
            sampling: Draw::of(&parameters.sampling),
            max_tokens,
            ends: ends.to_vec(),
            logprobs: order.logprobs.map(|logprobs| logprobs.top),
            guard_repetition: parameters.guard_repetition,
            terms: terms(&order.reading),
            choices: vec![Taken::default(); parameters.n],
            sum: String::new(),
        }
    }

    /// Its file.
    pub fn text(&mut self) -> String {
        self.sum = self.summed();
        serde_json::to_string(self).expect("numbers and texts can be written")
    }

    /// Reads a file.
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value["capsule"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(format!("a capsule of form {version}; this qwire reads {VERSION}"));
            }
            None => return Err("no capsule: it has no `capsule` with the number of a form".into()),
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// Whether it is as it was written.
    pub fn is_untouched(&self) -> bool {
        self.sum == self.summed()
    }

    fn summed(&self) -> String {
        let bare = Self { sum: String::new(), ..self.clone() };
        let text = serde_json::to_vec(&bare).expect("numbers and texts can be written");
        hex(&Sha256::digest(text))
    }

    /// The same request again, with so many alternatives told of each token.
    pub fn request(&self, model: &Model, top: usize) -> Result<Request, Fault> {
        let reading = read(model, &self.terms)?;
        let choice =
            |choice: Choice| Choice { constraint: reading.constraint(self.max_tokens), ..choice };
        let choices = Choice::several(&self.sampling.sampling(), self.choices.len());
        Ok(Request {
            prompt: self.prompt.iter().copied().map(TokenId).collect(),
            choices: choices.into_iter().map(choice).collect(),
            max_tokens: self.max_tokens,
            ends: self.ends.iter().copied().map(TokenId).collect(),
            logprobs: Some(top.max(self.logprobs.unwrap_or(0))),
            guard_repetition: self.guard_repetition,
            ..Request::default()
        })
    }
}

impl Draw {
    fn of(sampling: &Sampling) -> Self {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            penalty_window,
            dry: Dry { multiplier, base, allowed_length, window, breakers },
            logit_bias,
            seed,
            choice: _,
        } = sampling.clone();
        let finite = |(token, bias): (u32, f32)| (token, Some(bias).filter(|b| b.is_finite()));
        Self {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            penalty_window,
            dry_multiplier: multiplier,
            dry_base: base,
            dry_allowed_length: allowed_length,
            dry_window: window,
            dry_breakers: breakers,
            logit_bias: logit_bias.into_iter().map(finite).collect(),
            seed,
        }
    }

    fn sampling(&self) -> Sampling {
        let it = self.clone();
        let bias = |(token, bias): (u32, Option<f32>)| (token, bias.unwrap_or(f32::NEG_INFINITY));
        Sampling {
            temperature: it.temperature,
            top_k: it.top_k,
            top_p: it.top_p,
            min_p: it.min_p,
            typical_p: it.typical_p,
            repetition_penalty: it.repetition_penalty,
            presence_penalty: it.presence_penalty,
            frequency_penalty: it.frequency_penalty,
            penalty_window: it.penalty_window,
            dry: Dry {
                multiplier: it.dry_multiplier,
                base: it.dry_base,
                allowed_length: it.dry_allowed_length,
                window: it.dry_window,
                breakers: it.dry_breakers,
            },
            logit_bias: it.logit_bias.into_iter().map(bias).collect(),
            seed: it.seed,
            choice: 0,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_none(layers: &usize) -> bool {
    *layers == 0
}

/// What binds an answer, in words from which [`read`] makes it again.
fn terms(reading: &Reading) -> Value {
    let (dialect, tools) = reading.tools();
    let tool = |tool: &Tool| json!({ "name": tool.name, "parameters": tool.parameters });
    let (choice, form) = &reading.demand;
    let thinking = match reading.rules.thinking {
        Thinking::Never => "never",
        Thinking::Maybe => "maybe",
        Thinking::Inside => "inside",
    };
    json!({
        "dialect": dialect,
        "tools": tools.iter().map(tool).collect::<Vec<_>>(),
        "thinking": thinking,
        "parallel": reading.rules.parallel,
        "choice": match choice {
            ToolChoice::None => json!("none"),
            ToolChoice::Auto => json!("auto"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({ "name": name }),
        },
        "form": match form {
            Form::Free => json!("free"),
            Form::Object => json!("object"),
            Form::Schema(schema) => json!({ "schema": schema }),
            Form::Regex(regex) => json!({ "regex": regex }),
            Form::Grammar(grammar) => json!({ "grammar": grammar }),
        },
    })
}

fn read(model: &Model, terms: &Value) -> Result<Reading, Fault> {
    let fault = |name: &str| Fault::request(format!("the capsule's `{name}` says nothing known"));
    if terms["dialect"] != model.dialect.name() {
        let (theirs, ours) = (&terms["dialect"], model.dialect.name());
        let message = format!("calls were written in the way {theirs}; here they are in {ours:?}");
        return Err(Fault::request(message));
    }
    let thinking = match terms["thinking"].as_str() {
        Some("never") => Thinking::Never,
        Some("maybe") => Thinking::Maybe,
        Some("inside") => Thinking::Inside,
        _ => return Err(fault("thinking")),
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let choice = match (terms["choice"].as_str(), text(&terms["choice"]["name"])) {
        (Some("none"), _) => ToolChoice::None,
        (Some("auto"), _) => ToolChoice::Auto,
        (Some("required"), _) => ToolChoice::Required,
        (None, Some(name)) => ToolChoice::Named(name),
        _ => return Err(fault("choice")),
    };
    let kinds = terms["form"].as_object().and_then(|form| form.iter().next());
    let form = match (terms["form"].as_str(), kinds) {
        (Some("free"), _) => Form::Free,
        (Some("object"), _) => Form::Object,
        (_, Some((kind, schema))) if kind == "schema" => Form::Schema(schema.clone()),
        (_, Some((kind, Value::String(text)))) if kind == "regex" => Form::Regex(text.clone()),
        (_, Some((kind, Value::String(text)))) if kind == "grammar" => Form::Grammar(text.clone()),
        _ => return Err(fault("form")),
    };
    let tools = terms["tools"].as_array().ok_or_else(|| fault("tools"))?;
    let tools = tools.iter().map(|tool| json!({ "type": "function", "function": tool }));
    let conversation = Conversation { tools: tools.collect(), ..Conversation::default() };
    let parallel = terms["parallel"].as_bool().ok_or_else(|| fault("parallel"))?;
    let rules = Rules { thinking, parallel };
    Reading::of(model, &conversation, rules, &choice, &form, "form")
}
