//! Grammar: what an answer may look like, as a mask over the vocabulary before each token.
//!
//! ```text
//! JSON schema ─ check, rewrite ─┐                             ┌ mask ◄── tokens left
//! GBNF ─────────── translate ───┼─► Lark, JSON ─► Grammar ────┤
//! regex, Lark ──────────────────┘   (compiled)                └ accept ◄── token drawn
//! ```
//!
//! Compiling is bounded in time, stack and size, whatever the text; what cannot be enforced is
//! refused by the keyword's name. A grammar may begin after a marker or at a trigger
//! ([`Grammar::after`], [`Grammar::triggered`]), and closes the answer before its tokens run out.
//! An answer may be of one grammar or another ([`Grammar::or`]).

mod compiler;
mod ending;
mod gbnf;
mod negation;
mod opening;
mod paths;
mod schema;
mod walk;

use std::fmt;

pub use compiler::Grammars;
pub use opening::Grammar;

/// Why a grammar was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What was found and where, in one line.
    pub message: String,
    /// The keyword of the schema that is at fault.
    pub keyword: Option<String>,
}

impl Refused {
    fn because(message: impl Into<String>) -> Self {
        Self { message: message.into(), keyword: None }
    }

    fn keyword(keyword: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), keyword: Some(keyword.into()) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}
