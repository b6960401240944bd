//! One generation: a prompt, then a token at a time until something ends it.

use qwire_model::TokenId;

use crate::engine::{Engine, Fault, Outputs, Sequence};
use crate::sampler::{Sampler, Sampling, top_logprobs};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// At least one token.
    pub prompt: Vec<TokenId>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Tokens that end the answer; they are not part of it.
    pub ends: Vec<TokenId>,
    /// Alternatives to report with each token.
    pub top_logprobs: usize,
}

/// Why a generation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// The model ended its answer.
    Stop,
    /// `max_tokens` or the context is used up.
    Length,
}

/// A token of the answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Its log-probability under the raw logits.
    pub logprob: f32,
    /// The likeliest tokens, best first.
    pub top: Vec<(TokenId, f32)>,
}

/// A generation under way.
#[derive(Debug)]
pub struct Generation {
    request: Request,
    sampler: Sampler,
    sequence: Sequence,
    history: Vec<u32>,     // prompt and answer
    pending: Vec<TokenId>, // in the history, not yet computed
    finish: Option<Finish>,
}

impl Generation {
    /// Starts one. The error names the parameter that is wrong.
    pub fn new(engine: &Engine, request: Request) -> Result<Self, String> {
        let (len, context) = (request.prompt.len(), engine.context());
        if len == 0 {
            return Err("the prompt has no tokens".into());
        }
        if len > context {
            return Err(format!("the prompt has {len} tokens; the context holds {context}"));
        }
        let vocab = engine.vocab();
        if let Some(token) = request.prompt.iter().find(|token| token.0 as usize >= vocab) {
            return Err(format!("token {} is not in the vocabulary of {vocab}", token.0));
        }
        Ok(Self {
            sampler: Sampler::new(request.sampling.clone(), vocab)?,
            sequence: Sequence::default(),
            history: request.prompt.iter().map(|token| token.0).collect(),
            pending: request.prompt.clone(),
            finish: None,
            request,
        })
    }

    /// Tokens of the prompt that are not computed yet.
    pub fn remaining(&self) -> usize {
        self.pending.len()
    }

    /// Computes one chunk of a prompt longer than a step; true if another must follow before
    /// [`Generation::next`] takes the rest. It lets a caller look around between chunks.
    pub fn prefill(&mut self, engine: &mut Engine) -> Result<bool, Fault> {
        let chunk = engine.chunk();
        if self.pending.len() > chunk {
            engine.extend(&mut self.sequence, &self.pending[..chunk], Outputs::None)?;
            self.pending.drain(..chunk);
        }
        Ok(self.pending.len() > chunk)
    }

    /// The next token of the answer; none once it has ended.
    pub fn next(&mut self, engine: &mut Engine) -> Result<Option<Sampled>, Fault> {
        while self.prefill(engine)? {}
        let generated = self.history.len() - self.request.prompt.len();
        if generated >= self.request.max_tokens {
            self.finish.get_or_insert(Finish::Length);
        }
        if self.finish.is_some() {
            return Ok(None);
        }
        match engine.extend(&mut self.sequence, &self.pending, Outputs::Last) {
            Err(Fault::Full) => {
                self.finish = Some(Finish::Length);
                return Ok(None);
            }
            result => result?,
        }
        let logits = engine.logits(0..1);
        let position = self.history.len() as u64;
        let choice = self.sampler.sample(logits, &self.history, position).map_err(Fault::Logits)?;
        if self.request.ends.contains(&TokenId(choice.token)) {
            self.finish = Some(Finish::Stop);
            return Ok(None);
        }
        let top = top_logprobs(logits, self.request.top_logprobs);
        let top = top.into_iter().map(|(id, logprob)| (TokenId(id), logprob)).collect();
        self.history.push(choice.token);
        self.pending = vec![TokenId(choice.token)];
        Ok(Some(Sampled { token: TokenId(choice.token), logprob: choice.logprob, top }))
    }

    /// Why it ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Gives the pages back.
    pub fn release(self, engine: &mut Engine) {
        engine.release(self.sequence);
    }
}
