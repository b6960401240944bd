//! Ending: how an answer comes to its end before its tokens run out.
//!
//! A completion is looked for from where the answer stands: a copy of the parser is led, byte by
//! byte, towards closing whatever is open. While there are many more tokens left than it needs,
//! nothing is forbidden for its sake, and the next look is a quarter of the surplus later; once
//! the surplus is used up, the completion is what is written. So an answer that would run on is
//! cut at the latest moment, and valid; the same answer is always cut in the same place.

use std::collections::HashSet;

use llguidance::earley::Parser;
use toktrie::Recognizer;

use super::compiler::Ground;
use super::walk::guarded;

/// Tokens of surplus at which an answer is closed; of short answers, a sixteenth.
const MARGIN: usize = 32;
/// An answer with more tokens left than this is not closed at all.
const UNBOUNDED: usize = 1 << 24;
const MAX_BYTES: usize = 4000; // of one completion
const TRIES: u64 = 8;
const MAX_STATES: usize = 400; // of the lexer, on the way out of a string
/// Bytes that close something, or lead on, before those that open.
const PREFERRED: &[u8] =
    b"\"}])>',:0123456789ntfabcdeghijklmopqrsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_ \n[{(<-";

/// When to look for a completion, and the one that is being written.
#[derive(Clone, Default)]
pub(super) struct Ending {
    margin: Option<usize>,
    look_at: usize, // tokens left
    plan: Option<Vec<u8>>,
}

impl Ending {
    /// The bytes that are still to be written, once nothing else is allowed.
    pub(super) fn plan(
        &mut self,
        parser: &Parser,
        ground: &Ground,
        left: usize,
        quoted: bool,
    ) -> Option<&[u8]> {
        if left > UNBOUNDED {
            return None;
        }
        let margin = *self.margin.get_or_insert_with(|| {
            self.look_at = left;
            MARGIN.min(left / 16)
        });
        if self.plan.is_none() && left <= self.look_at {
            let found = completion(parser, quoted);
            let needed = found.as_ref().map_or(0, |bytes| 1 + tokens(ground, bytes));
            let surplus = left.saturating_sub(needed);
            self.look_at = left - (surplus / 4).clamp(1, left.max(1));
            self.plan = found.filter(|_| surplus <= margin);
        }
        self.plan.as_deref()
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

/// Bytes after which the grammar may end. The first try is led by preference alone; it can be led
/// in a circle, where a part may hold another of its kind, so others choose among names by lot.
/// `quoted`: it begins inside of a JSON string.
fn completion(parser: &Parser, quoted: bool) -> Option<Vec<u8>> {
    let mut room = MAX_BYTES;
    (0..TRIES).find_map(|lot| {
        let mut parser = parser.clone();
        let tried = guarded(|| {
            let mut order = Order { lot, bytes: PREFERRED.to_vec() };
            order.bytes.extend((0..=255).rev().filter(|byte| !PREFERRED.contains(byte)));
            let (mut written, mut quoted) = (Vec::new(), quoted);
            while !parser.is_accepting() {
                let mut next = Vec::new();
                if quoted {
                    next = unquoted(&mut parser).unwrap_or_default();
                    quoted = next.is_empty();
                }
                if next.is_empty() {
                    next.extend(order.next(&mut parser, written.last().copied()));
                    quoted |= next == b"\"" && lot % 2 == 0;
                }
                if next.is_empty() || written.len() >= room {
                    return Ok(None);
                }
                parser.apply_token(&next, 0).map_err(|error| error.to_string())?;
                written.append(&mut next);
            }
            Ok(Some(written))
        });
        room = MAX_BYTES / 8; // a circle has no end: the others need not go as far
        tried.ok().flatten()
    })
}

/// The shortest way out of a string, by its closing quote, where one is near.
fn unquoted(parser: &mut Parser) -> Option<Vec<u8>> {
    parser.with_recognizer(|recognizer| {
        recognizer.trie_started("unquoted");
        let (mut seen, mut paths, mut at) = (HashSet::new(), vec![Vec::new()], 0);
        let mut found = None;
        while let Some(path) = paths.get(at).cloned().filter(|_| at < MAX_STATES && found.is_none())
        {
            at += 1;
            let pushed = path.iter().take_while(|byte| recognizer.try_push_byte(**byte)).count();
            let escaped = path.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
            if !escaped && recognizer.byte_allowed(b'"') {
                found = Some([&path[..], b"\""].concat());
            } else {
                for byte in (0..=255).filter(|byte| escaped || *byte != b'"') {
                    if recognizer.try_push_byte(byte) {
                        if seen.insert(recognizer.lexer_state()) {
                            paths.push([&path[..], &[byte]].concat());
                        }
                        recognizer.pop_bytes(1);
                    }
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
    /// The first byte in the order that the grammar allows after `last`.
    fn next(&mut self, parser: &mut Parser, last: Option<u8>) -> Option<u8> {
        if self.lot > 0 {
            self.shuffle();
        }
        let closer = match last {
            Some(b'{') => Some(b'}'),
            Some(b'[') => Some(b']'),
            Some(b'(') => Some(b')'),
            _ => None,
        };
        parser.with_recognizer(|recognizer| {
            recognizer.trie_started("completion");
            let mut bytes = closer.iter().chain(&self.bytes);
            let found = bytes.find(|byte| recognizer.byte_allowed(**byte)).copied();
            recognizer.trie_finished();
            found
        })
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
