//! Embeddings: texts to vectors of length one, made of the model's final norm.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use futures_util::{StreamExt, TryStreamExt, stream};
use qwire_engine::{
    Bounds, Choice, Event, Finish, Pooling, Report, Request, Sampling, TokenId, Usage,
};
use qwire_text::Special;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::answer::Json;
use crate::app::{App, Model, aside};
use crate::fault::Fault;
use crate::fields::{Fields, ids, text, wrong};

/// Most texts of a request.
const MOST_INPUTS: usize = 2048;
/// How many of them the engine has at once: the rest must not fill the queue for others.
const AT_ONCE: usize = 8;

/// What is asked for.
pub struct Ask {
    model: Option<String>,
    input: Value,
    base64: bool,
    dimensions: Option<u64>,
    pooling: Pooling,
}

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Entry>,
    model: &'a str,
    usage: Tokens,
}

#[derive(Serialize)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers {
    List(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Tokens {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Ask {
    /// Reads a body.
    pub fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let format = fields.word("encoding_format", &["float", "base64"])?;
        let pooling = fields.word("pooling", &["last", "mean"])?;
        fields.without_effect(&["user"]);
        Ok(Self {
            model: fields.text("model")?,
            dimensions: fields.count("dimensions", 1..=u64::MAX)?,
            input: fields.required("input")?,
            base64: format.as_deref() == Some("base64"),
            pooling: match pooling.as_deref() {
                Some("mean") => Pooling::Mean,
                _ => Pooling::Last,
            },
        })
    }

    /// The vectors of these inputs.
    pub fn of(model: Option<String>, input: Value, dimensions: Option<u64>) -> Self {
        Self { model, input, base64: false, dimensions, pooling: Pooling::Last }
    }

    /// One request of the engine for each input.
    fn requests(self, model: &Model) -> Result<Vec<Request>, Fault> {
        let hidden = model.facts.hidden;
        if let Some(found) = self.dimensions.filter(|found| *found != hidden as u64) {
            let message = format!("is {found}: this model has {hidden}");
            return Err(Fault::field("dimensions", message));
        }
        let bounds = model.service.bounds();
        let request = |(at, prompt)| {
            let request = Request {
                prompt,
                choices: vec![Choice::plain(Sampling::default())],
                report: Report::Embedding(self.pooling),
                ..Request::default()
            };
            let verdict = bounds.check(&request).map_err(Fault::from);
            let param = Some(format!("input[{at}]"));
            verdict.map(|()| request).map_err(|fault| Fault { param, ..fault })
        };
        prompts(self.input, model, bounds)?.into_iter().enumerate().map(request).collect()
    }
}

/// `POST /v1/embeddings`
pub async fn embed(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<impl IntoResponse + use<>, Fault> {
    let mut fields = Fields::of_body(&body)?;
    let ask = Ask::read(&mut fields)?;
    let ignored = fields.finish(&app.settings)?;
    let base64 = ask.base64;
    let (vectors, prompt_tokens) = vectors(&app, ask).await?;
    let entry = |(index, vector): (usize, Vec<f32>)| {
        let embedding = if base64 {
            Numbers::Base64(base64_of(vector.into_iter().flat_map(f32::to_le_bytes)))
        } else {
            Numbers::List(vector)
        };
        Entry { object: "embedding", index, embedding }
    };
    let answer = Json(Answer {
        object: "list",
        data: vectors.into_iter().enumerate().map(entry).collect(),
        model: &app.model()?.name,
        usage: Tokens { prompt_tokens, total_tokens: prompt_tokens },
    });
    Ok((ignored, answer).into_response())
}

/// The vector of each input, of length one, and the tokens of all inputs.
pub async fn vectors(app: &Arc<App>, ask: Ask) -> Result<(Vec<Vec<f32>>, usize), Fault> {
    app.model_named(ask.model.as_deref())?;
    let shared = app.clone();
    let requests = aside(move || ask.requests(shared.model()?)).await?;
    let model = app.model()?;
    let vectors = stream::iter(requests).map(|request| vector(model, request)).buffered(AT_ONCE);
    let vectors: Vec<(Vec<f32>, Usage)> = vectors.try_collect().await?;
    let tokens = vectors.iter().map(|(_, usage)| usage.prompt_tokens).sum();
    Ok((vectors.into_iter().map(|(vector, _)| normal(vector)).collect(), tokens))
}

/// The tokens of each input: a text, token ids, or a list of either.
fn prompts(input: Value, model: &Model, bounds: Bounds) -> Result<Vec<Vec<TokenId>>, Fault> {
    // What looks like a special token is text.
    let encode = |text: &str| model.vocabulary.encode_prompt(text, Special::AsText);
    let encode = |text: &str| encode(text).into_iter().map(TokenId).collect();
    let items = match input {
        Value::String(text) => return Ok(vec![encode(&text)]),
        Value::Array(items) => items,
        other => return Err(wrong("input", &other, "a text, token ids, or a list of either")),
    };
    match items.first() {
        Some(Value::Number(_)) => return Ok(vec![ids(&items, "input", bounds.vocab)?]),
        Some(_) if items.len() <= MOST_INPUTS => {}
        _ => {
            let message = format!("has {} items: accepted is 1 to {MOST_INPUTS}", items.len());
            return Err(Fault::field("input", message));
        }
    }
    let item = |(at, item)| {
        let path = format!("input[{at}]");
        match item {
            Value::Array(items) => ids(&items, &path, bounds.vocab),
            item => text(item, &path).map(|text| encode(&text)),
        }
    };
    items.into_iter().enumerate().map(item).collect()
}

/// One input through the engine.
async fn vector(model: &Model, request: Request) -> Result<(Vec<f32>, Usage), Fault> {
    let (sender, mut events) = mpsc::unbounded_channel();
    let sink = Box::new(move |_, event| sender.send(event).is_ok());
    let _handle = model.service.submit(request, sink)?;
    let mut vector = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Embedding(numbers) => vector = numbers,
            Event::Finished { finish, usage } if finish != Finish::Cancelled => {
                return Ok((vector, usage));
            }
            Event::Finished { .. } => break,
            Event::Failed(fault) => return Err(fault.into()),
            _ => {}
        }
    }
    Err(Fault::internal())
}

/// x / ‖x‖₂; zero stays zero.
fn normal(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    vector
}

fn base64_of(bytes: impl Iterator<Item = u8>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = bytes.collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_rfc_4648() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{ff}~?", "w79+Pw=="),
        ] {
            assert_eq!(base64_of(text.bytes()), expected, "{text}");
        }
    }

    #[test]
    fn vectors_have_length_one() {
        assert_eq!(normal(vec![3.0, -4.0]), [0.6, -0.8]);
        assert_eq!(normal(vec![0.0; 2]), [0.0; 2]);
        assert_eq!(normal(vec![1e30; 4]), [0.5; 4]);
    }
}
