//! The disk cache of a server: how large, where, and when it opens.
//!
//! ```text
//! digest known     opened before the first request       what an earlier run computed is found
//! digest unknown   a thread reads the model's files, opens it after, and remembers the digest
//! ```
//! A page belongs to a model by all of the model's bytes, so that nothing is kept or found before
//! they are known.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;

use qwire_disk::{Digest, Disk, Identity, Terms};
use qwire_engine::Store;
use qwire_kernels::NUMBERS_VERSION;
use qwire_kernels::attention::PAGE;
use qwire_model::{PageForm, Shape};
use tracing::{info, warn};

use super::options::{DiskCache, DiskSize};
use crate::commands::loading::Opened;
use crate::config::Environment;
use crate::quantity;

/// The part of what is free that a cache takes where nobody says how much, and its most.
const PART: u64 = 5;
const MOST_BYTES: u64 = 64 << 30;
/// What a disk must have left for others.
const RESERVE_BYTES: u64 = 1 << 30;

/// What the pages of a model are made of.
pub struct Maker<'a> {
    pub opened: &'a Opened,
    pub form: PageForm,
    /// Tokens of a prompt per second.
    pub prompt_tok_s: f64,
}

/// The folder and the size that options and environment name; none where there shall be none.
pub fn place(options: &DiskCache, environment: &Environment) -> Option<(PathBuf, u64)> {
    if options.size == Some(DiskSize::Off) {
        return None;
    }
    let usual = || Some(environment.cache.as_ref()?.join("qwire").join("pages"));
    let Some(folder) = options.folder.clone().or_else(usual) else {
        warn!("no disk cache: neither --disk-cache-dir, XDG_CACHE_HOME nor HOME names a place");
        return None;
    };
    let limit = match options.size {
        Some(DiskSize::Bytes(bytes)) => bytes,
        _ => match qwire_disk::room_bytes(&folder) {
            Ok(room) => MOST_BYTES.min(room / PART),
            Err(error) => {
                warn!(%error, folder = %folder.display(), "no disk cache");
                return None;
            }
        },
    };
    Some((folder, limit))
}

/// Makes the store, and opens it now or later.
pub fn start((folder, limit_bytes): (PathBuf, u64), maker: &Maker<'_>) -> Option<Arc<Disk>> {
    if maker.opened.is_boxed() {
        return None; // reading its prompts again costs less than asking a disk
    }
    let (page_bytes, reserve_bytes) = (maker.form.bytes, RESERVE_BYTES);
    let paths = maker.opened.file.paths().map(Path::to_path_buf).collect();
    let digest = match Digest::of(&folder, paths) {
        Ok(digest) => digest,
        Err(error) => {
            warn!(%error, "no disk cache: the model's files cannot be told from others");
            return None;
        }
    };
    let disk = Arc::new(Disk::new(Terms { folder, limit_bytes, reserve_bytes, page_bytes }));
    let seconds = PAGE as f64 / maker.prompt_tok_s;
    let (form, shape) = (maker.form, maker.opened.shape.clone());
    if let Some(digest) = digest.known() {
        open(&disk, identity(&digest, form, &shape), seconds);
        return Some(disk);
    }
    let bytes = quantity::bytes(maker.opened.file.len_bytes());
    info!(
        "the disk cache opens once all {bytes} of the model were read, while nobody else computes"
    );
    let watched = Arc::downgrade(&disk);
    let goes_on = |watched: &Weak<Disk>, worked| {
        watched.upgrade().inspect(|disk| disk.give_way(worked)).is_some()
    };
    let work = move || match digest.make(&|worked| goes_on(&watched, worked)) {
        Ok(Some(digest)) => open_later(&watched, identity(&digest, form, &shape), seconds),
        Ok(None) => {}
        Err(error) => warn!(%error, "no disk cache: the model cannot be read in full"),
    };
    if let Err(error) = thread::Builder::new().name("qwire-digest".into()).spawn(work) {
        warn!(%error, "no disk cache: no thread");
    }
    Some(disk)
}

fn open_later(disk: &Weak<Disk>, identity: Identity, seconds: f64) {
    if let Some(disk) = disk.upgrade() {
        open(&disk, identity, seconds);
    }
}

fn open(disk: &Disk, identity: Identity, seconds: f64) {
    let folder = disk.place();
    match disk.open(identity, seconds) {
        Ok(()) => {
            let used = quantity::bytes(disk.holding().used_bytes);
            info!(folder, used, "the disk cache is open");
        }
        Err(error) => warn!(%error, folder, "no disk cache"),
    }
}

/// Everything that the bytes of a page follow from: not the threads, the instruction set or the
/// chunks, on which no bit depends.
fn identity(digest: &[u8; 32], form: PageForm, shape: &Shape) -> Identity {
    let PageForm { bytes, layout, numbers, host_layers } = form;
    // Floats are printed with as many digits as tell them apart.
    let rotation = format!("{:?}", shape.rotation);
    Identity::of(&[
        ("model", digest),
        ("page", &(bytes as u64).to_le_bytes()),
        ("layout", layout.as_bytes()),
        ("numbers", numbers.as_bytes()),
        ("host layers", &(host_layers as u64).to_le_bytes()),
        ("numbers version", &NUMBERS_VERSION.to_le_bytes()),
        ("rotation", rotation.as_bytes()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::shape;
    use qwire_kernels::rope::Scaling;

    #[test]
    fn whatever_changes_a_page_changes_its_identity() {
        let form = PageForm { bytes: 64, layout: "a", numbers: "b", host_layers: 0 };
        let mut all = vec![identity(&[0; 32], form, &shape())];
        all.push(identity(&[1; 32], form, &shape()));
        for form in [
            PageForm { bytes: 65, ..form },
            PageForm { layout: "b", ..form },
            PageForm { numbers: "c", ..form },
            PageForm { layout: "", numbers: "ab", ..form },
            PageForm { host_layers: 1, ..form },
        ] {
            all.push(identity(&[0; 32], form, &shape()));
        }
        let mut longer = shape();
        longer.rotation.scaling = Scaling::Linear { factor: 2.0 };
        all.push(identity(&[0; 32], form, &longer));
        longer.rotation.scaling = Scaling::Linear { factor: 2.000_000_000_000_000_4 };
        all.push(identity(&[0; 32], form, &longer));
        let distinct: std::collections::HashSet<_> = all.iter().map(Identity::folder).collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], identity(&[0; 32], form, &shape()));
    }

    #[test]
    fn the_size_and_the_place_are_those_named() {
        let at = |cache: Option<&str>| Environment {
            cache: cache.map(PathBuf::from),
            ..Environment::default()
        };
        let check = |size, folder: Option<&str>, cache, expected: Option<(&str, u64)>| {
            let options = DiskCache { size, folder: folder.map(PathBuf::from) };
            let found = place(&options, &at(cache));
            let expected = expected.map(|(folder, bytes)| (PathBuf::from(folder), bytes));
            assert_eq!(found, expected);
        };
        let ten = Some(DiskSize::Bytes(10));
        check(Some(DiskSize::Off), Some("/a"), Some("/c"), None);
        check(ten, Some("/a"), Some("/c"), Some(("/a", 10)));
        check(ten, None, Some("/c"), Some(("/c/qwire/pages", 10)));
        check(ten, None, None, None);
        let temporary = std::env::temp_dir();
        let options = DiskCache { size: None, folder: Some(temporary.join("none/yet")) };
        let (_, bytes) = place(&options, &at(None)).expect("there is a disk");
        assert!(bytes > 0 && bytes <= MOST_BYTES);
    }
}
