//! A request alone: what it must get in every world, computed without pages, queue or neighbours.

use qwire_engine::toy::Toy;
use qwire_engine::{
    Allowed, Constraint, Event, Finish, Mask, Pooling, Report, Sampled, Sampler, Sampling,
};
use qwire_model::TokenId;

use crate::cast::{VOCAB, Wish};

/// How an answer ends when nobody disturbs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Finished(Finish),
    /// By its own constraint.
    Failed,
}

/// Everything one choice hears.
#[derive(Clone, PartialEq, Debug)]
pub struct Alone {
    pub tokens: Vec<Sampled>,
    pub prompt: Vec<Sampled>,
    pub embedding: Option<Vec<f32>>,
    pub end: End,
}

/// One choice of a wish.
pub fn alone(wish: &Wish, choice: usize, layers: usize, context: usize) -> Alone {
    let report = if choice == 0 { wish.report } else { Report::Nothing };
    let logits = |history: &[u32]| Toy::answer(history, VOCAB, layers);
    let mut all = Alone {
        tokens: Vec::new(),
        prompt: Vec::new(),
        embedding: None,
        end: End::Finished(Finish::Length),
    };
    match report {
        Report::Nothing => {}
        Report::Logprobs(tops) => {
            for at in 1..wish.prompt.len() {
                all.prompt.push(scored(wish.prompt[at], Some(tops), &logits(&wish.prompt[..at])));
            }
        }
        Report::Embedding(pooling) => {
            let first = if pooling == Pooling::Mean { 1 } else { wish.prompt.len() };
            let heads: Vec<_> =
                (first..=wish.prompt.len()).map(|len| &wish.prompt[..len]).collect();
            let sum: f64 = heads.iter().map(|head| f64::from(hidden(head, layers))).sum();
            all.embedding = Some(vec![(sum / heads.len() as f64) as f32]);
            return all;
        }
    }
    if wish.max_tokens > 0 {
        all.end = answer(wish, choice, context, &logits, &mut all.tokens);
    }
    all
}

fn answer(
    wish: &Wish,
    choice: usize,
    context: usize,
    logits: &dyn Fn(&[u32]) -> Vec<f32>,
    tokens: &mut Vec<Sampled>,
) -> End {
    let sampling = Sampling { choice: choice as u32, ..wish.sampling.clone() };
    let mut sampler = Sampler::new(sampling, VOCAB).expect("a sound sampling");
    let mut constraint = wish.constraint.clone();
    let mut history = wish.prompt.clone();
    loop {
        let mut mask = Mask::new(VOCAB);
        let mut masked = false;
        if let Some(constraint) = &mut constraint {
            if constraint.breaks.is_some_and(|(len, _)| len == constraint.len) {
                return End::Failed;
            }
            masked = constraint.allowed(&mut mask) == Ok(Allowed::Mask);
        }
        let logits = logits(&history);
        let position = history.len() as u64;
        let drawn = sampler.sample(&logits, &history, position, masked.then_some(&mask));
        let drawn = drawn.expect("sound logits");
        if drawn == 0 {
            return End::Finished(Finish::Stop);
        }
        if let Some(constraint) = &mut constraint {
            constraint.advance(TokenId(drawn)).expect("it goes on");
        }
        tokens.push(scored(drawn, wish.logprobs, &logits));
        history.push(drawn);
        if tokens.len() == wish.max_tokens || history.len() > context {
            return End::Finished(Finish::Length);
        }
    }
}

fn scored(token: u32, tops: Option<usize>, logits: &[f32]) -> Sampled {
    let Some(tops) = tops else {
        return Sampled { token: TokenId(token), logprob: 0.0, top: Vec::new() };
    };
    let top = qwire_engine::sampler::top_logprobs(logits, tops);
    let logprob = qwire_engine::sampler::logprob(logits, token).expect("sound logits");
    let top = top.into_iter().map(|(token, logprob)| (TokenId(token), logprob)).collect();
    Sampled { token: TokenId(token), logprob, top }
}

fn hidden(history: &[u32], layers: usize) -> f32 {
    (Toy::hash_of(history, layers) % 1000) as f32
}

/// What one choice heard, put together.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub events: Vec<Event>,
}

impl Heard {
    /// Whether its ending has come.
    pub fn is_over(&self) -> bool {
        self.events.last().is_some_and(Event::is_ending)
    }

    pub fn tokens(&self) -> Vec<Sampled> {
        let token = |event: &Event| match event {
            Event::Token(sampled) => Some(sampled.clone()),
            _ => None,
        };
        self.events.iter().filter_map(token).collect()
    }

    pub fn prompt(&self) -> Vec<Sampled> {
        let part = |event: &Event| match event {
            Event::Prompt(part) => part.clone(),
            _ => Vec::new(),
        };
        self.events.iter().flat_map(part).collect()
    }

    pub fn embedding(&self) -> Option<Vec<f32>> {
        self.events.iter().find_map(|event| match event {
            Event::Embedding(embedding) => Some(embedding.clone()),
            _ => None,
        })
    }
}
