//! Loading: a model's way from its file to a device, the same for every command.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qwire_gguf::File;
use qwire_model::Limits;

use crate::backend::{self, Device, Ready};
use crate::config::Environment;
use crate::failure::{Failure, one_line};
use crate::progress::{Bar, Unit};
use crate::quantity;
use crate::sidecar::{self, Packing, Terms};
use crate::signals::Interrupt;

/// Packing that took longer than this is worth a word on how to spare it.
const LONG: Duration = Duration::from_secs(5);

/// A model on its way to a device.
pub struct Loading<'a> {
    pub file: &'a Arc<File>,
    pub path: &'a Path,
    pub device: Device,
    pub limits: Limits,
    pub packing: Packing,
    pub environment: &'a Environment,
    pub interrupt: &'a Interrupt,
    pub quiet: bool,
}

impl Loading<'_> {
    /// Loads it, from its sidecar where there is one, and says what is worth saying.
    pub fn ready(&self) -> Result<Ready, Failure> {
        let Self { file, path, device, quiet, .. } = *self;
        let sidecar = match device {
            Device::Cpu { threads, .. } => {
                let terms = Terms { threads, interrupt: self.interrupt, quiet };
                sidecar::provide(self.packing, file, path, self.environment, &terms)?
            }
            Device::Reference => None,
        };
        let (packed, started) = (sidecar.is_none(), Instant::now());
        let mut bar = Bar::new("loading", Unit::Count("layers"), !quiet);
        let mut progress = |done, total| bar.set(done as u64, total as u64);
        let free = self.interrupt.at_once()?;
        let ready = backend::load(file, device, sidecar, self.limits, &mut progress);
        drop(free);
        let ready = ready.map_err(|failure| failure.in_file(path))?;
        drop(bar);
        if !quiet {
            warn_unused(&ready.unused);
            if packed && started.elapsed() > LONG && self.packing == Packing::Auto {
                let size = quantity::bytes(file.len_bytes());
                let command = format!("`qwire pack {}`", one_line(&path.to_string_lossy()));
                eprintln!("hint: {command} spares this loading; it takes {size} of disk");
            }
        }
        Ok(ready)
    }
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
