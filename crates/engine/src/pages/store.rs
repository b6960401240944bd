//! A store: where full pages are kept beyond memory, for later runs and for other processes.
//!
//! ```text
//! keep    sheet ─► the engine reads a page into it ─► keep              somebody else writes
//! find    fetch ─► pages in order ─► arrived, until one is not there    somebody else reads
//! ```
//! The engine calls it between two steps, so nothing here waits for a device but [`Store::reach`],
//! [`Store::clear`] and [`Store::settle`], which are for other threads. What it cannot do it leaves
//! undone: a page that is not kept is computed again.

use std::time::Duration;

use crate::request::Salt;

/// Names a page by everything that its bytes follow from: the model and its numbers, whose it is,
/// and all tokens up to its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(pub [u8; 32]);

/// A page to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its key.
    pub key: Key,
    /// That of the page before it.
    pub above: Option<Key>,
    /// Positions before it.
    pub depth: usize,
}

/// Pages that are wanted, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// Names the wish.
    pub id: u64,
    /// Whose prefix.
    pub salt: Salt,
    /// Full pages of it.
    pub tokens: Vec<u32>,
    /// How many of these pages are not wanted.
    pub skip: usize,
}

/// What comes of a wish.
#[derive(PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Its next page.
    Page(u64, Vec<u8>),
    /// No more comes.
    End(u64),
}

/// What there is, and sums since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holding {
    /// Most bytes it may take.
    pub limit_bytes: u64,
    /// Bytes it takes, those of other models too.
    pub used_bytes: u64,
    /// Pages that were found.
    pub read_pages: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Pages that were written.
    pub written_pages: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Pages that were left out: there was no room, or writing had just failed.
    pub skipped_pages: u64,
    /// Pages that made room.
    pub evicted_pages: u64,
    /// Pages that were there, and not as they had been written.
    pub damaged_pages: u64,
    /// Reads and writes that failed.
    pub faults: u64,
}

/// Calls whoever waits for a store.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// A place for pages.
pub trait Store: Send + Sync {
    /// Takes the bell that is to be rung when something has arrived, or may be handed over again.
    fn attach(&self, bell: Bell);
    /// Whether pages can be kept and found by now.
    fn is_open(&self) -> bool;
    /// The key of a full page with these tokens.
    fn key(&self, salt: Salt, above: Option<Key>, tokens: &[u32]) -> Key;
    /// Memory for a page that is to be kept; none while the writing is behind.
    fn sheet(&self) -> Option<Vec<u8>>;
    /// Keeps a page, if it can.
    fn keep(&self, name: Named, sheet: Vec<u8>);
    /// A page that is kept is still of use.
    fn touch(&self, name: Named);
    /// Begins to look for pages.
    fn fetch(&self, fetch: Fetch);
    /// What has come since the last look.
    fn arrived(&self) -> Option<Arrival>;
    /// Takes back the memory of a page that arrived.
    fn recycle(&self, sheet: Vec<u8>);
    /// Nobody wants the rest of what was to be fetched.
    fn abandon(&self, id: u64);
    /// What there is, at a glance.
    fn holding(&self) -> Holding;
    /// Where it is, for people.
    fn place(&self) -> String;
    /// How many of the first tokens lie in full pages that are there. Takes its time.
    fn reach(&self, salt: Salt, tokens: &[u32]) -> usize;
    /// Forgets every page of every model; how many there were. Takes its time.
    fn clear(&self) -> usize;
    /// Waits until everything that was to be kept is, or time is up.
    fn settle(&self, patience: Duration);
}
