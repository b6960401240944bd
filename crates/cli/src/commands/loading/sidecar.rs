//! Sidecar: where the packed weights of a model lie on disk, when they are used, when written.
//!
//! ```text
//! MODEL.qwire                          beside the model
//! CACHE/qwire/NAME-FOLDER.qwire        where its folder cannot be written; FOLDER is a hash
//! ```

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use qwire_backend_cpu::pool::Pool;
use qwire_backend_cpu::sidecar::{Plan, Sidecar, Unfit};
use sha2::{Digest, Sha256};

use crate::config::Environment;
use crate::draft::{self, Draft};
use crate::failure::Failure;
use crate::progress::{Bar, Unit};
use crate::quantity;
use crate::signals::Interrupt;

/// Nobody asked for it: what a disk must have left besides twice the sidecar.
const RESERVE_BYTES: u64 = 1 << 30;

/// What becomes of sidecars; documented at its flag, which keeps the help in two columns.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    Auto,
    Never,
    Always,
}

/// How a sidecar is written.
pub struct Terms<'a> {
    /// Threads that pack.
    pub threads: usize,
    /// Ends it, and nothing is left.
    pub interrupt: &'a Interrupt,
    /// No progress bar, and no word but errors.
    pub quiet: bool,
}

/// What lies on the shelf.
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file that is no sidecar of this model, and why.
    Unfit(PathBuf, String),
    /// A file that is.
    Fit(PathBuf, Sidecar),
}

/// The places of one model's sidecar, in the order in which they are tried.
pub struct Shelf {
    places: Vec<PathBuf>,
    plan: Arc<Plan>,
}

impl Shelf {
    /// The shelf of a model.
    pub fn of(
        file: &Arc<qwire_gguf::File>,
        model: &Path,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let plan = Plan::of(file).map_err(|error| Failure::from(error).in_file(model))?;
        Ok(Self { places: places(model, environment), plan: Arc::new(plan) })
    }

    /// Removes what killed processes left.
    pub fn sweep(&self) {
        self.places.iter().for_each(|place| Draft::sweep(place));
    }

    /// The size of the sidecar.
    pub fn len_bytes(&self) -> u64 {
        self.plan.len_bytes()
    }

    /// Looks for a sidecar that fits.
    pub fn look(&self) -> Found {
        let mut found = Found::Nothing;
        for place in &self.places {
            match self.plan.open(place) {
                Ok(sidecar) => return Found::Fit(place.clone(), sidecar),
                Err(Unfit::Absent) => {}
                Err(unfit) if matches!(found, Found::Nothing) => {
                    found = Found::Unfit(place.clone(), unfit.to_string());
                }
                Err(_) => {}
            }
        }
        found
    }

    /// Writes the sidecar at the first place that can be written. What was there stays until the
    /// new one is complete.
    pub fn write(&self, terms: &Terms<'_>) -> Result<(PathBuf, Sidecar), Failure> {
        let (place, draft) = self.draft()?;
        let full = |error: &dyn Display| {
            let needed = quantity::bytes(self.len_bytes());
            let free = draft::free_bytes(&place).map_or("unknown".into(), quantity::bytes);
            let fault = format!("takes {needed}, but {free} are free on its disk ({error})");
            Failure::new(format!("{}: {fault}", place.display()))
                .hint("make room, or run the model with --pack never")
        };
        let failed = |error: &io::Error| match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::QuotaExceeded => full(error),
            _ => draft.failed(error),
        };
        if draft::free_bytes(&place)? < self.len_bytes() {
            return Err(full(&"nothing was written"));
        }
        reserve(draft.file(), self.len_bytes()).map_err(|error| failed(&error))?;
        let pool = pool(terms.threads)?;
        let mut bar = Bar::new("packing", Unit::Bytes, !terms.quiet);
        let written = self.plan.write(draft.file(), &pool, &mut |done, total| {
            bar.set(done, total);
            !terms.interrupt.raised()
        });
        drop(bar);
        terms.interrupt.check()?;
        written.map_err(|error| failed(&error))?;
        draft.finish()?;
        let sidecar = self.plan.open(&place);
        let sidecar = sidecar.map_err(|why| Failure::new(format!("{}: {why}", place.display())))?;
        Ok((place, sidecar))
    }

    fn draft(&self) -> Result<(PathBuf, Draft), Failure> {
        let mut first = None;
        for place in &self.places {
            match begin(place) {
                Ok(draft) => return Ok((place.clone(), draft)),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        Err(first.expect("there is a place"))
    }

    /// Whether nobody would miss the room, so that it can be taken unasked.
    fn is_roomy(&self) -> bool {
        let needed = self.len_bytes().saturating_mul(2).saturating_add(RESERVE_BYTES);
        draft::free_bytes(&self.places[0]).is_ok_and(|free| free >= needed)
    }
}

/// The sidecar to run a model from, if there shall be one; it is written first where that is due.
pub fn provide(
    packing: Packing,
    file: &Arc<qwire_gguf::File>,
    model: &Path,
    environment: &Environment,
    terms: &Terms<'_>,
) -> Result<Option<Sidecar>, Failure> {
    if packing == Packing::Never {
        return Ok(None);
    }
    let places = places(model, environment);
    places.iter().for_each(|place| Draft::sweep(place));
    if packing == Packing::Auto && !places.iter().any(|place| place.exists()) {
        return Ok(None);
    }
    let say = |line: String| {
        if !terms.quiet {
            eprintln!("{line}");
        }
    };
    let shelf = Shelf::of(file, model, environment)?;
    let (path, why) = match shelf.look() {
        Found::Fit(_, sidecar) => return Ok(Some(sidecar)),
        Found::Unfit(path, why) => (path, why),
        Found::Nothing => return Ok(Some(shelf.write(terms)?.1)),
    };
    let path = path.display();
    if packing == Packing::Auto && !shelf.is_roomy() {
        let room = "the disk has little room for another";
        say(format!("warning: {path} is not used: {why}; {room} (`qwire pack` writes it anyway)"));
        return Ok(None);
    }
    say(format!("{path}: {why}; packing anew"));
    match shelf.write(terms) {
        Ok((_, sidecar)) => Ok(Some(sidecar)),
        Err(failure) if packing == Packing::Always || terms.interrupt.raised() => Err(failure),
        Err(failure) => {
            say(format!("warning: running without a sidecar: {}", failure.message()));
            Ok(None)
        }
    }
}

fn places(model: &Path, environment: &Environment) -> Vec<PathBuf> {
    let named = |suffix: &str| {
        let mut name = model.file_name().unwrap_or_default().to_os_string();
        name.push(suffix);
        name
    };
    let beside = model.with_file_name(named(".qwire"));
    let folder = fs::canonicalize(draft::folder(model));
    let elsewhere = environment.cache.as_ref().zip(folder.ok()).map(|(cache, folder)| {
        let hash = Sha256::digest(folder.as_os_str().as_encoded_bytes());
        let hash: Vec<_> = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        cache.join("qwire").join(named(&format!("-{}.qwire", hash.concat())))
    });
    // Through a link a draft would have to be written in place.
    let followed = |place: PathBuf| match fs::read_link(&place) {
        Ok(_) => fs::canonicalize(&place).unwrap_or(place),
        Err(_) => place,
    };
    [beside].into_iter().chain(elsewhere).map(followed).collect()
}

/// A draft at this place.
fn begin(place: &Path) -> Result<Draft, Failure> {
    let failed = |why: &dyn Display| Failure::new(format!("{}: {why}", place.display()));
    if fs::symlink_metadata(place).is_ok_and(|found| !found.is_file()) {
        return Err(failed(&"it is no regular file"));
    }
    // The model's folder is there, that of the cache perhaps not yet.
    fs::create_dir_all(draft::folder(place)).map_err(|error| failed(&error))?;
    Draft::create(place)
}

/// Threads that pack or check.
pub fn pool(threads: usize) -> Result<Pool, Failure> {
    Pool::new(threads).map_err(|error| Failure::new(format!("{threads} threads: {error}")))
}

/// Takes the room on the disk before the work begins, where the system can.
#[cfg(target_os = "linux")]
fn reserve(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Err(error) if ![Errno::OPNOTSUPP, Errno::NOSYS].contains(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}
