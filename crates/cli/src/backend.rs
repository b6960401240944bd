//! Backend: finds the device that runs a model, and loads the model onto it.
//!
//! What is chosen is returned in words for the caller to say aloud; nothing is printed here.

use std::sync::Arc;

use qwire_backend_cpu::Cpu;
use qwire_backend_cpu::sidecar::Sidecar;
use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::reference::Reference;
use qwire_model::{Backend, Limits, Loaded, Model, Runner, Witness, Witnessed};

use crate::failure::Failure;

/// The devices there are.
#[derive(Clone, Copy, Debug)]
pub enum Device {
    /// Threads of the CPU.
    Cpu { threads: usize, isa: Isa },
    /// The definition in f64, slow and right.
    Reference,
}

/// A model on its device.
pub struct Ready {
    /// What the engine runs.
    pub runner: Box<dyn Runner>,
    /// The device in words.
    pub device: String,
    /// Tensors of the file that have no place in the architecture.
    pub unused: Vec<String>,
    /// Bytes of the device's own memory that are taken, and all of them.
    pub memory: Option<(u64, u64)>,
}

impl Device {
    /// A device beside the CPU, where there is one.
    pub fn gpu() -> Option<Self> {
        None
    }

    /// Whose numbers it computes, as its pages say.
    pub fn numbers(self) -> &'static str {
        match self {
            Self::Cpu { .. } => "definition",
            Self::Reference => "reference",
        }
    }
}

/// Binds every tensor, uploads it, and reserves memory. A CPU takes its panels from the sidecar
/// where there is one; a witness stands between the phases. `progress` hears (layers done, layers).
pub fn load(
    file: &Arc<File>,
    device: Device,
    (sidecar, witness): (Option<Sidecar>, Option<Box<dyn Witness>>),
    limits: Limits,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Ready, Failure> {
    let kept = if sidecar.is_some() { ", packed weights from disk" } else { "" };
    let (runner, unused) = match device {
        Device::Cpu { threads, isa } => {
            let cpu = Cpu::new(threads, isa)?;
            let cpu = if let Some(sidecar) = sidecar { cpu.with_sidecar(sidecar) } else { cpu };
            on(file, cpu, witness, limits, progress)?
        }
        Device::Reference => on(file, Reference::default(), witness, limits, progress)?,
    };
    Ok(Ready { runner, device: format!("{device}{kept}"), unused, memory: None })
}

/// Binds every tensor to nothing but the file: proves that a model can be loaded, and costs
/// little. Returns the tensors that have no place.
pub fn bind(file: &Arc<File>) -> Result<Vec<String>, Failure> {
    Ok(Model::load(file, &mut Reference::default(), &mut |_, _| {})?.unused)
}

fn on<B: Backend + 'static>(
    file: &Arc<File>,
    backend: B,
    witness: Option<Box<dyn Witness>>,
    limits: Limits,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Box<dyn Runner>, Vec<String>), Failure> {
    if let Some(witness) = witness {
        let watched = Witnessed::load(file, backend, witness, progress)?;
        return Ok((
            Box::new(Loaded::load(file, watched, |_| limits, &mut |_, _| {})?),
            Vec::new(),
        ));
    }
    let mut loaded = Loaded::load(file, backend, |_| limits, progress)?;
    let unused = std::mem::take(&mut loaded.model.unused);
    Ok((Box::new(loaded), unused))
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu { threads: 1, isa } => write!(f, "cpu {}, 1 thread", isa.name()),
            Self::Cpu { threads, isa } => write!(f, "cpu {}, {threads} threads", isa.name()),
            Self::Reference => f.write_str("the f64 reference"),
        }
    }
}
