//! The cast of a world: requests as they are asked for, remembered so that each can be asked again.

use qwire_engine::{
    Allowed, Choice, Class, Constraint, Mask, Pooling, Report, Request, Salt, Sampling,
};
use qwire_model::TokenId;

use crate::shaky::{PROVOKED, Random};

pub const VOCAB: usize = 12;

/// A constraint that allows every other token, and may break at a given length.
#[derive(Clone, Debug)]
pub struct Parity {
    pub odd: bool,
    pub breaks: Option<(usize, Break)>,
    pub len: usize,
}

/// How a constraint breaks.
#[derive(Clone, Copy, Debug)]
pub enum Break {
    Panic,
    Error,
    Nothing,
}

impl Constraint for Parity {
    fn allowed(&mut self, mask: &mut Mask) -> Result<Allowed, String> {
        match self.breaks.filter(|(len, _)| *len == self.len) {
            Some((_, Break::Panic)) => panic!("{PROVOKED}"),
            Some((_, Break::Error)) => return Err("no way on".into()),
            Some((_, Break::Nothing)) => return Ok(Allowed::Mask),
            None => {}
        }
        if self.len.is_multiple_of(5) {
            return Ok(Allowed::Everything);
        }
        let tokens = (0..VOCAB as u32).filter(|token| (token % 2 == 1) == self.odd);
        tokens.for_each(|token| mask.allow(TokenId(token)));
        Ok(Allowed::Mask)
    }

    fn advance(&mut self, _: TokenId) -> Result<(), String> {
        self.len += 1;
        Ok(())
    }

    /// Now and then, and seldom rightly.
    fn forced(&self) -> Vec<TokenId> {
        assert!(self.len % 11 != 10, "{PROVOKED}");
        let token = |at: usize| TokenId(((self.len + at) % VOCAB) as u32);
        (0..self.len % 4).map(token).collect()
    }
}

/// A request that can be asked more than once.
#[derive(Clone, Debug)]
pub struct Wish {
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    pub choices: usize,
    pub constraint: Option<Parity>,
    pub max_tokens: usize,
    pub report: Report,
    pub class: Class,
    pub salt: Salt,
    pub prediction: Vec<u32>,
    pub logprobs: Option<usize>,
}

impl Wish {
    /// Anything that may be asked; prompts grow from a few stems.
    pub fn any(random: &mut Random, stems: &[Vec<u32>], context: usize) -> Self {
        let stem = random.pick(stems);
        let mut prompt = stem[..random.between(0, stem.len() as u64) as usize].to_vec();
        let most = *random.pick(&[20, 20, 20, 120]);
        prompt.extend((0..random.between(1, most)).map(|_| random.below(VOCAB as u64) as u32));
        prompt.truncate(context);
        Self::of(random, prompt)
    }

    /// Anything about this prompt.
    pub fn of(random: &mut Random, prompt: Vec<u32>) -> Self {
        let breaks = *random.pick(&[Break::Panic, Break::Error, Break::Nothing]);
        let len = random.below(20) as usize;
        let breaks = random.one_in(6).then_some((len, breaks));
        let constraint = Parity { odd: random.one_in(2), breaks, len: 0 };
        let reports = [
            Report::Logprobs(2),
            Report::Embedding(Pooling::Last),
            Report::Embedding(Pooling::Mean),
        ];
        let most = *random.pick(&[25, 25, 25, 150]);
        // Of few tokens, so that some of it comes.
        let len = if random.one_in(3) { random.between(1, 60) } else { 0 };
        let prediction = (0..len).map(|_| random.below(3) as u32).collect();
        let report = if random.one_in(6) { *random.pick(&reports) } else { Report::Nothing };
        // Answers of two tokens repeat themselves, and are guessed.
        let narrow = [(random.between(1, 5) as u32, 40.0), (random.between(6, 11) as u32, 40.0)];
        Self {
            prompt,
            sampling: Sampling {
                temperature: *random.pick(&[0.0, 0.8, 1.3]),
                top_k: *random.pick(&[0, 0, 2, 4]),
                frequency_penalty: *random.pick(&[0.0, 0.0, 0.5]),
                seed: random.next(),
                logit_bias: if random.one_in(3) { narrow.to_vec() } else { Vec::new() },
                ..Sampling::default()
            },
            choices: if random.one_in(4) { random.between(2, 4) as usize } else { 1 },
            constraint: random.one_in(5).then_some(constraint),
            max_tokens: random.below(most) as usize,
            report,
            class: *random.pick(&[Class::Interactive, Class::Normal, Class::Background]),
            salt: Salt(u128::from(random.one_in(5))),
            prediction,
            logprobs: random.below(4).checked_sub(1).map(|tops| tops as usize),
        }
    }

    pub fn request(&self) -> Request {
        let constraint = |parity: &Parity| Box::new(parity.clone()) as Box<dyn Constraint>;
        let mut choices = Choice::several(&self.sampling, self.choices);
        for choice in &mut choices {
            choice.constraint = self.constraint.as_ref().map(constraint);
        }
        Request {
            prompt: self.prompt.iter().map(|token| TokenId(*token)).collect(),
            choices,
            max_tokens: self.max_tokens,
            ends: vec![TokenId(0)],
            logprobs: self.logprobs,
            report: self.report,
            class: self.class,
            salt: self.salt,
            guard_repetition: true,
            prediction: self.prediction.iter().map(|token| TokenId(*token)).collect(),
        }
    }
}
