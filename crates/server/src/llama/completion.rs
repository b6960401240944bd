//! `POST /completion`: llama.cpp's completion, whole or in chunks.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use qwire_engine::{Report, Sampled};
use qwire_text::{Controls, Special, Vocabulary};
use serde_json::{Map, Value, json};

use super::infill;
use crate::answer::decimal;
use crate::app::{App, Model};
use crate::chat::speaker::{self, Caller, comment, event, sign_of_life, text_of};
use crate::chat::turn::Lineage;
use crate::chat::whole::{Said, millis, whole};
use crate::chat::{
    Asked, Finish, Form, Generation, Logprobs, Order, Over, Parameters, Reading, Speaker, Step,
};
use crate::fault::{Fault, Wire};
use crate::fields::{Fields, wrong};
use crate::openai::usage::chat_logprobs;

/// Most texts that end an answer.
const STOPS: usize = 64;
/// Most prompts of a request.
const PROMPTS: usize = 64;
const WITHOUT_EFFECT: &[&str] = &["cache_prompt", "id_slot", "n_keep", "samplers", "slot_id"];

/// A request, every field read.
pub struct Job {
    prompts: Vec<Vec<u32>>,
    several: bool,
    parameters: Parameters,
    logprobs: Option<Logprobs>,
    form: (Form, String),
    tokens: bool,
    stream: bool,
}

/// The endpoint.
pub async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Fault> {
    speaker::answer(app, caller, body, |fields, app| Job::read(fields, app.model()?)?.asked(app))
        .await
}

impl Job {
    /// Reads every field of a completion.
    pub fn read(fields: &mut Fields, model: &Model) -> Result<Self, Fault> {
        let (prompts, several) = prompts(fields, &model.vocabulary)?;
        Self::read_rest(fields, model, prompts, several)
    }

    /// Reads every field of a gap.
    pub fn read_infill(fields: &mut Fields, model: &Model) -> Result<Self, Fault> {
        let prompt = infill::prompt(fields, &model.vocabulary)?;
        Self::read_rest(fields, model, vec![prompt], false)
    }

    fn read_rest(
        fields: &mut Fields,
        model: &Model,
        prompts: Vec<Vec<u32>>,
        several: bool,
    ) -> Result<Self, Fault> {
        let mut parameters = Parameters::read(fields, model, STOPS)?;
        let most = fields.number("n_predict", -1.0..=1e9)?;
        let most = fields.number("max_tokens", -1.0..=1e9)?.or(most);
        parameters.max_tokens = most.filter(|most| *most >= 0.0).map(|most| most as usize);
        let top = fields.count("n_probs", 0..=20)?.filter(|top| *top > 0);
        let job = Self {
            prompts,
            several,
            parameters,
            logprobs: top.map(|top| Logprobs { top: top as usize }),
            form: Form::read(fields)?,
            tokens: fields.flag("return_tokens")?.unwrap_or(false),
            stream: fields.flag("stream")?.unwrap_or(false),
        };
        fields.without_effect(WITHOUT_EFFECT);
        Ok(job)
    }

    /// What it comes to.
    pub fn asked(self, app: &App) -> Result<Asked<LlamaSpeaker>, Fault> {
        let model = app.model()?;
        let (streams, speaker) = (self.stream, LlamaSpeaker::of(model, &self));
        Ok(Asked { orders: self.orders(model)?, speaker, streams })
    }

    fn orders(self, model: &Model) -> Result<Vec<Order>, Fault> {
        let reading = Reading::plain(model, &self.form.0, &self.form.1)?;
        let order = |ids| Order {
            ids,
            parameters: self.parameters.clone(),
            logprobs: self.logprobs,
            report: Report::Nothing,
            reading: reading.clone(),
            lineage: Lineage::default(),
        };
        Ok(self.prompts.into_iter().map(order).collect())
    }
}

/// A text, ids, both mixed, or a list of these; whether it was a list.
fn prompts(fields: &mut Fields, vocabulary: &Vocabulary) -> Result<(Vec<Vec<u32>>, bool), Fault> {
    let path = fields.path("prompt");
    let found = fields.required("prompt")?;
    let encode = |text: &str| vocabulary.encode_prompt(text, Special::Parse);
    let mixed = |items: &[Value]| -> Option<Vec<u32>> {
        let ids = |item: &Value| match item {
            Value::String(text) => Some(encode(text)),
            id => Some(vec![id.as_u64()?.try_into().ok()?]),
        };
        Some(items.iter().map(ids).collect::<Option<Vec<_>>>()?.concat())
    };
    let one = |item: &Value| match item {
        Value::String(text) => Some(encode(text)),
        Value::Array(items) => mixed(items),
        _ => None,
    };
    let is_one = |items: &[Value]| items.iter().any(Value::is_u64);
    let (prompts, several) = match &found {
        Value::Array(items) if !is_one(items) => (items.iter().map(one).collect(), true),
        other => (one(other).map(|prompt| vec![prompt]), false),
    };
    let accepted = "a text, a list of token ids and texts, or a list of such prompts";
    let prompts: Vec<Vec<u32>> = prompts.ok_or_else(|| wrong(&path, &found, accepted))?;
    if prompts.is_empty() || prompts.len() > PROMPTS || prompts.iter().any(Vec::is_empty) {
        let accepted = format!("1 to {PROMPTS} prompts of at least one token");
        return Err(Fault::field(path, format!("has other measures: accepted is {accepted}")));
    }
    Ok((prompts, several))
}

/// llama.cpp's words for a completion.
pub struct LlamaSpeaker {
    model: String,
    vocabulary: Arc<Vocabulary>,
    prompts: Vec<Vec<u32>>,
    n: usize,
    settings: Value,
    logprobs: bool,
    tokens: bool,
    several: bool,
    lines: Vec<bool>,
}

impl LlamaSpeaker {
    fn of(model: &Model, job: &Job) -> Self {
        let sampling = &job.parameters.sampling;
        let settings = json!({
            "seed": sampling.seed,
            "temperature": decimal(sampling.temperature),
            "top_k": sampling.top_k,
            "top_p": decimal(sampling.top_p),
            "min_p": decimal(sampling.min_p),
            "typical_p": decimal(sampling.typical_p),
            "repeat_penalty": decimal(sampling.repetition_penalty),
            "presence_penalty": decimal(sampling.presence_penalty),
            "frequency_penalty": decimal(sampling.frequency_penalty),
            "stop": job.parameters.stops,
            "n_predict": job.parameters.max_tokens.map_or(-1, |most| most as i64),
            "stream": job.stream,
        });
        Self {
            model: model.name.clone(),
            vocabulary: model.vocabulary.clone(),
            prompts: job.prompts.clone(),
            n: job.parameters.n,
            settings,
            logprobs: job.logprobs.is_some(),
            tokens: job.tokens,
            several: job.several,
            lines: vec![false; job.prompts.len() * job.parameters.n],
        }
    }

    fn piece(&self, index: usize, text: &str, tokens: &[Sampled]) -> Map<String, Value> {
        let ids = tokens.iter().filter(|_| self.tokens).map(|token| json!(token.token.0));
        let mut body = Map::from_iter([
            ("index".to_owned(), json!(index)),
            ("content".to_owned(), json!(text)),
            ("tokens".to_owned(), ids.collect()),
            ("stop".to_owned(), json!(false)),
        ]);
        if self.logprobs {
            let listed = chat_logprobs(tokens, &self.vocabulary);
            body.insert("completion_probabilities".into(), listed["content"].clone());
        }
        body
    }

    fn ending(&self, index: usize, over: &Over, line: bool) -> Map<String, Value> {
        let (kind, word) = match &over.finish {
            Finish::Natural | Finish::Calls => ("eos", ""),
            Finish::Stop(word) => ("word", word.as_str()),
            Finish::Length | Finish::Repetition => ("limit", ""),
        };
        let read = over.prompt_tokens - over.cached_tokens;
        let rate = |tokens: usize, ms: f64| if ms > 0.0 { tokens as f64 * 1e3 / ms } else { 0.0 };
        let (reading, writing) = (millis(over.reading_time), millis(over.writing_time));
        let prompt = self.vocabulary.decode(&self.prompts[index / self.n], Controls::Show);
        let body = json!({
            "stop": true, "model": self.model, "id_slot": index,
            "tokens_predicted": over.answer_tokens, "tokens_evaluated": over.prompt_tokens,
            "tokens_cached": over.prompt_tokens + over.answer_tokens,
            "generation_settings": self.settings, "prompt": prompt, "has_new_line": line,
            "truncated": false, "stop_type": kind, "stopping_word": word,
            "timings": {
                "cache_n": over.cached_tokens,
                "prompt_n": read, "prompt_ms": reading, "prompt_per_second": rate(read, reading),
                "predicted_n": over.answer_tokens, "predicted_ms": writing,
                "predicted_per_second": rate(over.answer_tokens, writing),
            },
        });
        let Value::Object(body) = body else { unreachable!("an object was written") };
        body
    }
}

impl Speaker for LlamaSpeaker {
    async fn whole(self, mut generation: Generation) -> Result<Value, Fault> {
        let said = whole(&mut generation).await?;
        let answer = |(index, said): (usize, Said)| {
            let line = said.text.contains('\n');
            let mut body = self.piece(index, &said.text, &said.tokens);
            body.extend(self.ending(index, &said.over, line));
            Value::Object(body)
        };
        let mut answers: Vec<Value> = said.into_iter().enumerate().map(answer).collect();
        Ok(if self.several { answers.into() } else { answers.remove(0) })
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        comment(out, "queued");
    }

    fn speak(&mut self, step: Step, out: &mut Vec<u8>) -> bool {
        match step {
            Step::Started { .. } | Step::Prompt(..) => {}
            Step::Prefill { .. } | Step::Silence => sign_of_life(&step, out),
            Step::Said { choice, parts, token } => {
                let text = text_of(parts);
                self.lines[choice] |= text.contains('\n');
                event(out, &self.piece(choice, &text, token.as_slice()));
            }
            Step::Over(index, over) => {
                let mut body = self.piece(index, "", &[]);
                body.extend(self.ending(index, &over, self.lines[index]));
                event(out, &body);
            }
            Step::Failed(_, fault) => {
                event(out, &fault.body(Wire::OpenAi, ""));
                return false;
            }
        }
        true
    }

    fn close(&mut self, _out: &mut Vec<u8>) {}
}
