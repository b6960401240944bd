//! Ending: how an answer comes to its end before its tokens run out.
//!
//! A completion is looked for from where the answer stands: a copy of the parser is led, byte by
//! byte, towards closing whatever is open. While there are many more tokens left than it needs,
//! nothing is forbidden for its sake, and the next look is a quarter of the surplus later; once
//! the surplus is used up, the completion is what is written. So an answer that would run on is
//! cut at the latest moment, and valid; the same answer is always cut in the same place.
//!
//! Where an answer may end it may also begin another part, which takes at once what a part takes at
//! least: there it ends unless several would fit, and where a part has begun there is a new look.

use std::collections::HashSet;

use llguidance::earley::{Parser, ParserStats};
use toktrie::Recognizer;

use super::compiler::Ground;
use super::walk::guarded;

/// Tokens of surplus at which an answer is closed; of short answers, a sixteenth.
const MARGIN: usize = 32;
/// Another part is begun if the shortest answer would fit so many times.
const PARTS: usize = 4;
/// An answer with more tokens left than this is not closed at all.
const UNBOUNDED: usize = 1 << 24;
const MAX_BYTES: usize = 4000; // of one completion
const TRIES: u64 = 8;
const MAX_STATES: usize = 400; // of the lexer, on the way out of a lexeme
/// Bytes of a lexeme after which the way out is looked for in any case.
const PATIENCE: usize = 16;
/// Bytes that close something, or lead on, before those that open.
const PREFERRED: &[u8] =
    b"\"}])>',:0123456789ntfabcdeghijklmopqrsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_ \n[{(<-";

/// When to look for a completion, and the one that is being written.
#[derive(Clone, Default)]
pub(super) struct Ending {
    measure: Option<Measure>,
    look_at: usize, // tokens left
    /// Whether it might have ended before the latest token.
    content: bool,
    plan: Option<Vec<u8>>,
}

/// What was found at the start of the answer, in tokens.
#[derive(Clone, Copy)]
struct Measure {
    margin: usize,
    /// What another part must leave, to be begun.
    part: usize,
}

impl Ending {
    /// The bytes that are still to be written, once nothing else is allowed. `content`: the answer
    /// may end here.
    pub(super) fn plan(
        &mut self,
        parser: &Parser,
        ground: &Ground,
        left: usize,
        content: bool,
    ) -> Option<&[u8]> {
        if left > UNBOUNDED {
            return None;
        }
        let begun = std::mem::replace(&mut self.content, content) && !content;
        if self.measure.is_none() || begun {
            self.look_at = left;
        }
        if self.plan.is_none() && left <= self.look_at {
            let found = completion(parser);
            let needed = found.as_ref().map_or(0, |bytes| 1 + tokens(ground, bytes));
            let surplus = left.saturating_sub(needed);
            self.look_at = left - (surplus / 4).clamp(1, left.max(1));
            let Measure { margin, .. } = *self.measure.get_or_insert_with(|| {
                let margin = MARGIN.min(left / 16);
                Measure { margin, part: (PARTS * needed + margin).min(left / 2) }
            });
            self.plan = found.filter(|_| surplus <= margin);
        }
        let last = content && self.measure.is_some_and(|measure| left <= measure.part);
        if self.plan.is_none() && last { Some(&[]) } else { self.plan.as_deref() }
    }

    /// What has been written is no longer to be written.
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        self.plan = self.plan.take().and_then(|plan| plan.strip_prefix(bytes).map(<[u8]>::to_vec));
    }
}

/// How many tokens it takes to write `bytes`.
fn tokens(ground: &Ground, mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let (_, len) = ground.env.tok_trie().prefix_token_id(bytes);
        bytes = &bytes[len.max(1)..];
        count += 1;
    }
    count
}

/// Bytes after which the grammar may end. The first try takes the shortest way out of each part;
/// it can be led in a circle, where a part may hold another of its kind, so others choose among
/// names by lot.
fn completion(parser: &Parser) -> Option<Vec<u8>> {
    let mut room = MAX_BYTES;
    (0..TRIES).find_map(|lot| {
        let mut parser = parser.clone();
        let tried = guarded(|| {
            let mut order = Order { lot, bytes: PREFERRED.to_vec() };
            order.bytes.extend((0..=255).rev().filter(|byte| !PREFERRED.contains(byte)));
            let (mut written, mut inside) = (Vec::new(), usize::MAX);
            while !parser.is_accepting() {
                let leaves = lot % 2 == 0 || inside > PATIENCE;
                let way = if leaves { way_out(&mut parser, &order, &written) } else { None };
                let Some(next) = way.or_else(|| order.next(&mut parser, &written)) else {
                    return Ok(None);
                };
                if written.len() >= room {
                    return Ok(None);
                }
                let before = lexemes(parser.stats());
                parser.apply_token(&next, 0).map_err(|error| error.to_string())?;
                let ended = lexemes(parser.stats()) > before;
                inside = if ended { 0 } else { inside.saturating_add(next.len()) };
                written.extend(next);
            }
            Ok(Some(written))
        });
        room = MAX_BYTES / 8; // a circle has no end: the others need not go as far
        tried.ok().flatten()
    })
}

/// The lexemes that a parser has come to the end of.
fn lexemes(stats: &ParserStats) -> usize {
    stats.rows + stats.cached_rows
}

/// The shortest way to the end of the lexeme that is being written, where it is near: the quote
/// that closes a string, whatever closes a text.
fn way_out(parser: &mut Parser, order: &Order, written: &[u8]) -> Option<Vec<u8>> {
    parser.with_recognizer(|recognizer| {
        recognizer.trie_started("way out");
        let (mut seen, mut paths, mut at) = (HashSet::new(), vec![Vec::new()], 0);
        let mut found = None;
        while let Some(path) = paths.get(at).cloned().filter(|_| at < MAX_STATES && found.is_none())
        {
            at += 1;
            let pushed = path.iter().take_while(|byte| recognizer.try_push_byte(**byte)).count();
            let last = path.last().or(written.last()).copied();
            let before = lexemes(recognizer.stats_mut());
            for byte in order.after(last) {
                if !recognizer.try_push_byte(byte) {
                    continue;
                }
                let ends = lexemes(recognizer.stats_mut()) > before;
                let new = !ends && seen.insert(recognizer.lexer_state());
                recognizer.pop_bytes(1);
                let longer = || [&path[..], &[byte]].concat();
                if ends {
                    found = Some(longer());
                    break;
                }
                if new {
                    paths.push(longer());
                }
            }
            recognizer.pop_bytes(pushed);
        }
        recognizer.trie_finished();
        found
    })
}

/// In what order bytes are tried.
struct Order {
    lot: u64,
    bytes: Vec<u8>,
}

impl Order {
    /// The first byte in the order that the grammar allows.
    fn next(&mut self, parser: &mut Parser, written: &[u8]) -> Option<Vec<u8>> {
        if self.lot > 0 {
            self.shuffle();
        }
        parser.with_recognizer(|recognizer| {
            recognizer.trie_started("completion");
            let mut bytes = self.after(written.last().copied());
            let found = bytes.find(|byte| recognizer.byte_allowed(*byte));
            recognizer.trie_finished();
            found.map(|byte| vec![byte])
        })
    }

    /// All bytes in order, with what closes `last` before them.
    fn after(&self, last: Option<u8>) -> impl Iterator<Item = u8> {
        let closer = match last {
            Some(b'{') => Some(b'}'),
            Some(b'[') => Some(b']'),
            Some(b'(') => Some(b')'),
            _ => None,
        };
        closer.into_iter().chain(self.bytes.iter().copied())
    }

    /// Mixes digits and letters, by a generator that is the same everywhere.
    fn shuffle(&mut self) {
        let names = &mut self.bytes[8..];
        for at in (1..names.len() - 200).rev() {
            self.lot = self.lot.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            names.swap(at, (self.lot >> 33) as usize % (at + 1));
        }
    }
}
