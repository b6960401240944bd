//! `POST /v1/completions`: texts, or tokens, continued as they are; a gap filled between two texts.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use qwire_engine::{Report, Sampled};
use qwire_text::{Controls, Special, Vocabulary};
use serde_json::{Value, json};

use super::delivery::Delivery;
use super::letterhead::Letterhead;
use super::usage::{Listing, Usage};
use crate::app::{App, Model, Settings};
use crate::chat::parameters::STOPS;
use crate::chat::speaker::{self, Caller, event, text_of};
use crate::chat::turn::Lineage;
use crate::chat::whole::whole;
use crate::chat::{
    Asked, Finish, Form, Generation, Logprobs, Order, Over, Parameters, Reading, Speaker, Step,
};
use crate::fault::{Fault, Wire};
use crate::fields::{Fields, ids, wrong};

/// Most prompts of a request.
const PROMPTS: usize = 64;
const OBJECT: &str = "text_completion";
/// What stands around the texts beside a gap, in this order.
const GAP: [&str; 3] = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
const WITHOUT_EFFECT: &[&str] = &["cache_prompt", "user", "metadata", "store"];

/// A request, every field read.
pub struct CompletionRequest {
    prompts: Vec<Vec<u32>>,
    parameters: Parameters,
    logprobs: Option<Logprobs>,
    form: (Form, String),
    echo: bool,
    delivery: Delivery,
}

/// The endpoint.
pub async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Fault> {
    let read = |fields: &mut Fields, app: &Arc<App>| {
        let model = app.asked_model(fields)?;
        let request = CompletionRequest::read(fields, model, &app.settings)?;
        let streams = request.delivery.stream;
        let speaker = CompletionSpeaker::of(model, &request)?;
        Ok(Asked { orders: request.orders(model)?, speaker, streams })
    };
    speaker::answer(app, caller, body, read).await
}

impl CompletionRequest {
    /// Reads every field but the model's name.
    pub fn read(fields: &mut Fields, model: &Model, settings: &Settings) -> Result<Self, Fault> {
        let mut prompts = prompts(fields, &model.vocabulary)?;
        if let Some(after) = fields.text("suffix")?.filter(|after| !after.is_empty()) {
            let gap = |before: Vec<u32>| fill(before, &after, &model.vocabulary);
            let filled: Option<Vec<_>> = prompts.into_iter().map(gap).collect();
            prompts = filled.ok_or_else(|| {
                fields.fault("suffix", "needs a model that was made to fill gaps")
            })?;
        }
        let mut parameters = Parameters::read(fields, model, STOPS)?;
        let most = fields.count("max_tokens", 0..=u64::MAX)?;
        parameters.max_tokens = Some(most.unwrap_or(16) as usize);
        let n = parameters.n as u64;
        if fields.count("best_of", 1..=u64::MAX)?.is_some_and(|best| best != n) {
            return Err(fields.fault("best_of", format!("is not `n`, which is {n}")));
        }
        let request = Self {
            prompts,
            parameters,
            logprobs: Logprobs::read_completion(fields)?,
            form: Form::read(fields)?,
            echo: fields.flag("echo")?.unwrap_or(false),
            delivery: Delivery::read(fields, settings)?,
        };
        fields.without_effect(WITHOUT_EFFECT);
        Ok(request)
    }

    fn orders(self, model: &Model) -> Result<Vec<Order>, Fault> {
        let report = match self.logprobs {
            Some(logprobs) if self.echo => Report::Logprobs(logprobs.top),
            _ => Report::Nothing,
        };
        let reading = Reading::plain(model, &self.form.0, &self.form.1)?;
        let order = |ids| Order {
            ids,
            parameters: self.parameters.clone(),
            logprobs: self.logprobs,
            report,
            reading: reading.clone(),
            lineage: Lineage::default(),
        };
        Ok(self.prompts.into_iter().map(order).collect())
    }
}

/// A text, a list of texts, a list of ids, or a list of lists of ids.
fn prompts(fields: &mut Fields, vocabulary: &Vocabulary) -> Result<Vec<Vec<u32>>, Fault> {
    let path = fields.path("prompt");
    let found = fields.required("prompt")?;
    let encode = |text: &str| vocabulary.encode_prompt(text, Special::Parse);
    let accepted = "a text, a list of texts, a list of token ids, or a list of such lists";
    let tokens = |items: &[Value], path: &str| -> Result<Vec<u32>, Fault> {
        Ok(ids(items, path, vocabulary.len())?.into_iter().map(|id| id.0).collect())
    };
    let one = |(at, item): (usize, &Value)| match item {
        Value::String(text) => Ok(encode(text)),
        Value::Array(items) => tokens(items, &format!("{path}[{at}]")),
        other => Err(wrong(&format!("{path}[{at}]"), other, "a text or a list of token ids")),
    };
    let prompts: Vec<_> = match &found {
        Value::String(text) => vec![encode(text)],
        Value::Array(items) if items.first().is_some_and(Value::is_number) => {
            vec![tokens(items, &path)?]
        }
        Value::Array(items) => items.iter().enumerate().map(one).collect::<Result<_, _>>()?,
        other => return Err(wrong(&path, other, accepted)),
    };
    if prompts.is_empty() || prompts.len() > PROMPTS {
        let count = prompts.len();
        return Err(Fault::field(path, format!("has {count} items: accepted is 1 to {PROMPTS}")));
    }
    if prompts.iter().any(Vec::is_empty) {
        return Err(Fault::field(path, "holds a prompt without tokens"));
    }
    Ok(prompts)
}

/// The prompt for what stands between two texts.
pub fn fill(before: Vec<u32>, after: &str, vocabulary: &Vocabulary) -> Option<Vec<u32>> {
    let [prefix, suffix, middle] = GAP.map(|text| vocabulary.special_id(text));
    let mut ids = vec![prefix?];
    ids.extend(before);
    ids.push(suffix?);
    ids.extend(vocabulary.encode(after, Special::AsText));
    ids.push(middle?);
    Some(ids)
}

/// OpenAI's words for a completion.
struct CompletionSpeaker {
    letterhead: Letterhead,
    vocabulary: Arc<Vocabulary>,
    prompts: Vec<Vec<u32>>,
    n: usize,
    echo: bool,
    logprobs: bool,
    delivery: Delivery,
    usage: Usage,
    /// Characters listed of each choice.
    offsets: Vec<usize>,
    /// Tokens of each prompt whose scores are still to come.
    unscored: Vec<usize>,
    /// What choices said before their prompt was scored.
    early: Vec<Step>,
}

impl CompletionSpeaker {
    fn of(model: &Model, request: &CompletionRequest) -> Result<Self, Fault> {
        let n = request.parameters.n;
        let scores = request.echo && request.logprobs.is_some();
        let unscored = |prompt: &Vec<u32>| if scores { prompt.len() - 1 } else { 0 };
        let (ids, seed) = (request.prompts.concat(), request.parameters.sampling.seed);
        Ok(Self {
            letterhead: Letterhead::of(model, "cmpl-", &ids, seed)?,
            vocabulary: model.vocabulary.clone(),
            prompts: request.prompts.clone(),
            n,
            echo: request.echo,
            logprobs: request.logprobs.is_some(),
            delivery: request.delivery,
            usage: Usage::default(),
            offsets: vec![0; n * request.prompts.len()],
            unscored: request.prompts.iter().map(unscored).collect(),
            early: Vec::new(),
        })
    }

    fn prompt(&self, index: usize) -> &[u32] {
        &self.prompts[index / self.n]
    }

    fn echoed(&self, index: usize) -> String {
        if self.echo {
            self.vocabulary.decode(self.prompt(index), Controls::Show)
        } else {
            String::new()
        }
    }

    fn chunk(&self, choice: &Value, out: &mut Vec<u8>) {
        self.delivery.chunk(self.letterhead.body(OBJECT, json!([choice])), out);
    }

    /// Tokens of a choice, with the given one before them, as a chunk.
    fn tell(
        &mut self,
        index: usize,
        text: &str,
        given: bool,
        tokens: &[Sampled],
        out: &mut Vec<u8>,
    ) {
        let mut choice = choice(index, text);
        if self.logprobs {
            let mut listing = Listing::at(self.offsets[index], &self.vocabulary);
            if given {
                listing.given(self.prompt(index)[0]);
            }
            tokens.iter().for_each(|token| listing.sampled(token));
            self.offsets[index] = listing.offset();
            choice["logprobs"] = listing.value();
        }
        self.chunk(&choice, out);
    }
}

fn choice(index: usize, text: &str) -> Value {
    json!({ "index": index, "text": text, "logprobs": null, "finish_reason": null })
}

fn reason(over: &Over) -> &'static str {
    match over.finish {
        Finish::Natural | Finish::Stop(_) | Finish::Calls => "stop",
        Finish::Length | Finish::Repetition => "length",
    }
}

impl Speaker for CompletionSpeaker {
    fn head(&self, headers: &mut HeaderMap) {
        self.letterhead.head(headers);
    }

    async fn whole(mut self, mut generation: Generation) -> Result<Value, Fault> {
        let said = whole(&mut generation).await?;
        // Only the first choice of a prompt hears what is said of it.
        let mut scores: &[Sampled] = &[];
        let mut choices = Vec::new();
        for (index, said) in said.iter().enumerate() {
            let first = index % self.n == 0;
            self.usage.add(&said.over, first);
            if first {
                scores = &said.prompt;
            }
            let text = self.echoed(index) + &said.text;
            let mut choice = choice(index, &text);
            choice["finish_reason"] = json!(reason(&said.over));
            if self.logprobs {
                let mut listing = Listing::at(0, &self.vocabulary);
                if self.echo {
                    listing.given(self.prompt(index)[0]);
                    scores.iter().for_each(|token| listing.sampled(token));
                }
                said.tokens.iter().for_each(|token| listing.sampled(token));
                choice["logprobs"] = listing.value();
            }
            choices.push(choice);
        }
        let mut body = self.letterhead.body(OBJECT, choices.into());
        body.insert("usage".into(), json!(self.usage));
        Ok(body.into())
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.offsets.len() {
            let text = self.echoed(index);
            self.tell(index, &text, self.echo, &[], out);
        }
    }

    fn speak(&mut self, step: Step, out: &mut Vec<u8>) -> bool {
        match step {
            // Only a prompt's first choice hears its scores, and the others may be ahead of it.
            Step::Said { choice, .. } | Step::Over(choice, _)
                if self.unscored[choice / self.n] > 0 =>
            {
                self.early.push(step);
            }
            Step::Started { .. } => {}
            Step::Prefill { .. } | Step::Silence => {
                let body = |choices| self.letterhead.body(OBJECT, choices);
                self.delivery.wait(&step, body, &choice(0, ""), out);
            }
            Step::Prompt(index, tokens) => {
                for index in index..index + self.n {
                    self.tell(index, "", false, &tokens, out);
                }
                let unscored = &mut self.unscored[index / self.n];
                *unscored = unscored.saturating_sub(tokens.len());
                let early = std::mem::take(&mut self.early);
                return early.into_iter().all(|step| self.speak(step, out));
            }
            Step::Said { choice, parts, token } => {
                let text = text_of(parts);
                if !text.is_empty() || self.logprobs {
                    self.tell(choice, &text, false, token.as_slice(), out);
                }
            }
            Step::Over(index, over) => {
                self.usage.add(&over, index % self.n == 0);
                let mut choice = choice(index, "");
                choice["finish_reason"] = json!(reason(&over));
                self.chunk(&choice, out);
            }
            Step::Failed(_, fault) => {
                event(out, &fault.body(Wire::OpenAi, ""));
                return false;
            }
        }
        true
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.delivery.close(&self.letterhead, OBJECT, self.usage, out);
    }
}
