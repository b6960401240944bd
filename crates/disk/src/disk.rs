//! The disk as the engine's store: two threads, and bounded memory between them and the engine.
//!
//! ```text
//! engine ─ sheet, keep ─► jobs ────► writer ─► folder
//!        ─ fetch ───────► fetches ─► reader ─► arrivals ─► engine
//! ```
//! Until it is opened it keeps nothing and finds nothing.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use qwire_engine::pages::PAGE;
use qwire_engine::{Arrival, Bell, Fetch, Holding, Key, Named, Salt, Store};
use tracing::warn;

use crate::entry::{Entry, Identity, Unfit};
use crate::folder::Folder;
use crate::writer::{Outcome, Writer};

/// Memory for pages on their way, each way.
const WAY_BYTES: usize = 16 << 20;
/// An engine that took a turn so long ago is still at work.
const BUSY: Duration = Duration::from_millis(500);
/// Pages on their way, each way.
const WAY_PAGES: (usize, usize) = (2, 64);

/// Where pages are kept, and how many.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The folder, of this and of other models.
    pub folder: PathBuf,
    /// Most bytes it may take.
    pub limit_bytes: u64,
    /// Bytes that its disk keeps free for others.
    pub reserve_bytes: u64,
    /// Bytes of a page.
    pub page_bytes: usize,
}

/// A folder of pages, once it is open.
pub struct Disk {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    terms: Terms,
    /// Pages on their way, each way.
    most: usize,
    open: OnceLock<(Identity, Folder)>,
    desk: Mutex<Desk>,
    /// Something changed on the desk.
    change: Condvar,
    bell: OnceLock<Bell>,
    sums: Sums,
    /// When the engine took its last turn.
    turn: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Desk {
    jobs: VecDeque<Job>,
    /// Whether the writer has one in hand.
    writing: bool,
    fetches: VecDeque<Fetch>,
    /// What the reader has in hand, as long as somebody wants it.
    wanted: Option<u64>,
    arrivals: VecDeque<Arrival>,
    spare: Vec<Vec<u8>>,
    over: bool,
}

enum Job {
    Keep(Named, Vec<u8>),
    Touch(Named),
}

#[derive(Default)]
struct Sums {
    read_pages: AtomicU64,
    written_pages: AtomicU64,
    skipped_pages: AtomicU64,
    damaged_pages: AtomicU64,
    faults: AtomicU64,
    /// Whether it was said that reading fails.
    complained: AtomicBool,
}

impl Disk {
    /// A store that is to be opened.
    pub fn new(terms: Terms) -> Self {
        let shared = Shared {
            most: way_pages(terms.page_bytes),
            terms,
            open: OnceLock::new(),
            desk: Mutex::default(),
            change: Condvar::new(),
            bell: OnceLock::new(),
            sums: Sums::default(),
            turn: Mutex::default(),
        };
        Self { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// Lets other work, which has just taken so long, wait while the engine is at work: it gets a
    /// twentieth of the time of one thread then.
    pub fn give_way(&self, worked: Duration) {
        let turn = *self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.is_some_and(|turn| turn.elapsed() < BUSY) {
            thread::sleep(worked * 19);
        }
    }

    /// Memory that pages on their way take at most: those that wait, one in each thread's hands and
    /// one in the engine's.
    pub fn way_bytes(page_bytes: usize) -> u64 {
        (2 * way_pages(page_bytes) as u64 + 3) * page_bytes as u64
    }

    /// Opens the folder of a model, of which a page takes so many seconds to compute.
    pub fn open(&self, identity: Identity, seconds: f64) -> io::Result<()> {
        let Terms { folder, limit_bytes, reserve_bytes, .. } = &self.shared.terms;
        let folder = Folder::open(folder, &identity, (*limit_bytes, *reserve_bytes), seconds)?;
        if self.shared.open.set((identity, folder)).is_err() {
            return Ok(());
        }
        self.start("qwire-disk-write", Shared::write)?;
        self.start("qwire-disk-read", Shared::read)?;
        self.shared.ring();
        Ok(())
    }

    fn start(&self, name: &str, work: fn(&Shared)) -> io::Result<()> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(&shared))?;
        self.threads().push(thread);
        Ok(())
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pages that are on their way, each way.
fn way_pages(page_bytes: usize) -> usize {
    (WAY_BYTES / page_bytes.max(1)).clamp(WAY_PAGES.0, WAY_PAGES.1)
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.desk().over = true;
        self.shared.change.notify_all();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            // What it had in hand is finished, or its panic was told.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, desk: MutexGuard<'a, Desk>) -> MutexGuard<'a, Desk> {
        self.change.wait(desk).unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// Keeps memory for the next page, as long as pages are moving.
    fn recycle(&self, sheet: Vec<u8>) {
        let mut desk = self.desk();
        if desk.spare.len() < WAY_PAGES.0 {
            desk.spare.push(sheet);
        }
    }

    fn entry(&self, name: Named) -> Entry {
        Entry { name, len: self.terms.page_bytes }
    }

    fn folder(&self) -> &Folder {
        &self.open.get().expect("threads start once it is open").1
    }

    /// The writer's thread.
    fn write(&self) {
        let mut writer = Writer::default();
        loop {
            let mut desk = self.desk();
            desk.writing = false;
            self.change.notify_all();
            if desk.jobs.is_empty() && writer.has_names() {
                drop(desk);
                writer.sync(self.folder());
                continue;
            }
            while desk.jobs.is_empty() && !desk.over {
                desk = self.wait(desk);
            }
            let Some(job) = desk.jobs.pop_front() else { return };
            desk.writing = true;
            drop(desk);
            match job {
                Job::Touch(name) => self.folder().touch(&self.entry(name)),
                Job::Keep(name, page) => {
                    self.count(writer.keep(self.folder(), &self.entry(name), &page));
                    self.recycle(page);
                }
            }
            self.ring();
        }
    }

    fn count(&self, outcome: Outcome) {
        let sum = match outcome {
            Outcome::Written => &self.sums.written_pages,
            Outcome::Skipped => &self.sums.skipped_pages,
            Outcome::There => return,
            Outcome::Failed(error) => {
                if let Some(error) = error {
                    self.complain("pages are not kept", &error);
                }
                &self.sums.faults
            }
        };
        sum.fetch_add(1, Ordering::Relaxed);
    }

    fn complain(&self, what: &str, error: &dyn Display) {
        warn!(%error, folder = %self.place(), "the disk cache: {what}");
    }

    fn place(&self) -> String {
        self.terms.folder.display().to_string()
    }

    /// The reader's thread.
    fn read(&self) {
        loop {
            let mut desk = self.desk();
            while desk.fetches.is_empty() && !desk.over {
                desk = self.wait(desk);
            }
            if desk.over {
                return;
            }
            let fetch = desk.fetches.pop_front().expect("there is one");
            desk.wanted = Some(fetch.id);
            drop(desk);
            self.read_all(&fetch);
        }
    }

    /// Reads pages until one is not there, or nobody wants them.
    fn read_all(&self, fetch: &Fetch) {
        let (identity, folder) = self.open.get().expect("threads start once it is open");
        for name in identity.names(fetch.salt, &fetch.tokens).skip(fetch.skip) {
            let mut desk = self.desk();
            while desk.arrivals.len() >= self.most && desk.wanted.is_some() && !desk.over {
                desk = self.wait(desk);
            }
            if desk.wanted.is_none() || desk.over {
                return;
            }
            let mut page = desk.spare.pop().unwrap_or_default();
            drop(desk);
            match folder.read(&self.entry(name), &mut page) {
                Ok(()) => self.arrive(fetch.id, Arrival::Page(fetch.id, page)),
                Err(unfit) => {
                    self.note(&unfit);
                    self.recycle(page);
                    break;
                }
            }
        }
        self.arrive(fetch.id, Arrival::End(fetch.id));
    }

    fn arrive(&self, id: u64, arrival: Arrival) {
        let mut desk = self.desk();
        if desk.wanted == Some(id) {
            if let Arrival::Page(..) = arrival {
                self.sums.read_pages.fetch_add(1, Ordering::Relaxed);
            } else {
                desk.wanted = None;
            }
            desk.arrivals.push_back(arrival);
        }
        drop(desk);
        self.ring();
    }

    fn note(&self, unfit: &Unfit) {
        let (sum, error): (_, &dyn Display) = match unfit {
            Unfit::Absent => return,
            Unfit::Damaged => (&self.sums.damaged_pages, &"a page was damaged, and is removed"),
            Unfit::Unreadable(error) => (&self.sums.faults, error),
        };
        sum.fetch_add(1, Ordering::Relaxed);
        if !self.sums.complained.swap(true, Ordering::Relaxed) {
            self.complain("a page is computed again", error);
        }
    }
}

impl Store for Disk {
    fn attach(&self, bell: Bell) {
        assert!(self.shared.bell.set(bell).is_ok(), "a store has one engine");
    }

    /// Asked at each turn, which is how other work knows when to wait.
    fn is_open(&self) -> bool {
        let open = self.shared.open.get().is_some();
        if !open {
            let turn = &mut *self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
            *turn = Some(Instant::now());
        }
        open
    }

    fn key(&self, salt: Salt, above: Option<Key>, tokens: &[u32]) -> Key {
        let (identity, _) = self.shared.open.get().expect("asked once it is open");
        identity.key(salt, above, tokens)
    }

    fn sheet(&self) -> Option<Vec<u8>> {
        let mut desk = self.shared.desk();
        let under_way = desk.jobs.len() + usize::from(desk.writing);
        (under_way < self.shared.most).then(|| desk.spare.pop().unwrap_or_default())
    }

    fn keep(&self, name: Named, sheet: Vec<u8>) {
        self.shared.desk().jobs.push_back(Job::Keep(name, sheet));
        self.shared.change.notify_all();
    }

    fn touch(&self, name: Named) {
        self.shared.desk().jobs.push_back(Job::Touch(name));
        self.shared.change.notify_all();
    }

    fn fetch(&self, fetch: Fetch) {
        self.shared.desk().fetches.push_back(fetch);
        self.shared.change.notify_all();
    }

    fn arrived(&self) -> Option<Arrival> {
        let arrival = self.shared.desk().arrivals.pop_front();
        if arrival.is_some() {
            self.shared.change.notify_all();
        }
        arrival
    }

    fn recycle(&self, sheet: Vec<u8>) {
        self.shared.recycle(sheet);
    }

    fn abandon(&self, id: u64) {
        let mut desk = self.shared.desk();
        desk.fetches.retain(|fetch| fetch.id != id);
        desk.wanted = desk.wanted.filter(|wanted| *wanted != id);
        let of_it = |arrival: &Arrival| match arrival {
            Arrival::Page(of, _) | Arrival::End(of) => *of == id,
        };
        desk.arrivals.retain(|arrival| !of_it(arrival));
        drop(desk);
        self.shared.change.notify_all();
    }

    fn holding(&self) -> Holding {
        let Shared { terms, sums, open, .. } = &*self.shared;
        let load = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        let (read_pages, written_pages) = (load(&sums.read_pages), load(&sums.written_pages));
        let page_bytes = terms.page_bytes as u64;
        let folder = open.get().map(|(_, folder)| folder);
        Holding {
            limit_bytes: terms.limit_bytes,
            used_bytes: folder.map_or(0, Folder::used),
            read_pages,
            read_bytes: read_pages * page_bytes,
            written_pages,
            written_bytes: written_pages * page_bytes,
            skipped_pages: load(&sums.skipped_pages),
            evicted_pages: folder.map_or(0, Folder::evicted),
            damaged_pages: load(&sums.damaged_pages),
            faults: load(&sums.faults),
        }
    }

    fn place(&self) -> String {
        self.shared.place()
    }

    fn reach(&self, salt: Salt, tokens: &[u32]) -> usize {
        let Some((identity, folder)) = self.shared.open.get() else { return 0 };
        let names = identity.names(salt, tokens);
        names.take_while(|name| folder.holds(&self.shared.entry(*name))).count() * PAGE
    }

    fn clear(&self) -> usize {
        let Some((_, folder)) = self.shared.open.get() else { return 0 };
        self.shared.desk().jobs.clear();
        match folder.clear() {
            Ok(pages) => pages,
            Err(error) => {
                self.shared.sums.faults.fetch_add(1, Ordering::Relaxed);
                self.shared.complain("it cannot be cleared", &error);
                0
            }
        }
    }

    fn settle(&self, patience: Duration) {
        let (until, mut desk) = (Instant::now() + patience, self.shared.desk());
        while !desk.jobs.is_empty() || desk.writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.change.wait_timeout(desk, left);
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
