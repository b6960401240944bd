//! A constraint: which tokens may come next. Grammars and schemas live outside of the engine, which
//! only asks, between steps, and follows.

use qwire_model::TokenId;

/// The tokens that are allowed, one bit each.
#[derive(Clone, Debug)]
pub struct Mask {
    words: Vec<u32>, // bit t % 32 of word t / 32
}

/// What a constraint says of the next token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// Anything: the mask is not looked at.
    Everything,
    /// The tokens of the mask, tokens that end the answer among them where it may end.
    Mask,
}

/// What a request demands of its answer. A fault, and an empty mask, end the answer as failed.
pub trait Constraint: Send {
    /// Marks the tokens that may come next; the mask forbids all of them before.
    fn allowed(&mut self, mask: &mut Mask) -> Result<Allowed, String>;
    /// Goes on after a token of the answer. Tokens that end it are not told.
    fn advance(&mut self, token: TokenId) -> Result<(), String>;
    /// Tokens that are likely to come next because little else is allowed: they are guessed.
    fn forced(&self) -> Vec<TokenId> {
        Vec::new()
    }
}

impl Mask {
    /// A mask that allows none of `vocab` tokens.
    pub fn new(vocab: usize) -> Self {
        Self { words: vec![0; vocab.div_ceil(32)] }
    }

    /// Forbids every token.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Allows a token.
    pub fn allow(&mut self, token: TokenId) {
        self.words[token.0 as usize / 32] |= 1 << (token.0 % 32);
    }

    /// Whether a token is allowed.
    pub fn allows(&self, token: TokenId) -> bool {
        self.words[token.0 as usize / 32] >> (token.0 % 32) & 1 == 1
    }

    /// The bits, to be filled from elsewhere.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// −∞ for the score of each token that is not allowed.
    pub(crate) fn forbid(&self, scores: &mut [f32]) {
        for (scores, word) in scores.chunks_mut(32).zip(&self.words) {
            if *word == u32::MAX {
                continue;
            }
            for (bit, score) in scores.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_cannot_be_drawn() {
        let mut mask = Mask::new(70);
        for token in [0, 31, 32, 69] {
            mask.allow(TokenId(token));
        }
        let mut scores = vec![1.0; 70];
        mask.forbid(&mut scores);
        let left: Vec<_> = (0..70).filter(|at| scores[*at] == 1.0).collect();
        assert_eq!(left, [0, 31, 32, 69]);
        assert!(left.iter().all(|token| mask.allows(TokenId(*token as u32))));
        mask.clear();
        mask.forbid(&mut scores);
        assert!(scores.iter().all(|score| *score == f32::NEG_INFINITY));
    }
}
