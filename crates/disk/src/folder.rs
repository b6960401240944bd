//! The folder: what lies where, and how much of it may.
//!
//! ```text
//! FOLDER/ledger            bytes of all below, and again inverted; locked by who changes anything
//! FOLDER/models/           digests of models
//! FOLDER/MODEL/seconds     what a page takes to compute, in seconds: u64 bits, and again inverted
//! FOLDER/MODEL/DEPTH-..    a page
//! FOLDER/MODEL/part-..     a page that is being written, locked by who does
//! ```
//! Several processes share a folder. Room is taken in the ledger, and the draft made as long as it
//! will be, before a byte is written: so the sum of all files is never above the limit. A killed
//! process leaves a draft that nobody locks, and a ledger that says too much; whoever opens the
//! folder next sweeps and counts.

use std::collections::{BinaryHeap, HashMap};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::entry::{Entry, Identity, Place, Unfit};

/// What a file takes on a disk is counted in these.
const BLOCK_BYTES: u64 = 4096;
/// Positions in pages after which a page costs twice as much to compute as the first one.
const ATTENTION_PAGES: f64 = 128.0;
/// Where nobody said what a page of a model takes.
const SECONDS: f64 = 0.1;
const DRAFT: &str = "part-";

/// The pages of one model, beside those of others.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    own: PathBuf,
    limit: u64,
    /// Bytes that the disk keeps free.
    reserve: u64,
    used: AtomicU64,
    evicted: AtomicU64,
    serial: AtomicU64,
}

/// A file under way.
#[derive(Debug)]
pub struct Draft {
    pub file: File,
    path: PathBuf,
    bytes: u64,
}

/// The ledger, locked.
struct Ledger(File);

impl Ledger {
    fn read(&self) -> io::Result<Option<u64>> {
        let mut bytes = [0; 16];
        match self.0.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            read => read.map(|()| twice(bytes)),
        }
    }

    fn write(&self, bytes: u64) -> io::Result<()> {
        self.0.write_all_at(&doubled(bytes), 0)
    }
}

/// A number that says itself whether it is whole.
fn doubled(number: u64) -> [u8; 16] {
    let both = [number.to_le_bytes(), (!number).to_le_bytes()];
    *both.as_flattened().as_array().expect("twice eight bytes")
}

fn twice(bytes: [u8; 16]) -> Option<u64> {
    let [number, inverse] = [&bytes[..8], &bytes[8..]]
        .map(|part| u64::from_le_bytes(*part.as_array().expect("eight bytes")));
    (number == !inverse).then_some(number)
}

impl Folder {
    /// Opens, or makes, the folder of a model; `seconds` is what a page takes to compute, about.
    pub fn open(
        root: &Path,
        identity: &Identity,
        (limit, reserve): (u64, u64),
        seconds: f64,
    ) -> io::Result<Self> {
        let own = root.join(identity.folder());
        let none = AtomicU64::default;
        let root = root.to_path_buf();
        let folder =
            Self { root, own, limit, reserve, used: none(), evicted: none(), serial: none() };
        folder.make()?;
        let ledger = folder.lock()?;
        let found = folder.scan(true)?;
        folder.write_down(&ledger, found.iter().map(|file| file.bytes).sum())?;
        // The first one to say it is as good as any, and it is read while others write.
        let path = folder.own.join("seconds");
        if !path.exists() {
            open_own(&path)?.write_all_at(&doubled(seconds.to_bits()), 0)?;
        }
        Ok(folder)
    }

    /// Bytes of all files, of all models.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Pages that made room.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Whether a page is there.
    pub fn holds(&self, entry: &Entry) -> bool {
        self.path(entry).exists()
    }

    /// Reads a page, which counts as used now. One that is damaged is gone then.
    pub fn read(&self, entry: &Entry, page: &mut Vec<u8>) -> Result<(), Unfit> {
        let path = self.path(entry);
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Unfit::Absent,
            _ => Unfit::Unreadable(error),
        })?;
        let read = entry.read(&mut file, page);
        // Where neither can be done it goes sooner or later than it should, and is found out again.
        match read {
            Ok(()) => file.set_modified(SystemTime::now()).unwrap_or_default(),
            Err(Unfit::Damaged) => self.remove(&path).unwrap_or_default(),
            Err(_) => {}
        }
        read
    }

    /// Says that a page is of use.
    pub fn touch(&self, entry: &Entry) {
        // It may be gone, and then it is.
        let _ = File::open(self.path(entry)).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Takes room for a page; none where there is none to be had.
    pub fn draft(&self, entry: &Entry) -> io::Result<Option<Draft>> {
        let bytes = blocks(entry.file_bytes());
        let ledger = match self.lock() {
            // Somebody cleared the whole cache away.
            Err(error) if error.kind() == ErrorKind::NotFound => self.make().and(self.lock()),
            ledger => ledger,
        }?;
        let mut used = self.count(&ledger)?;
        let limit = self
            .limit
            .min(used.saturating_add(free_bytes(&self.own)?.saturating_sub(self.reserve)));
        if used.saturating_add(bytes) > limit {
            used = self.evict(limit.saturating_sub(bytes), entry)?;
            self.write_down(&ledger, used)?;
        }
        if used.saturating_add(bytes) > limit {
            return Ok(None);
        }
        // What the ledger says is never too little, whenever this process is killed.
        self.write_down(&ledger, used + bytes)?;
        let draft = self.create(entry, bytes);
        if draft.is_err() {
            self.write_down(&ledger, used)?;
        }
        draft.map(Some)
    }

    fn create(&self, entry: &Entry, bytes: u64) -> io::Result<Draft> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = self.own.join(format!("{DRAFT}{}-{serial}", std::process::id()));
        // Another process may have had this number before.
        let _ = fs::remove_file(&path);
        let made = open_own(&path).or_else(|error| match error.kind() {
            ErrorKind::NotFound => self.make().and_then(|()| open_own(&path)),
            _ => Err(error),
        });
        let draft = Draft { file: made?, path, bytes };
        let ready = draft.file.lock().and_then(|()| draft.file.set_len(entry.file_bytes()));
        match ready {
            Ok(()) => Ok(draft),
            Err(error) => Err(fs::remove_file(&draft.path).err().unwrap_or(error)),
        }
    }

    /// Gives a draft its name. Where another process was quicker there is nothing to do.
    pub fn finish(&self, draft: &Draft, entry: &Entry) -> io::Result<()> {
        let path = self.path(entry);
        let ledger = self.lock()?;
        if path.exists() {
            return self.unlink(&ledger, &draft.path, draft.bytes);
        }
        fs::rename(&draft.path, &path)
    }

    /// Gives a draft up, and its room back.
    pub fn abandon(&self, draft: &Draft) -> io::Result<()> {
        let ledger = self.lock()?;
        self.unlink(&ledger, &draft.path, draft.bytes)
    }

    /// Brings the names of finished pages to the disk.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.own)?.sync_all()
    }

    /// Removes every page of this model; how many there were.
    pub fn clear(&self) -> io::Result<usize> {
        let ledger = self.lock()?;
        let (own, others): (Vec<_>, Vec<_>) = self
            .scan(false)?
            .into_iter()
            .partition(|found| found.place.is_some() && found.path.starts_with(&self.own));
        let mut left: u64 = others.iter().map(|found| found.bytes).sum();
        let mut gone = 0;
        for found in own {
            match fs::remove_file(&found.path) {
                Ok(()) => gone += 1,
                Err(_) => left += found.bytes,
            }
        }
        self.write_down(&ledger, left)?;
        Ok(gone)
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.own.join(entry.file_name())
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.own)
    }

    fn lock(&self) -> io::Result<Ledger> {
        let file = open_own(&self.root.join("ledger"))?;
        file.lock()?;
        Ok(Ledger(file))
    }

    fn write_down(&self, ledger: &Ledger, used: u64) -> io::Result<()> {
        self.used.store(used, Ordering::Relaxed);
        ledger.write(used)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let ledger = self.lock()?;
        let bytes = blocks(fs::metadata(path)?.len());
        self.unlink(&ledger, path, bytes)
    }

    fn unlink(&self, ledger: &Ledger, path: &Path, bytes: u64) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let used = match ledger.read()? {
            Some(used) => used.saturating_sub(bytes),
            None => self.count(ledger)?, // it is gone already
        };
        self.write_down(ledger, used)
    }

    /// What the ledger says, or what there is where it is damaged.
    fn count(&self, ledger: &Ledger) -> io::Result<u64> {
        match ledger.read()? {
            Some(used) => Ok(used),
            None => Ok(self.scan(false)?.iter().map(|file| file.bytes).sum()),
        }
    }

    /// Everything that counts. Drafts that nobody writes any more are removed, if `sweep`.
    fn scan(&self, sweep: bool) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.root)?.flatten() {
            let Ok(files) = fs::read_dir(folder.path()) else { continue };
            for file in files.flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                let (place, path) = (Place::of(&name), file.path());
                let draft = name.starts_with(DRAFT);
                let orphan = || File::open(&path).is_ok_and(|f| !is_locked(&f));
                if place.is_none() && !draft
                    || draft && sweep && orphan() && fs::remove_file(&path).is_ok()
                {
                    continue;
                }
                // It may have gone meanwhile.
                let Ok(facts) = file.metadata() else { continue };
                let used = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Found { path, place, bytes: blocks(facts.len()), used });
            }
        }
        Ok(found)
    }

    /// Removes what is cheapest to lose until `most` bytes are left, and a little more, so that the
    /// next pages need no look around; what is left. Pages before the one that needs the room stay,
    /// and if they are not there nothing goes: it would be of no use.
    fn evict(&self, most: u64, entry: &Entry) -> io::Result<u64> {
        let found = self.scan(false)?;
        let mut left: u64 = found.iter().map(|file| file.bytes).sum();
        let Some(mut forest) = Forest::of(&found, &self.path(entry)) else { return Ok(left) };
        while left > most - most / 16
            && let Some(at) = forest.cheapest()
        {
            match fs::remove_file(&found[at].path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            left -= found[at].bytes;
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(left)
    }
}

/// A file that counts.
struct Found {
    path: PathBuf,
    /// None of a draft.
    place: Option<Place>,
    bytes: u64,
    used: SystemTime,
}

/// All pages as trees, of which leaves can go: a page without those before it is of no use.
struct Forest {
    above: Vec<Option<usize>>,
    children: Vec<usize>,
    cost: Vec<u64>, // the order of positive floats
    leaves: BinaryHeap<(u64, usize)>,
}

impl Forest {
    /// Of all that is there; what a page to come hangs on is no leaf, and where that is not there
    /// nothing is.
    fn of(found: &[Found], to_come: &Path) -> Option<Self> {
        let mut seconds = HashMap::new();
        let now = SystemTime::now();
        let mut by_key = HashMap::new();
        for (at, file) in found.iter().enumerate() {
            if let Some(place) = &file.place {
                by_key.insert((file.path.parent(), place.key.as_str()), at);
            }
        }
        let mut forest = Self {
            above: vec![None; found.len()],
            children: vec![0; found.len()],
            cost: vec![0; found.len()],
            leaves: BinaryHeap::new(),
        };
        let mut order: Vec<_> = (0..found.len()).filter(|at| found[*at].place.is_some()).collect();
        let place = |at: usize| found[at].place.as_ref().expect("drafts are left out");
        order.sort_by_key(|at| place(*at).depth);
        for at in &order {
            let (file, place) = (&found[*at], place(*at));
            let folder = file.path.parent();
            let of_model = seconds.entry(folder).or_insert_with(|| read_seconds(folder));
            let compute = *of_model * (1.0 + f64::from(place.depth) / ATTENTION_PAGES);
            let idle = now.duration_since(file.used).unwrap_or_default().as_secs_f64();
            let above = by_key.get(&(folder, place.above.as_str())).copied();
            let lost = place.depth > 0
                && above.is_none_or(|above| forest.cost[above] == f64::INFINITY.to_bits());
            let cost = if lost { f64::INFINITY } else { idle * file.bytes as f64 / compute };
            forest.cost[*at] = cost.to_bits();
            forest.above[*at] = above.filter(|above| above != at);
            if let Some(above) = forest.above[*at] {
                forest.children[above] += 1;
            }
        }
        let name = to_come.file_name().unwrap_or_default().to_string_lossy();
        let place = Place::of(&name)?;
        if place.depth > 0 {
            forest.children[*by_key.get(&(to_come.parent(), place.above.as_str()))?] += 1;
        }
        let leaves = order.into_iter().filter(|at| forest.children[*at] == 0);
        forest.leaves = leaves.map(|at| (forest.cost[at], at)).collect();
        Some(forest)
    }

    /// The leaf that was idle longest for what it saves by the byte, which is none then.
    fn cheapest(&mut self) -> Option<usize> {
        let (_, at) = self.leaves.pop()?;
        if let Some(above) = self.above[at] {
            self.children[above] -= 1;
            if self.children[above] == 0 {
                self.leaves.push((self.cost[above], above));
            }
        }
        Some(at)
    }
}

fn read_seconds(folder: Option<&Path>) -> f64 {
    let read = || fs::read(folder?.join("seconds")).ok();
    let seconds = read().and_then(|bytes| twice(*bytes.as_array()?)).map(f64::from_bits);
    seconds.filter(|seconds| *seconds > 0.0 && seconds.is_finite()).unwrap_or(SECONDS)
}

/// What is free on the disk of a folder that may not be there yet, and what its pages take.
pub fn room_bytes(root: &Path) -> io::Result<u64> {
    let there = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let ledger = File::open(root.join("ledger")).map(Ledger);
    let used = ledger.and_then(|ledger| ledger.read()).ok().flatten().unwrap_or(0);
    Ok(free_bytes(there)?.saturating_add(used))
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What a file of this length takes.
fn blocks(len: u64) -> u64 {
    len.next_multiple_of(BLOCK_BYTES)
}

fn is_locked(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// A file for its owner alone.
fn open_own(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
