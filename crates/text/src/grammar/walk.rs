//! Walk: one answer on its way through a compiled grammar.

use std::panic::AssertUnwindSafe;

use llguidance::earley::Parser;
use llguidance::panic_utils;

use super::compiler::{Ground, told};
use super::ending::Ending;

/// How far an answer has come.
#[derive(Clone)]
pub(super) struct Walk {
    parser: Parser,
    json: bool,
    may_end: bool,
    last: u8,
    ending: Ending,
}

impl Walk {
    /// At the start. A JSON text is over with its last bracket, whatever whitespace may follow.
    pub(super) fn new(mut parser: Parser, json: bool) -> Self {
        let may_end = parser.is_accepting();
        Self { parser, json, may_end, last: 0, ending: Ending::default() }
    }

    pub(super) fn may_end(&self) -> bool {
        self.may_end
    }

    pub(super) fn is_over(&self) -> bool {
        let done = if self.json { !self.last.is_ascii_digit() } else { !self.parser.can_advance() };
        self.may_end && done
    }

    /// Writes the tokens that may come next, the ends where `ends` says so.
    pub(super) fn mask(
        &mut self,
        ground: &Ground,
        words: &mut [u32],
        left: usize,
    ) -> Result<(), String> {
        words.fill(0);
        if self.is_over() {
            ground.allow_ends(words);
            return Ok(());
        }
        if let Some(plan) = self.ending.plan(&self.parser, ground, left, self.may_end) {
            // Where nothing is left to be written, the grammar is content.
            let next = (!plan.is_empty()).then(|| ground.env.tok_trie().prefix_token_id(plan));
            match next {
                Some((token, 1..)) => words[token as usize / 32] |= 1 << (token % 32),
                _ => ground.allow_ends(words),
            }
            return Ok(());
        }
        let parser = &mut self.parser;
        let allowed = guarded(|| {
            let allowed = parser.compute_bias(&ground.slicer, &[]);
            parser.get_error().map_or(Ok(allowed), |error| Err(error.message()))
        })?;
        for ((word, allowed), text) in words.iter_mut().zip(allowed.as_slice()).zip(&ground.text) {
            *word = allowed & text;
        }
        if self.may_end {
            ground.allow_ends(words);
        }
        Ok(())
    }

    /// Bytes that must come next.
    pub(super) fn forced(&self) -> Vec<u8> {
        let mut parser = self.parser.clone();
        guarded(|| Ok(parser.force_bytes().to_vec())).unwrap_or_default()
    }

    /// Goes on by bytes, a token's or those of one that straddled the start.
    pub(super) fn push(&mut self, bytes: &[u8], token: u32) -> Result<(), String> {
        let Some(&last) = bytes.last() else {
            return Err(format!("token {token} is not text"));
        };
        let parser = &mut self.parser;
        self.may_end = guarded(|| {
            parser.apply_token(bytes, token).map_err(|error| told(&error))?;
            Ok(parser.is_accepting())
        })?;
        self.last = last;
        self.ending.advance(bytes);
        Ok(())
    }
}

/// Does `work`; a panic of the library becomes an error, as everything else that it says.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let caught = panic_utils::catch_unwind(AssertUnwindSafe(|| Ok(work())));
    caught.map_err(|error| told(&error))?
}
