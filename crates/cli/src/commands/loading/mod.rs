//! Loading: a model's way from its file to a device, the same for every command.

mod boxed;
pub mod placement;
pub mod sidecar;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qwire_gguf::File;
use qwire_model::{Limits, Shape, Witness, describe};

use crate::backend::{self, Device, Ready};
use crate::config::Environment;
use crate::failure::{Failure, one_line};
use crate::progress::{Bar, Unit};
use crate::quantity;
use crate::signals::{self, Interrupt};

/// Packing that took longer than this is worth a word on how to spare it.
const LONG: Duration = Duration::from_secs(5);

pub use boxed::{NOTICE, bytes as boxed_bytes};
use sidecar::{Packing, Terms};

/// A model that can run, in its file.
pub struct Opened {
    /// What it is called in messages: its path, where it has one.
    pub path: PathBuf,
    pub file: Arc<File>,
    pub shape: Shape,
}

/// How it is loaded.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    pub packing: Packing,
    pub environment: &'a Environment,
    pub interrupt: &'a Interrupt,
    /// No progress bar, and no word but errors.
    pub quiet: bool,
}

impl Opened {
    /// Maps its file, and reads what it is.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::given(Some(path), false)
    }

    /// The same; without a path it is the model in the binary.
    pub fn given(model: Option<&Path>, quiet: bool) -> Result<Self, Failure> {
        let file = open(model, quiet)?;
        let path = shown(model);
        let (_, shape) = describe(&file).map_err(|error| {
            let hint = "`qwire inspect` shows what is in the file";
            Failure::from(error).in_file(path).hint(hint)
        })?;
        Ok(Self { path: path.into(), file, shape })
    }

    /// Whether it is the model in the binary.
    pub fn is_boxed(&self) -> bool {
        self.file.path().is_none()
    }

    /// Loads it, from its sidecar where there is one, and says what is worth saying.
    pub fn load(
        &self,
        device: &Device,
        limits: Limits,
        manner: Manner<'_>,
    ) -> Result<Ready, Failure> {
        self.load_watched(device, limits, manner, None)
    }

    /// The same, with a witness between the phases.
    pub fn load_watched(
        &self,
        device: &Device,
        limits: Limits,
        manner: Manner<'_>,
        witness: Option<Box<dyn Witness>>,
    ) -> Result<Ready, Failure> {
        let (Self { path, file, .. }, Manner { packing, environment, interrupt, quiet }) =
            (self, manner);
        let threads = device.threads();
        let sidecar = match threads {
            Some(threads) if !self.is_boxed() => {
                let terms = Terms { threads, interrupt, quiet };
                sidecar::provide(packing, file, path, environment, &terms)?
            }
            _ => None,
        };
        // A host packs some of it, and most of the time goes into the card.
        let packs = matches!(device, Device::Cpu { .. }) && sidecar.is_none();
        let started = Instant::now();
        let mut bar = Bar::new("loading", Unit::Count("layers"), !quiet);
        let mut progress = |done, total| bar.set(done as u64, total as u64);
        let free = interrupt.at_once()?;
        let ready = backend::load(file, device, (sidecar, witness), limits, &mut progress);
        drop(free);
        let ready = ready.map_err(|failure| failure.in_file(path))?;
        drop(bar);
        if !quiet {
            warn_unused(&ready.unused);
            if packs && started.elapsed() > LONG && packing == Packing::Auto {
                let size = quantity::bytes(file.len_bytes());
                let command = format!("`qwire pack {}`", one_line(&path.to_string_lossy()));
                eprintln!("hint: {command} spares this loading; it takes {size} of disk");
            }
        }
        Ok(ready)
    }
}

/// Maps a model's file, and watches that it stays whole. Without one it is the model in the binary,
/// which is said.
pub fn open(model: Option<&Path>, quiet: bool) -> Result<Arc<File>, Failure> {
    let Some(path) = model else {
        let file = boxed::open()?;
        if !quiet {
            eprintln!("{NOTICE}");
        }
        return Ok(file);
    };
    let file = File::open(path).map_err(|error| Failure::from(error).in_file(path))?;
    signals::watch_mapping(path)?;
    Ok(Arc::new(file))
}

/// What a model is called in messages.
pub fn shown(model: Option<&Path>) -> &Path {
    model.unwrap_or(Path::new(boxed::NAME))
}

/// Names the tensors that are not used, in one line.
fn warn_unused(unused: &[String]) {
    let Some(first) = unused.first() else { return };
    let more = match unused.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let name = one_line(first);
    eprintln!("warning: tensor `{name}`{more} has no place in this architecture and is not used");
}
