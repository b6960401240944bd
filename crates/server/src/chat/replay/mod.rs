//! Replay: what was sampled, remembered for when a client sends it back.
//!
//! ```text
//! an answer ends    key = hash(model, salt, tokens before, gist) ─► its tokens
//! it comes back     the turn that a template renders ─ gist ─ key ─► the same tokens
//! ```
//! So the prefix that a conversation has in the cache is the one that its next prompt begins with,
//! though the model chose other tokens than the tokenizer would, or the client trimmed a text or
//! turned an object's keys around. A key holds all tokens before: nobody gets tokens who could not
//! have sent the conversation up to there. Where a template drops thoughts the turn has another
//! gist, and is encoded as it is rendered.

pub mod gist;
mod journal;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qwire_engine::Salt;
use qwire_text::{Controls, Kind, Recall, Vocabulary};
use sha2::{Digest, Sha256};

pub use gist::Gist;
use journal::Journal;

/// Bytes of what is remembered.
const MEMORY_BYTES: usize = 64 << 20;
/// Beside its tokens a turn takes about so much.
const TURN_BYTES: usize = 160;
/// The latest openers that turns are found by.
const OPENERS: usize = 8;

/// Names a turn.
type Key = [u8; 32];

/// What was sampled in a turn.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Turn {
    /// What the template had opened it with.
    opener: Arc<str>,
    tokens: Arc<[u32]>,
}

/// Where turns are remembered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Keeping {
    /// Nowhere: a conversation is encoded as it is rendered.
    Off,
    /// As long as the process lives.
    #[default]
    Memory,
    /// In a folder too.
    Disk(PathBuf),
}

/// Remembered turns of one model.
pub struct Replay {
    model: String,
    shelf: Mutex<Shelf>,
    journal: Option<Journal>,
}

#[derive(Default)]
struct Shelf {
    turns: HashMap<Key, Row>,
    /// Every key, those used since their last look at the end of the line.
    line: VecDeque<Key>,
    bytes: usize,
    openers: VecDeque<Arc<str>>,
}

struct Row {
    turn: Turn,
    used: bool,
    /// Only an earlier process has written it down.
    old: bool,
}

impl Replay {
    /// What is remembered of a model; none if nothing shall be. A folder that cannot be used is
    /// told, and memory remains.
    pub fn open(keeping: &Keeping, model: &str) -> Option<Arc<Self>> {
        let (journal, turns) = match keeping {
            Keeping::Off => return None,
            Keeping::Memory => (None, Vec::new()),
            Keeping::Disk(folder) => match Journal::open(folder, model) {
                Ok((journal, turns)) => (Some(journal), turns),
                Err(error) => {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "turns are remembered in memory alone");
                    (None, Vec::new())
                }
            },
        };
        let mut shelf = Shelf::default();
        turns.into_iter().for_each(|(key, turn)| shelf.put(key, turn, true));
        Some(Arc::new(Self { model: model.into(), shelf: Mutex::new(shelf), journal }))
    }

    /// How many turns are remembered.
    pub fn len(&self) -> usize {
        self.shelf().turns.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: Key, turn: Turn) {
        if let Some(journal) = &self.journal {
            journal.note(&key, &turn);
        }
        self.shelf().put(key, turn, false);
    }

    fn find(&self, key: &Key) -> Option<Turn> {
        let mut shelf = self.shelf();
        let row = shelf.turns.get_mut(key)?;
        row.used = true;
        let turn = row.turn.clone();
        // The file in which it stands may be the next to go.
        if std::mem::take(&mut row.old)
            && let Some(journal) = &self.journal
        {
            journal.note(key, &turn);
        }
        Some(turn)
    }

    /// The hash of a tenant's prompt before its first token.
    fn start(&self, salt: Salt) -> Sha256 {
        let mut hash = Sha256::new();
        hash.update((self.model.len() as u64).to_le_bytes());
        hash.update(&self.model);
        hash.update(salt.0.to_le_bytes());
        hash
    }
}

impl Shelf {
    fn put(&mut self, key: Key, turn: Turn, old: bool) {
        self.openers.retain(|opener| *opener != turn.opener);
        self.openers.push_back(turn.opener.clone());
        if self.openers.len() > OPENERS {
            self.openers.pop_front();
        }
        self.bytes += size(&turn);
        match self.turns.insert(key, Row { turn, used: false, old }) {
            Some(before) => self.bytes -= size(&before.turn),
            None => self.line.push_back(key),
        }
        while self.bytes > MEMORY_BYTES {
            let Some(key) = self.line.pop_front() else { break };
            let Some(row) = self.turns.get_mut(&key) else { continue };
            if std::mem::take(&mut row.used) {
                self.line.push_back(key);
            } else if let Some(row) = self.turns.remove(&key) {
                self.bytes -= size(&row.turn);
            }
        }
    }
}

fn size(turn: &Turn) -> usize {
    TURN_BYTES + 4 * turn.tokens.len()
}

fn add(hash: &mut Sha256, tokens: &[u32]) {
    tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
}

fn key(mut before: Sha256, gist: [u8; 32]) -> Key {
    before.update(gist);
    before.finalize().into()
}

/// Looks for the turns of one conversation.
pub struct Recollection {
    replay: Arc<Replay>,
    gist: Gist,
    hash: Sha256,
    hashed: usize,
    /// Turns that were found.
    pub found: usize,
}

impl Recollection {
    /// In the name of a tenant.
    pub fn new(replay: Arc<Replay>, gist: Gist, salt: Salt) -> Self {
        let hash = replay.start(salt);
        Self { replay, gist, hash, hashed: 0, found: 0 }
    }
}

impl Recall for Recollection {
    fn openers(&self) -> Vec<String> {
        let shelf = self.replay.shelf();
        let mut openers: Vec<String> = shelf.openers.iter().map(ToString::to_string).collect();
        openers.sort_unstable_by_key(|opener| std::cmp::Reverse(opener.len()));
        openers
    }

    fn turn(&mut self, before: &[u32], opener: (&str, &[u32]), turn: &str) -> Option<Vec<u32>> {
        add(&mut self.hash, &before[self.hashed..]);
        self.hashed = before.len();
        let mut hash = self.hash.clone();
        add(&mut hash, opener.1);
        let found = self.replay.find(&key(hash, self.gist.of(opener.0, turn)?))?;
        self.found += 1;
        Some(found.tokens.to_vec())
    }
}

/// Where an answer will stand, should it come back.
#[derive(Clone)]
pub struct Place {
    replay: Arc<Replay>,
    gist: Gist,
    before: Sha256,
    opener: Arc<str>,
}

impl Place {
    /// Behind these tokens, whose last ones are the opener's.
    pub fn new(
        replay: Arc<Replay>,
        gist: Gist,
        (salt, prompt): (Salt, &[u32]),
        opener: &str,
    ) -> Self {
        let mut before = replay.start(salt);
        add(&mut before, prompt);
        Self { replay, gist, before, opener: opener.into() }
    }

    /// Remembers what was sampled there. An answer with control tokens of its own is not: they
    /// would be structure that no template wrote.
    pub fn fill(&self, vocabulary: &Vocabulary, tokens: &[u32]) {
        let control = |token: &u32| vocabulary.kind(*token) == Some(Kind::Control);
        if tokens.is_empty() || tokens.iter().any(control) {
            return;
        }
        let text = vocabulary.decode(tokens, Controls::Hide);
        if let Some(gist) = self.gist.of(&self.opener, &text) {
            let turn = Turn { opener: self.opener.clone(), tokens: tokens.into() };
            self.replay.keep(key(self.before.clone(), gist), turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(n: u32, len: usize) -> Turn {
        Turn { opener: "o".into(), tokens: vec![n; len].into() }
    }

    #[test]
    fn what_is_used_stays_and_memory_is_bounded() {
        let mut shelf = Shelf::default();
        let len = MEMORY_BYTES / 40;
        for n in 0..100_u8 {
            shelf.put([n; 32], turn(n.into(), len), false);
            shelf.turns.get_mut(&[0; 32]).unwrap().used = true;
            assert!(shelf.bytes <= MEMORY_BYTES);
        }
        assert!(shelf.turns.contains_key(&[0; 32]) && shelf.turns.contains_key(&[99; 32]));
        assert!(!shelf.turns.contains_key(&[50; 32]));
        assert_eq!(shelf.turns.len(), shelf.line.len());
        assert_eq!(shelf.bytes, shelf.turns.values().map(|row| size(&row.turn)).sum::<usize>());
    }

    #[test]
    fn tenants_share_nothing() {
        let replay = Replay::open(&Keeping::Memory, "m").unwrap();
        let hash = |salt| replay.start(Salt(salt)).finalize();
        assert_ne!(hash(0), hash(1));
        let other = Replay::open(&Keeping::Memory, "n").unwrap();
        assert_ne!(hash(0), other.start(Salt(0)).finalize());
        assert!(Replay::open(&Keeping::Off, "m").is_none());
    }
}
