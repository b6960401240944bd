//! Parameters: what every wire of generation lets its clients choose, and the neutral meaning.
//!
//! What a client leaves out comes from the model's file. Every range is checked where it is read.

use qwire_engine::{Class, Salt, Sampling};
use qwire_text::{Special, Vocabulary};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::app::Model;
use crate::fault::Fault;
use crate::fields::{Fields, text, wrong};

/// Texts over which no repetition reaches, as DRY's inventor proposes them.
const DRY_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];
/// Most choices of a request.
const CHOICES: u64 = 128;
/// Most alternatives reported with a token.
pub const TOP: u64 = 20;

/// Most texts that end an answer, as OpenAI has it.
pub const STOPS: usize = 4;

/// How an answer is made.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Answers to the same prompt.
    pub n: usize,
    /// Most tokens of each answer; none is as many as fit.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer.
    pub stops: Vec<String>,
    /// Tokens that end it are taken for any other.
    pub ignore_ends: bool,
    /// Ends what goes round in circles.
    pub guard_repetition: bool,
    /// How urgent it is, if the client says it.
    pub class: Option<Class>,
    /// Whose prefixes it may read.
    pub salt: Salt,
    /// Tokens that the answer should have, roughly, if the client says it.
    pub prediction: Vec<u32>,
}

impl Parameters {
    /// Reads what chat and completions have in common, with so many stops at most.
    pub fn read(fields: &mut Fields, model: &Model, stops: usize) -> Result<Self, Fault> {
        let sampling = sampling(fields, &model.sampling, &model.vocabulary)?;
        let n = fields.count("n", 1..=CHOICES)?.unwrap_or(1) as usize;
        let salt = salt(fields)?;
        Ok(Self {
            sampling,
            n,
            max_tokens: None,
            stops: read_stops(fields, stops)?,
            ignore_ends: fields.flag("ignore_eos")?.unwrap_or(false),
            guard_repetition: false,
            class: class(fields)?,
            salt,
            prediction: Vec::new(),
        })
    }
}

fn sampling(
    fields: &mut Fields,
    recommended: &Sampling,
    vocabulary: &Vocabulary,
) -> Result<Sampling, Fault> {
    let mut sampling = recommended.clone();
    let mut set = |name, range, value: &mut f32| {
        fields.number(name, range).map(|found| {
            if let Some(found) = found {
                *value = found as f32;
            }
        })
    };
    set("temperature", 0.0..=2.0, &mut sampling.temperature)?;
    set("top_p", 0.0..=1.0, &mut sampling.top_p)?;
    set("min_p", 0.0..=1.0, &mut sampling.min_p)?;
    set("typical_p", 0.0..=1.0, &mut sampling.typical_p)?;
    set("presence_penalty", -2.0..=2.0, &mut sampling.presence_penalty)?;
    set("frequency_penalty", -2.0..=2.0, &mut sampling.frequency_penalty)?;
    set("repeat_penalty", 0.01..=100.0, &mut sampling.repetition_penalty)?;
    set("repetition_penalty", 0.01..=100.0, &mut sampling.repetition_penalty)?;
    set("dry_multiplier", 0.0..=100.0, &mut sampling.dry.multiplier)?;
    set("dry_base", 1.0..=100.0, &mut sampling.dry.base)?;
    // Both -1 and 0 are written for "off".
    if let Some(k) = fields.number("top_k", -1.0..=1e9)? {
        sampling.top_k = k.max(0.0) as u32;
    }
    if let Some(length) = fields.count("dry_allowed_length", 0..=1_000_000)? {
        sampling.dry.allowed_length = length as u32;
    }
    for (name, window) in [
        ("repeat_last_n", &mut sampling.penalty_window),
        ("dry_penalty_last_n", &mut sampling.dry.window),
    ] {
        if let Some(last) = fields.number(name, -1.0..=1e9)? {
            *window = if last < 0.0 { u32::MAX } else { last as u32 };
        }
    }
    if sampling.dry.is_on() {
        let breakers = DRY_BREAKERS.map(|text| vocabulary.encode(text, Special::AsText));
        sampling.dry.breakers = breakers.into();
    }
    sampling.logit_bias = logit_bias(fields, vocabulary)?;
    sampling.seed = match fields.take("seed") {
        // llama.cpp's clients write it for "any".
        Some(seed) if seed == -1 => drawn()?,
        Some(seed) => seed
            .as_u64()
            .or_else(|| seed.as_i64().map(|seed| seed as u64))
            .ok_or_else(|| wrong(&fields.path("seed"), &seed, "a whole number of 64 bits"))?,
        None => drawn()?,
    };
    Ok(sampling)
}

fn logit_bias(fields: &mut Fields, vocabulary: &Vocabulary) -> Result<Vec<(u32, f32)>, Fault> {
    let Some(found) = fields.take("logit_bias") else { return Ok(Vec::new()) };
    let path = fields.path("logit_bias");
    let Value::Object(pairs) = found else {
        return Err(wrong(&path, &found, "an object of token ids and numbers"));
    };
    let pair = |(id, bias): (String, Value)| {
        let token = id.parse().ok().filter(|id: &u32| (*id as usize) < vocabulary.len());
        let token = token.ok_or_else(|| {
            let shown: String = id.chars().take(20).collect();
            Fault::field(&*path, format!("names `{shown}`, which is no token's id"))
        })?;
        let number = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let number = number.ok_or_else(|| {
            Fault::field(&*path, format!("gives {id} {bias}: accepted is -100 to 100"))
        })?;
        // OpenAI's -100 bans a token.
        Ok((token, if number == -100.0 { f32::NEG_INFINITY } else { number as f32 }))
    };
    pairs.into_iter().map(pair).collect()
}

fn read_stops(fields: &mut Fields, most: usize) -> Result<Vec<String>, Fault> {
    let path = fields.path("stop");
    let stops = match fields.take("stop") {
        None => Vec::new(),
        Some(Value::Array(items)) => items
            .into_iter()
            .enumerate()
            .map(|(at, item)| text(item, &format!("{path}[{at}]")))
            .collect::<Result<_, _>>()?,
        Some(one) => vec![text(one, &path)?],
    };
    if stops.len() > most {
        let found = stops.len();
        return Err(Fault::field(path, format!("has {found} texts: accepted is at most {most}")));
    }
    if stops.iter().any(String::is_empty) {
        return Err(Fault::field(path, "holds an empty text"));
    }
    Ok(stops)
}

/// OpenAI's tiers are the engine's classes.
fn class(fields: &mut Fields) -> Result<Option<Class>, Fault> {
    let tiers = ["auto", "default", "flex", "priority", "scale"];
    Ok(match fields.word("service_tier", &tiers)?.as_deref() {
        Some("priority") => Some(Class::Interactive),
        Some("flex") => Some(Class::Background),
        _ => None,
    })
}

/// Whose prefixes may be read: a number for a text that only its owner knows.
pub fn salt(fields: &mut Fields) -> Result<Salt, Fault> {
    let Some(text) = fields.text("cache_salt")? else { return Ok(Salt::default()) };
    let digest = Sha256::digest(text.as_bytes());
    Ok(Salt(u128::from_le_bytes(digest[..16].try_into().expect("16 of 32 bytes"))))
}

/// A seed that nobody chose. It fits a JavaScript number, so that it can be sent back.
fn drawn() -> Result<u64, Fault> {
    getrandom::u64().map(|seed| seed >> 11).map_err(|_| Fault::internal())
}

/// Whether and how many log-probabilities come with each token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Logprobs {
    /// Alternatives with each.
    pub top: usize,
}

impl Logprobs {
    /// As chat asks for them.
    pub fn read_chat(fields: &mut Fields) -> Result<Option<Self>, Fault> {
        let asked = fields.flag("logprobs")?.unwrap_or(false);
        match (asked, fields.count("top_logprobs", 0..=TOP)?) {
            (true, top) => Ok(Some(Self { top: top.unwrap_or(0) as usize })),
            (false, None | Some(0)) => Ok(None),
            (false, Some(_)) => Err(fields.fault("top_logprobs", "needs `logprobs` to be true")),
        }
    }

    /// As completions ask for them.
    pub fn read_completion(fields: &mut Fields) -> Result<Option<Self>, Fault> {
        let top = fields.count("logprobs", 0..=TOP)?;
        Ok(top.map(|top| Self { top: top as usize }))
    }
}

/// Switches for the template: `chat_template_kwargs`, and the names that clients have for
/// thinking.
pub fn switches(fields: &mut Fields) -> Result<Map<String, Value>, Fault> {
    let path = fields.path("chat_template_kwargs");
    let mut switches = match fields.take("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(switches)) => switches,
        Some(other) => return Err(wrong(&path, &other, "an object")),
    };
    for name in ["messages", "tools", "add_generation_prompt"] {
        if switches.contains_key(name) {
            return Err(Fault::field(
                path,
                format!("sets `{name}`, which the request itself says"),
            ));
        }
    }
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh"];
    if let Some(effort) = fields.word("reasoning_effort", &efforts)? {
        let thinks = !matches!(effort.as_str(), "none" | "minimal");
        switches.entry("enable_thinking").or_insert(json!(thinks));
        switches.entry("reasoning_effort").or_insert(json!(effort));
    }
    if let Some(thinks) = fields.flag("enable_thinking")? {
        switches.insert("enable_thinking".into(), json!(thinks));
    }
    Ok(switches)
}
