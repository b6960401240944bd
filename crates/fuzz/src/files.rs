//! Files that qwire reads again: models, what was packed of them, pages, turns and capsules.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use qwire_backend_cpu::sidecar::{Plan, Unfit};
use qwire_disk::{Entry, Folder, Identity};
use qwire_engine::Salt;
use qwire_gguf::Value;
use qwire_server::admin::capsule::Capsule;
use qwire_server::chat::replay::{Keeping, Replay};
use qwire_text::{ChatTemplate, Vocabulary};

const PAGE_BYTES: usize = 64;
const POSITIONS: u32 = 64;
/// What a cache may hold: room for a page, and no more.
const LIMIT_BYTES: u64 = 8192;

/// A folder that is gone with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("qwire-fuzz-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder for scratch files");
        Self(path)
    }

    /// A file in it.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a scratch file");
        path
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is the system's to clear.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A model's file opens, and can be read to the end, or is refused in one line.
pub fn model(bytes: &[u8]) {
    let told = |why: String| assert!(!why.contains('\n'), "{why}");
    let file = match qwire_gguf::File::from_bytes(bytes.to_vec()) {
        Ok(file) => file,
        Err(why) => return told(why.to_string()),
    };
    let metadata = file.metadata();
    for (key, value) in metadata.iter() {
        assert!(metadata.get(key).is_some());
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
        let _ = (metadata.u64(key), metadata.f32(key), metadata.i32s(key), metadata.f32s(key));
        if let Ok(Some(strings)) = metadata.strings(key) {
            assert_eq!(strings.len(), strings.count());
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.data(tensor).len() as u64, tensor.len_bytes());
        assert!(file.tensor(&tensor.name).is_some());
    }
    if let Err(why) = qwire_model::describe(&file) {
        told(why.to_string());
    }
    match Vocabulary::from_gguf(metadata) {
        Ok(vocabulary) => {
            if let Err(why) = ChatTemplate::from_gguf(metadata, &vocabulary) {
                told(why.to_string());
            }
        }
        Err(why) => told(why.to_string()),
    }
}

/// A sidecar that begins like this is the model's own, or is not used.
pub fn sidecar(bytes: &[u8]) {
    static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
        let model: &'static [u8] = include_bytes!("../../../golden/dense3-q4_0.gguf");
        let file = qwire_gguf::File::from_bytes(model).expect("a golden model");
        Arc::new(Plan::of(&Arc::new(file)).expect("its matrices"))
    });
    let scratch = Scratch::new();
    let path = scratch.path().join("sidecar");
    let mut file = File::create(&path).expect("a scratch file");
    file.write_all(bytes).expect("its beginning");
    let whole = PLAN.len_bytes() > bytes.len() as u64;
    if whole {
        file.set_len(PLAN.len_bytes()).expect("its length");
    }
    match PLAN.open(&path) {
        Ok(_) => assert!(whole && bytes.starts_with(b"QWIREPAN")),
        Err(Unfit::Stale(why)) => assert!(!why.contains('\n'), "{why}"),
        Err(why) => panic!("{why}"),
    }
}

/// A cache that holds a file of this name, and of these bytes where a page is looked for, opens;
/// its page is what was written or is not used, and it keeps its limit.
pub fn cache(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (name, bytes) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let (scratch, identity) = (Scratch::new(), Identity::of(&[]));
    let tokens: Vec<u32> = (0..POSITIONS).collect();
    let name_of = |salt| identity.names(Salt(salt), &tokens).next().expect("a full page");
    let [entry, other] = [0, 1].map(|salt| Entry { name: name_of(salt), len: PAGE_BYTES });
    let own = scratch.path().join(identity.folder());
    fs::create_dir_all(&own).expect("a scratch folder");
    let stranger = String::from_utf8_lossy(name);
    if !stranger.is_empty() && !stranger.contains(['/', '\0']) && !stranger.starts_with('.') {
        // Names can be too long for the system.
        let _ = fs::write(own.join(&*stranger), bytes);
    }
    for path in [own.join(entry.file_name()), own.join("seconds"), scratch.path().join("ledger")] {
        fs::write(path, bytes).expect("a scratch file");
    }
    let folder = Folder::open(scratch.path(), &identity, (LIMIT_BYTES, 0), 0.1).expect("a folder");
    let mut page = Vec::new();
    if folder.read(&entry, &mut page).is_ok() {
        assert!(bytes.ends_with(&page) && page.len() == PAGE_BYTES);
        assert!(folder.holds(&entry));
    } else {
        assert!(!folder.holds(&entry), "what is damaged is gone");
    }
    if let Ok(Some(draft)) = folder.draft(&other) {
        other.write(&draft.file, &[7; PAGE_BYTES]).expect("a page");
        folder.finish(&draft, &other).expect("its name");
        assert!(folder.used() <= LIMIT_BYTES);
        assert!(folder.read(&other, &mut page).is_ok() && page == [7; PAGE_BYTES]);
    }
}

/// Remembered turns are believed as far as they are whole, always as far.
pub fn turns(bytes: &[u8]) {
    let scratch = Scratch::new();
    scratch.put("a.turns", bytes);
    let keeping = Keeping::Disk(scratch.path().into());
    let found = || Replay::open(&keeping, "toy").expect("a memory").len();
    let first = found();
    assert_eq!(first, found());
    // A turn has a key, an opener and the checksum of both.
    assert!(first <= bytes.len() / 32);
}

/// A capsule is refused in one line, or says itself whether it is as it was written.
pub fn capsule(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Capsule::read(text) {
        Ok(mut capsule) if capsule.is_untouched() => {
            let again = Capsule::read(&capsule.text()).expect("what was written is read");
            assert!(again.is_untouched());
        }
        Ok(_) => {}
        Err(why) => assert!(!why.contains('\n'), "{why}"),
    }
}
