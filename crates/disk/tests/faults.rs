//! What may happen to a folder of pages: kills in the middle of a write, flipped bits, full disks,
//! disks that fail, other processes. Whatever it is, a page that is read is the page that was kept.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use qwire_disk::{Disk, Entry, Folder, HEAD_BYTES, Identity, Terms, Unfit};
use qwire_engine::pages::PAGE;
use qwire_engine::{Arrival, Fetch, Key, Named, Salt, Store};

const PAGE_BYTES: usize = 20_000;
const FILE_BYTES: u64 = 20_480; // in blocks
const CHAINS: u64 = 12;
const PLENTY: u64 = 1 << 30;

/// What a process of its own is told.
const CHILD: &str = "QWIRE_DISK_CHILD";

/// A folder that is gone after the test.
struct Cache(PathBuf);

impl Cache {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("qwire-disk-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn identity() -> Identity {
    Identity::of(&[("model", b"a toy")])
}

fn disk(root: &Path, limit_bytes: u64) -> Disk {
    let folder = root.to_path_buf();
    let disk = Disk::new(Terms { folder, limit_bytes, reserve_bytes: 0, page_bytes: PAGE_BYTES });
    disk.open(identity(), 0.5).expect("it opens");
    disk
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The tokens of one of many prefixes.
fn tokens(chain: u64, pages: usize) -> Vec<u32> {
    (0..pages * PAGE).map(|at| (at as u32 / 64) * 7 + chain as u32 * 1000).collect()
}

fn names(chain: u64, pages: usize) -> Vec<Named> {
    identity().names(Salt(chain.into()), &tokens(chain, pages)).collect()
}

/// What a page of this key must hold.
fn content(key: Key) -> Vec<u8> {
    let mut seed = u64::from_le_bytes(*key.0.first_chunk().expect("32 bytes"));
    let words = (0..PAGE_BYTES.div_ceil(8)).flat_map(|_| random(&mut seed).to_le_bytes());
    words.take(PAGE_BYTES).collect()
}

fn keep(disk: &Disk, name: Named) {
    let mut sheet = loop {
        match disk.sheet() {
            Some(sheet) => break sheet,
            None => thread::sleep(Duration::from_micros(100)),
        }
    };
    sheet.clear();
    sheet.extend(content(name.key));
    disk.keep(name, sheet);
}

/// Reads a prefix from the disk: how many pages came, each of which must be the right one.
fn found(disk: &Disk, chain: u64, pages: usize) -> usize {
    let (salt, tokens) = (Salt(chain.into()), tokens(chain, pages));
    disk.fetch(Fetch { id: 1, salt, tokens, skip: 0 });
    let names = names(chain, pages);
    let mut count = 0;
    loop {
        match disk.arrived() {
            Some(Arrival::Page(1, page)) => {
                assert!(page == content(names[count].key), "page {count} of chain {chain}");
                count += 1;
                disk.recycle(page);
            }
            Some(Arrival::End(1)) => return count,
            Some(other) => panic!("{other:?} was not asked for"),
            None => thread::sleep(Duration::from_micros(50)),
        }
    }
}

fn all_found(disk: &Disk, pages: usize) -> usize {
    (0..CHAINS).map(|chain| found(disk, chain, pages)).sum()
}

/// Files of pages and of drafts, each once: (name, bytes in blocks).
fn files(root: &Path) -> Vec<(String, u64)> {
    let own = root.join(identity().folder());
    let files = fs::read_dir(own).into_iter().flatten().flatten();
    let fact = |file: fs::DirEntry| {
        let name = file.file_name().into_string().expect("a name of ours");
        let facts = file.metadata().ok()?;
        (name != "seconds").then(|| (facts.ino(), name, facts.len().next_multiple_of(4096)))
    };
    let mut files: Vec<_> = files.filter_map(fact).collect();
    files.sort();
    files.dedup_by_key(|file| file.0);
    files.into_iter().map(|(_, name, bytes)| (name, bytes)).collect()
}

fn drafts(root: &Path) -> usize {
    files(root).iter().filter(|(name, _)| name.starts_with("part-")).count()
}

/// This test again, as a process that does something else.
fn child(task: &str, root: &Path, seed: u64) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "another_process", "--nocapture"]).stdout(Stdio::null());
    command.env(CHILD, format!("{task} {seed} {}", root.display()));
    command
}

fn kill(mut child: Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// No test: what [`child`] does.
#[test]
fn another_process() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let mut words = told.splitn(3, ' ');
    let mut word = || words.next().expect("three words");
    let (task, seed, root) = (word(), word(), word());
    let mut seed: u64 = seed.parse().expect("a number");
    match task {
        "write" => {
            let disk = disk(Path::new(root), PLENTY);
            loop {
                let (chain, pages) = (random(&mut seed) % CHAINS, random(&mut seed) as usize % 20);
                names(chain, pages).into_iter().for_each(|name| keep(&disk, name));
            }
        }
        "crowd" => {
            let disk = disk(Path::new(root), 40 * FILE_BYTES);
            loop {
                let (chain, pages) = (random(&mut seed) % CHAINS, random(&mut seed) as usize % 20);
                names(chain, pages).into_iter().for_each(|name| keep(&disk, name));
                found(&disk, random(&mut seed) % CHAINS, 20);
            }
        }
        "fill" => fill(Path::new(root)),
        _ => panic!("{task:?} is no task"),
    }
}

#[test]
fn a_kill_at_any_point_leaves_whole_pages_and_no_drafts() {
    let (cache, mut seed, mut killed, mut count) = (Cache::new("kill"), 1, 0, 0);
    for round in 0..200 {
        let writer =
            child("write", &cache.0, round).stderr(Stdio::null()).spawn().expect("a start");
        let before = files(&cache.0).len();
        let start = Instant::now();
        while files(&cache.0).len() == before && start.elapsed() < Duration::from_secs(1) {
            thread::yield_now(); // until it writes; later all pages may be there
        }
        thread::sleep(Duration::from_micros(random(&mut seed) % 8000));
        kill(writer);
        killed += drafts(&cache.0);
        let disk = disk(&cache.0, PLENTY);
        assert_eq!(drafts(&cache.0), 0, "what was killed is swept away");
        count = all_found(&disk, 20);
        assert_eq!(disk.holding().damaged_pages, 0);
        let used: u64 = files(&cache.0).iter().map(|file| file.1).sum();
        assert_eq!(disk.holding().used_bytes, used);
        if count > 150 {
            disk.clear();
        }
    }
    println!("200 kills, {killed} of them in the middle of a file; {count} pages at the end");
    assert!(killed > 10, "{killed} drafts");
}

#[test]
fn every_flipped_bit_is_found() {
    let cache = Cache::new("flip");
    let folder = Folder::open(&cache.0, &identity(), (PLENTY, 0), 0.5).expect("it opens");
    let name = names(3, 2)[1];
    let entry = Entry { name, len: PAGE_BYTES };
    let path = cache.0.join(identity().folder()).join(entry.file_name());
    let draft = folder.draft(&entry).expect("room").expect("there is");
    entry.write(&draft.file, &content(name.key)).expect("it is written");
    folder.finish(&draft, &entry).expect("it gets its name");
    let good = fs::read(&path).expect("it is there");
    let mut page = Vec::new();
    let mut check = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let read = folder.read(&entry, &mut page);
        assert!(matches!(read, Err(Unfit::Damaged)), "{what}: {read:?}");
        assert!(!path.exists(), "{what}: it stays");
        assert!(matches!(folder.read(&entry, &mut page), Err(Unfit::Absent)));
    };
    let mut seed = 5;
    let head = (0..HEAD_BYTES).map(|at| (at, random(&mut 7_u64.wrapping_add(at as u64))));
    let all = (0..1000).map(|_| (random(&mut seed) as usize % good.len(), random(&mut seed)));
    for (at, bit) in head.chain(all.collect::<Vec<_>>()) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (bit % 8);
        check(&bytes, &format!("byte {at}"));
    }
    for len in [0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, good.len() / 2, good.len() - 1] {
        check(&good[..len], &format!("cut at {len}"));
        let mut torn = good.clone();
        torn[len..].fill(0);
        check(&torn, &format!("zeros from {len}"));
    }
    check(&[&good[..], &[0]].concat(), "one byte more");
    let other = Entry { name: names(4, 2)[1], len: PAGE_BYTES };
    fs::write(&path, &good).unwrap();
    fs::rename(&path, path.with_file_name(other.file_name())).unwrap();
    assert!(matches!(folder.read(&other, &mut page), Err(Unfit::Damaged)), "another's page");
}

#[test]
fn two_processes_share_a_folder_within_its_limit() {
    let cache = Cache::new("crowd");
    let start =
        |seed| child("crowd", &cache.0, seed).stderr(Stdio::piped()).spawn().expect("a start");
    let mut crowd = [start(1), start(2)];
    let (until, mut most, mut looks) = (Instant::now() + Duration::from_secs(4), 0, 0);
    while Instant::now() < until {
        // Nothing comes or goes while somebody has the ledger.
        let Ok(ledger) = File::open(cache.0.join("ledger")) else { continue };
        ledger.lock().expect("it can be locked");
        let used: u64 = files(&cache.0).iter().map(|file| file.1).sum();
        assert!(used <= 40 * FILE_BYTES, "{used}");
        (most, looks) = (most.max(used), looks + 1);
        drop(ledger);
        thread::sleep(Duration::from_millis(1));
    }
    for child in &mut crowd {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended too soon");
    }
    crowd.into_iter().for_each(kill);
    let disk = disk(&cache.0, 40 * FILE_BYTES);
    let pages = all_found(&disk, 20);
    println!("{looks} looks, {most} bytes at most, {pages} pages at the end");
    assert!(most > 30 * FILE_BYTES && pages > 10 && looks > 100);
    assert_eq!((disk.holding().damaged_pages, drafts(&cache.0)), (0, 0));
}

#[test]
fn what_is_used_and_dear_stays() {
    let cache = Cache::new("limit");
    let disk = disk(&cache.0, 40 * FILE_BYTES);
    let write = |chain, pages| {
        names(chain, pages).into_iter().for_each(|name| keep(&disk, name));
        disk.settle(Duration::from_secs(20));
    };
    for chain in 0..3 {
        write(chain, 12);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(found(&disk, 0, 12), 12, "chain 0 counts as used");
    thread::sleep(Duration::from_millis(20));
    write(3, 12);
    let left = [0, 1, 2, 3].map(|chain| found(&disk, chain, 12));
    assert_eq!((left[0], left[3]), (12, 12), "{left:?}");
    assert!(left[1] < 12, "{left:?}: the one that was idle longest gave way, from its end");
    write(4, 100);
    let held = found(&disk, 4, 100);
    assert!((30..=40).contains(&held), "{held} pages: those before the one that needs room stay");
    assert!(files(&cache.0).len() <= 40);
    assert!(disk.holding().evicted_pages > 0 && disk.holding().skipped_pages > 0);
    disk.clear();
    assert_eq!((files(&cache.0).len(), disk.holding().used_bytes), (0, 0));
}

#[test]
fn a_folder_is_for_its_owner_alone() {
    let cache = Cache::new("mode");
    let root = cache.0.join("new/folder");
    let disk = disk(&root, PLENTY);
    keep(&disk, names(0, 1)[0]);
    disk.settle(Duration::from_secs(20));
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let own = root.join(identity().folder());
    assert_eq!((mode(&root), mode(&own), mode(&root.join("ledger"))), (0o700, 0o700, 0o600));
    for (name, _) in files(&root) {
        assert_eq!(mode(&own.join(name)), 0o600);
    }
}

/// On a disk of one megabyte, and of thirty files.
fn fill(root: &Path) {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let disk = disk(root, PLENTY);
    for chain in 0..CHAINS {
        names(chain, 20).into_iter().for_each(|name| keep(&disk, name));
    }
    disk.settle(Duration::from_secs(20));
    let (holding, pages) = (disk.holding(), all_found(&disk, 20));
    eprintln!("{pages} found, {} drafts, {} faults", drafts(root), holding.faults);
    assert!(pages > 10 && pages as u64 == holding.written_pages && drafts(root) == 0);
    assert_eq!((holding.faults, holding.damaged_pages), (1, 0));
    // Now somebody else takes the rest of the disk while a page is being written.
    disk.clear();
    let folder = Folder::open(root, &identity(), (PLENTY, 0), 0.5).expect("it opens");
    let entry = Entry { name: names(0, 1)[0], len: PAGE_BYTES };
    let draft = folder.draft(&entry).expect("room").expect("there is");
    fs::write(root.join("hog"), vec![1; 2 << 20]).expect_err("it is not that large");
    let error = entry.write(&draft.file, &content(entry.name.key)).expect_err("no room");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    folder.abandon(&draft).expect("a file can go");
    assert_eq!((drafts(root), folder.used(), folder.holds(&entry)), (0, 0, false));
    assert!(folder.draft(&entry).expect("it is seen").is_none(), "no room is left");
}

#[test]
fn a_full_disk_is_said_once_and_leaves_nothing_behind() {
    let cache = Cache::new("full");
    let filler = child("fill", &cache.0, 0);
    let script = format!(
        "mount -t tmpfs -o size=1m,nr_inodes=30 none '{}' && exec \"$0\" \"$@\"",
        cache.0.display()
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]).arg(filler.get_program()).args(filler.get_args());
    for (name, value) in filler.get_envs() {
        command.env(name, value.expect("it is set"));
    }
    let Ok(ended) = command.output() else { return println!("skipped: no unshare here") };
    let said = String::from_utf8_lossy(&ended.stderr);
    if !said.contains("drafts") && (said.contains("mount") || said.contains("unshare")) {
        return println!("skipped: no disk of one's own can be mounted here: {said}");
    }
    assert!(ended.status.success(), "{said}");
    assert_eq!(said.matches("WARN").count(), 1, "{said}");
    assert!(said.contains("pages are not kept") && said.contains("No space left"), "{said}");
}

#[test]
fn a_disk_that_fails_costs_the_page_and_no_more() {
    let cache = Cache::new("broken");
    let disk = disk(&cache.0, PLENTY);
    names(0, 4).into_iter().for_each(|name| keep(&disk, name));
    disk.settle(Duration::from_secs(20));
    let own = cache.0.join(identity().folder());
    let third = own.join(Entry { name: names(0, 3)[2], len: PAGE_BYTES }.file_name());
    fs::remove_file(&third).unwrap();
    if symlink("/proc/self/mem", &third).is_ok() && third.exists() {
        assert_eq!(found(&disk, 0, 4), 2, "the system cannot read the third");
        assert_eq!((disk.holding().faults, disk.holding().damaged_pages), (1, 0));
    }
    // No file can be made in what is none of its folders.
    fs::rename(&own, cache.0.join("elsewhere")).unwrap();
    fs::write(&own, "no folder").unwrap();
    let before = disk.holding();
    names(1, 4).into_iter().for_each(|name| keep(&disk, name));
    disk.settle(Duration::from_secs(20));
    assert_eq!(disk.holding().faults, before.faults + 1, "the others are left out");
    assert_eq!((found(&disk, 1, 4), disk.holding().written_pages), (0, 4));
}

#[test]
fn a_cache_that_is_cleared_away_is_begun_again() {
    let cache = Cache::new("gone");
    let disk = disk(&cache.0, PLENTY);
    names(0, 3).into_iter().for_each(|name| keep(&disk, name));
    disk.settle(Duration::from_secs(20));
    fs::remove_dir_all(&cache.0).unwrap();
    assert_eq!(found(&disk, 0, 3), 0);
    names(1, 3).into_iter().for_each(|name| keep(&disk, name));
    disk.settle(Duration::from_secs(20));
    assert_eq!((found(&disk, 1, 3), disk.holding().faults), (3, 0));
}

#[test]
fn what_nobody_wants_any_more_does_not_arrive() {
    let cache = Cache::new("abandon");
    let disk = disk(&cache.0, PLENTY);
    names(0, 20).into_iter().for_each(|name| keep(&disk, name));
    disk.settle(Duration::from_secs(20));
    for id in 0..200 {
        disk.fetch(Fetch { id, salt: Salt(0), tokens: tokens(0, 20), skip: 1 });
        if id % 3 == 0 {
            thread::sleep(Duration::from_micros(id * 3));
        }
        disk.abandon(id);
        assert_eq!(disk.arrived(), None);
    }
    assert_eq!((found(&disk, 0, 20), disk.reach(Salt(0), &tokens(0, 99))), (20, 20 * PAGE));
    assert_eq!(disk.reach(Salt(1), &tokens(0, 99)), 0, "another tenant");
}
