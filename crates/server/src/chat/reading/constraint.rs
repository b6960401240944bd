//! Constraint: a grammar as the engine asks for one.

use qwire_engine::{Allowed, Constraint, Mask, TokenId};
use qwire_text::Grammar;

/// A grammar that a choice is held to.
pub struct Held {
    grammar: Grammar,
    /// Tokens that are left, so that it comes to an end within them.
    left: usize,
    rigour: Rigour,
}

/// What becomes of an answer whose grammar fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rigour {
    /// It fails too: what was demanded cannot be given.
    Strict,
    /// It goes on as text: the grammar only helped.
    Lenient,
    /// It has gone on as text.
    Free,
}

impl Held {
    /// A grammar at its start.
    pub fn new(grammar: Grammar, left: usize, rigour: Rigour) -> Self {
        Self { grammar, left, rigour }
    }

    /// Bears a failure, or passes it on.
    fn bear(&mut self, outcome: Result<Allowed, String>) -> Result<Allowed, String> {
        match outcome {
            Err(fault) if self.rigour == Rigour::Lenient => {
                tracing::warn!(%fault, "a call of a tool goes on without its grammar");
                self.rigour = Rigour::Free;
                Ok(Allowed::Everything)
            }
            other => other,
        }
    }
}

impl Constraint for Held {
    fn allowed(&mut self, mask: &mut Mask) -> Result<Allowed, String> {
        if self.rigour == Rigour::Free || self.grammar.is_free() {
            return Ok(Allowed::Everything);
        }
        let masked = self.grammar.mask(mask.words_mut(), self.left).map(|()| Allowed::Mask);
        self.bear(masked)
    }

    fn forced(&self) -> Vec<TokenId> {
        let tokens = match self.rigour {
            Rigour::Free => Vec::new(),
            Rigour::Strict | Rigour::Lenient => self.grammar.forced(),
        };
        tokens.into_iter().map(TokenId).collect()
    }

    fn advance(&mut self, token: TokenId) -> Result<(), String> {
        self.left = self.left.saturating_sub(1);
        if self.rigour == Rigour::Free {
            return Ok(());
        }
        let accepted = self.grammar.accept(token.0).map(|()| Allowed::Mask);
        self.bear(accepted).map(drop)
    }
}
