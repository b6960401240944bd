//! Opening: where in an answer its grammar begins.
//!
//! ```text
//! at once      │ grammar ...
//! after        │ anything but an end ... marker │ newlines, grammar ...
//! triggered    │ anything ... │ trigger ... grammar │ anything ... │ trigger ...
//! ```
//!
//! Markers and triggers are found in bytes, wherever tokens cut them. A token that runs past the
//! end of a trigger is allowed where the grammar goes on with the rest of it, past a marker where
//! the rest is newlines.

use std::sync::Arc;

use toktrie::TokTrie;

use super::compiler::Ground;
use super::paths::Paths;

/// Newlines that a model may put between its thoughts and what the grammar demands.
const LEAD: u8 = 2;

/// A compiled grammar and how far an answer has come in it. A clone starts afresh and shares what
/// was compiled.
pub struct Grammar {
    ground: Arc<Ground>,
    start: Arc<Paths>,
    opening: Opening,
    phase: Phase,
}

#[derive(Clone)]
enum Opening {
    AtOnce,
    After(Marks),
    Triggered(Marks),
}

/// The texts to be watched for, and the tokens that hold one of them and more after it.
#[derive(Clone)]
struct Marks {
    texts: Arc<[Vec<u8>]>,
    longer: Arc<[u32]>,
}

enum Phase {
    /// Unconstrained; the last bytes, in which a mark may have begun.
    Free(Vec<u8>),
    /// Between the marker and the grammar: this many newlines may still come.
    Lead(u8),
    Bound(Box<Paths>),
}

impl Clone for Grammar {
    fn clone(&self) -> Self {
        let (ground, start) = (Arc::clone(&self.ground), Arc::clone(&self.start));
        Self { ground, start, opening: self.opening.clone(), phase: self.first() }
    }
}

impl Grammar {
    pub(super) fn new(ground: Arc<Ground>, start: Paths) -> Self {
        let phase = Phase::Bound(Box::new(start.clone()));
        Self { ground, start: Arc::new(start), opening: Opening::AtOnce, phase }
    }

    /// Where it starts.
    pub(super) fn start(&self) -> Paths {
        Paths::clone(&self.start)
    }

    /// What this grammar derives, or what the other one does. An answer that goes the other's way
    /// is cut where its tokens run out, not closed before.
    pub fn or(self, other: &Self) -> Self {
        let start = Paths::clone(&self.start).or(Paths::clone(&other.start));
        Self::new(self.ground, start)
    }

    /// The grammar begins after the first `marker`; before it, anything may come but an end.
    pub fn after(self, marker: &str) -> Self {
        let marks = Marks::new(&self.ground, &[marker]);
        Self { opening: Opening::After(marks), ..self }.clone()
    }

    /// Anything may come until one of `triggers`, with which the grammar begins; as soon as the
    /// grammar may end, anything may come again, until the next trigger.
    pub fn triggered(self, triggers: &[&str]) -> Self {
        let marks = Marks::new(&self.ground, triggers);
        Self { opening: Opening::Triggered(marks), ..self }.clone()
    }

    /// Whether every token may come, so that no mask is needed.
    pub fn is_free(&self) -> bool {
        match (&self.phase, &self.opening) {
            (Phase::Free(tail), Opening::Triggered(marks)) => {
                marks.longer.is_empty() && marks.begun(tail).next().is_none()
            }
            _ => false,
        }
    }

    /// Whether the answer may end here.
    pub fn may_end(&self) -> bool {
        match &self.phase {
            Phase::Free(_) => matches!(self.opening, Opening::Triggered(_)),
            Phase::Lead(_) => self.start.may_end(),
            Phase::Bound(walk) => walk.may_end(),
        }
    }

    /// Whether nothing but an end can follow.
    pub fn is_over(&self) -> bool {
        matches!(&self.phase, Phase::Bound(walk) if walk.is_over())
    }

    /// Sets bit `t % 32` of word `t / 32` for each token that may come next, those that end the
    /// answer among them where it may end, and clears all others. `left` is how many tokens may
    /// still come, an end among them: the answer is closed before they run out.
    pub fn mask(&mut self, words: &mut [u32], left: usize) -> Result<(), String> {
        let room = words.len() * 32;
        if room < self.ground.env.tok_trie().vocab_size() {
            return Err(format!("a mask for {room} tokens is too short for the vocabulary"));
        }
        match &mut self.phase {
            Phase::Bound(walk) => walk.mask(&self.ground, words, left),
            Phase::Lead(lead) => {
                let lead = *lead;
                Paths::clone(&self.start).mask(&self.ground, words, left)?;
                for text in ["\n", "\n\n"].iter().filter(|text| text.len() <= lead.into()) {
                    if let Some(token) = self.ground.env.tok_trie().token_id(text.as_bytes()) {
                        set(words, token, true);
                    }
                }
                Ok(())
            }
            Phase::Free(tail) => {
                words.fill(u32::MAX);
                match &self.opening {
                    Opening::AtOnce => {}
                    Opening::After(marks) => {
                        self.ground.ends.iter().for_each(|end| set(words, *end, false));
                        marks.forbid(&self.ground, tail, words, |_| Ok(None))?;
                    }
                    Opening::Triggered(marks) => {
                        marks.forbid(&self.ground, tail, words, |begun| {
                            let mut walk = Paths::clone(&self.start);
                            walk.push(begun, 0).map(|()| Some(walk))
                        })?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Tokens that should come next, for they write what must. There are other tokens that do.
    pub fn forced(&self) -> Vec<u32> {
        match &self.phase {
            Phase::Bound(walk) => self.ground.tokens(&walk.forced()),
            Phase::Lead(_) | Phase::Free(_) => Vec::new(),
        }
    }

    /// Goes on after a token. One that the mask forbids is an error, an end is not told.
    pub fn accept(&mut self, token: u32) -> Result<(), String> {
        if self.ground.ends.contains(&token) {
            return Ok(());
        }
        let bytes = self.ground.bytes(token);
        match (&mut self.phase, &self.opening) {
            (Phase::Lead(lead), _)
                if bytes.len() <= usize::from(*lead) && bytes.iter().all(|byte| *byte == b'\n') =>
            {
                *lead -= bytes.len() as u8;
            }
            (Phase::Lead(_), _) => {
                let mut walk = Paths::clone(&self.start);
                walk.push(bytes, token)?;
                self.phase = Phase::Bound(Box::new(walk));
            }
            (Phase::Bound(walk), _) => walk.push(bytes, token)?,
            (Phase::Free(_), Opening::AtOnce) => {}
            (Phase::Free(tail), Opening::After(marks)) => {
                tail.extend_from_slice(bytes);
                if let Some((_, end)) = marks.found(tail) {
                    let rest = &tail[end..];
                    if !is_lead(rest) {
                        return Err(format!("token {token} runs past the marker"));
                    }
                    self.phase = Phase::Lead(LEAD - rest.len() as u8);
                } else {
                    marks.trim(tail);
                }
            }
            (Phase::Free(tail), Opening::Triggered(marks)) => {
                tail.extend_from_slice(bytes);
                if let Some((from, _)) = marks.found(tail) {
                    let mut walk = Paths::clone(&self.start);
                    walk.push(&tail[from..], token)?;
                    self.phase = Phase::Bound(Box::new(walk));
                } else {
                    marks.trim(tail);
                }
            }
        }
        let over = matches!(&self.phase, Phase::Bound(walk) if walk.may_end());
        if over && matches!(self.opening, Opening::Triggered(_)) {
            self.phase = Phase::Free(Vec::new());
        }
        Ok(())
    }

    fn first(&self) -> Phase {
        match self.opening {
            Opening::AtOnce => Phase::Bound(Box::new(Paths::clone(&self.start))),
            Opening::After(_) | Opening::Triggered(_) => Phase::Free(Vec::new()),
        }
    }
}

impl Marks {
    fn new(ground: &Ground, texts: &[&str]) -> Self {
        let texts: Arc<[Vec<u8>]> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let holds = |token: &u32| {
            let bytes = ground.bytes(*token);
            let runs_on = |text: &Vec<u8>| {
                bytes.len() > text.len()
                    && at(bytes, text).is_some_and(|at| at + text.len() < bytes.len())
            };
            texts.iter().any(runs_on)
        };
        let tokens = 0..ground.env.tok_trie().vocab_size() as u32;
        let longer = tokens.filter(holds).collect();
        Self { texts, longer }
    }

    /// The first mark in `tail`: where it begins and ends.
    fn found(&self, tail: &[u8]) -> Option<(usize, usize)> {
        let places = self.texts.iter().filter_map(|text| Some((at(tail, text)?, text.len())));
        places.min().map(|(from, len)| (from, from + len))
    }

    /// The marks whose beginning ends `tail`, each in two: what is there, what is to come.
    fn begun(&self, tail: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.texts.iter().flat_map(move |text| {
            let cuts = (1..text.len()).filter(|cut| tail.ends_with(&text[..*cut]));
            cuts.map(|cut| text.split_at(cut)).collect::<Vec<_>>()
        })
    }

    /// Forgets what can no longer be the beginning of a mark.
    fn trim(&self, tail: &mut Vec<u8>) {
        let longest = self.texts.iter().map(Vec::len).max().unwrap_or(0);
        tail.drain(..tail.len().saturating_sub(longest.saturating_sub(1)));
    }

    /// Forbids tokens that complete a mark and go on, but for those with which the grammar goes on.
    /// `walk` is where it stands when this much of a trigger is written, if it begins with one.
    fn forbid(
        &self,
        ground: &Ground,
        tail: &[u8],
        words: &mut [u32],
        walk: impl Fn(&[u8]) -> Result<Option<Paths>, String>,
    ) -> Result<(), String> {
        self.longer.iter().for_each(|token| set(words, *token, false));
        for (begun, rest) in self.begun(tail) {
            let longer = longer(ground.env.tok_trie(), rest);
            if longer.is_empty() {
                continue;
            }
            let mut allowed = vec![0; words.len()];
            match walk(begun)? {
                Some(mut walk) => walk.mask(ground, &mut allowed, usize::MAX)?,
                None => longer
                    .iter()
                    .filter(|token| is_lead(&ground.bytes(**token)[rest.len()..]))
                    .for_each(|token| set(&mut allowed, *token, true)),
            }
            for token in longer {
                set(words, token, allowed[token as usize / 32] >> (token % 32) & 1 == 1);
            }
        }
        Ok(())
    }
}

/// The tokens that begin with `bytes` and go on.
fn longer(trie: &TokTrie, bytes: &[u8]) -> Vec<u32> {
    let mut nodes: Vec<_> = trie.child_at_bytes(trie.root(), bytes).into_iter().collect();
    let mut tokens = Vec::new();
    while let Some(node) = nodes.pop() {
        for child in trie.node_children(node) {
            tokens.extend(child.token_id());
            nodes.push(child);
        }
    }
    tokens
}

fn is_lead(bytes: &[u8]) -> bool {
    bytes.len() <= LEAD.into() && bytes.iter().all(|byte| *byte == b'\n')
}

fn set(words: &mut [u32], token: u32, allowed: bool) {
    let (word, bit) = (&mut words[token as usize / 32], 1 << (token % 32));
    if allowed { *word |= bit } else { *word &= !bit }
}

fn at(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len().max(1)).position(|window| window == text)
}
