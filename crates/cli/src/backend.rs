//! Backend: finds the device that runs a model, and loads the model onto it.
//!
//! What is chosen is returned in words for the caller to say aloud; nothing is printed here.

use std::str::FromStr;
use std::sync::Arc;

use qwire_backend_cpu::Cpu;
use qwire_backend_cpu::sidecar::Sidecar;
use qwire_backend_cuda::Gpu;
use qwire_backend_cuda::driver::{self, Card, Cuda};
use qwire_backend_cuda::monitor::Monitor;
use qwire_backend_wgpu::driver::{self as wgpu, Adapter, Wgpu};
use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::reference::Reference;
use qwire_model::{Backend, Limits, Loaded, Model, Runner, Witness, Witnessed};

use crate::commands::loading::placement::{RESERVE_BYTES, Shared, Sizes};
use crate::failure::Failure;
use crate::memory;

/// The device that a command line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// A CUDA card where one can be had, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA card of this number.
    Cuda(usize),
    /// The adapter of this number that wgpu knows.
    Wgpu(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbered =
            |prefix: &str| text.strip_prefix(prefix).and_then(|number| number.parse().ok());
        match (text, numbered("cuda:"), numbered("wgpu:")) {
            ("auto", ..) => Ok(Self::Auto),
            ("cpu", ..) => Ok(Self::Cpu),
            ("wgpu", ..) => Ok(Self::Wgpu(0)),
            (_, Some(ordinal), _) => Ok(Self::Cuda(ordinal)),
            (_, _, Some(ordinal)) => Ok(Self::Wgpu(ordinal)),
            _ => Err("accepted: auto, cpu, cuda:0, cuda:1, .., wgpu, wgpu:1, ..".into()),
        }
    }
}

/// What was found for a choice.
pub enum Found {
    /// A device beside the CPU.
    Beside(Device),
    /// The CPU; why no other device was taken where one was looked for.
    Cpu(Option<String>),
}

impl Choice {
    /// Looks for it. One that was asked for and is not there is a failure.
    pub fn find(self) -> Result<Found, Failure> {
        Ok(match self {
            Self::Cuda(ordinal) => Found::Beside(Device::Cuda(card(ordinal)?)),
            Self::Wgpu(ordinal) => Found::Beside(Device::Wgpu(adapter(ordinal)?)),
            Self::Auto => match first_card() {
                Ok(card) => Found::Beside(Device::Cuda(card)),
                Err(why) => Found::Cpu(Some(why)),
            },
            Self::Cpu => Found::Cpu(None),
        })
    }
}

/// The devices there are.
#[derive(Clone, Debug)]
pub enum Device {
    /// Threads of the CPU; `note` says why no other device was taken where one was looked for.
    Cpu { threads: usize, isa: Isa, note: Option<String> },
    /// A CUDA card.
    Cuda(Card),
    /// An adapter that wgpu knows.
    Wgpu(Adapter),
    /// One of the two, and the CPU for the experts of some layers.
    Shared(Box<Shared>),
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
    /// Layers whose experts the CPU computes beside a card.
    pub host_layers: usize,
    /// Bytes of the device's own memory that are taken, and all of them.
    pub memory: Option<(u64, u64)>,
}

impl Device {
    /// A device beside the CPU, where there is one.
    pub fn gpu() -> Option<Self> {
        first_card().ok().map(Self::Cuda)
    }

    /// Whose numbers it computes, as its pages say.
    pub fn numbers(&self) -> &'static str {
        match self {
            Self::Cpu { .. } => "definition",
            Self::Cuda(_) => "cuda",
            Self::Wgpu(_) => "wgpu",
            Self::Shared(shared) => shared.card.numbers(),
            Self::Reference => "reference",
        }
    }

    /// Threads of the CPU that compute with weights of their own, alone or as a card's host.
    pub fn threads(&self) -> Option<usize> {
        match self {
            Self::Cpu { threads, .. } => Some(*threads),
            Self::Shared(shared) => Some(shared.threads),
            Self::Cuda(_) | Self::Wgpu(_) | Self::Reference => None,
        }
    }

    /// What watches and steers it, where there is such a thing.
    pub fn monitor(&self) -> Option<&Monitor> {
        match self {
            Self::Cuda(card) => Some(&card.monitor),
            Self::Shared(shared) => shared.card.monitor(),
            Self::Cpu { .. } | Self::Wgpu(_) | Self::Reference => None,
        }
    }

    /// Its name on the command line.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu { .. } => "cpu".into(),
            Self::Cuda(card) => format!("cuda:{}", card.ordinal),
            Self::Wgpu(adapter) => adapter.name(),
            Self::Shared(shared) => shared.card.name(),
            Self::Reference => "reference".into(),
        }
    }

    /// What a card has left, where it says so.
    pub fn free(&self) -> Result<Option<u64>, Failure> {
        let Self::Cuda(card) = self else { return Ok(None) };
        let (taken, all) = card.memory()?;
        Ok(Some(all - taken))
    }

    /// What the weights of a file take of its memory.
    pub fn weights_bytes(&self, file: &File) -> u64 {
        let Self::Shared(shared) = self else { return file.len_bytes() };
        let placement = shared.placement;
        Sizes::of(file, placement.layers).on_card(placement.card_layers)
    }

    /// Memory for weights, cache and the rest, where it is known.
    pub fn available(&self) -> Option<u64> {
        match self {
            // What a desktop and the driver itself take is not known before the card is opened.
            Self::Cuda(card) => Some(card.bytes as u64 / 10 * 9),
            // Vulkan, Metal and DirectX tell no size that a program could rely on.
            Self::Wgpu(_) => None,
            Self::Shared(shared) => {
                shared.free_bytes.map(|bytes| bytes.saturating_sub(RESERVE_BYTES))
            }
            Self::Cpu { .. } | Self::Reference => memory::available(),
        }
    }

    /// Proves that the cache can be had where that costs nothing; a card says it at load.
    pub fn probe(&self, cache_bytes: u64) -> Result<(), Failure> {
        match self {
            Self::Cuda(_) | Self::Wgpu(_) | Self::Shared(_) => Ok(()),
            Self::Cpu { .. } | Self::Reference => memory::probe(cache_bytes),
        }
    }
}

/// Binds every tensor, uploads it, and reserves memory. A CPU, alone or as a card's host, takes its
/// panels from the sidecar where there is one; a witness stands between the phases. `progress`
/// hears (layers done, layers).
pub fn load(
    file: &Arc<File>,
    device: &Device,
    (sidecar, witness): (Option<Sidecar>, Option<Box<dyn Witness>>),
    limits: Limits,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Ready, Failure> {
    let kept = if sidecar.is_some() { ", packed weights from disk" } else { "" };
    let cpu = |threads, isa, sidecar: Option<Sidecar>| -> Result<Cpu, Failure> {
        let cpu = Cpu::new(threads, isa)?;
        Ok(if let Some(sidecar) = sidecar { cpu.with_sidecar(sidecar) } else { cpu })
    };
    let (runner, unused) = match device {
        Device::Cpu { threads, isa, .. } => {
            sidecar.iter().for_each(Sidecar::fetch);
            on(file, cpu(*threads, *isa, sidecar)?, witness, limits, progress)?
        }
        Device::Cuda(card) => on(file, Gpu::new(Cuda::open(card)?), witness, limits, progress)?,
        Device::Wgpu(found) => on(file, Gpu::new(Wgpu::open(found)?), witness, limits, progress)?,
        Device::Shared(shared) => {
            let some = sidecar.map(|sidecar| sidecar.in_parts());
            let cpu = cpu(shared.threads, shared.isa, some)?;
            let layers = shared.placement.card_layers;
            match &shared.card {
                Device::Cuda(card) => {
                    let gpu = Gpu::sharing(Cuda::open(card)?, cpu, layers);
                    on(file, gpu, witness, limits, progress)?
                }
                Device::Wgpu(found) => {
                    let gpu = Gpu::sharing(Wgpu::open(found)?, cpu, layers);
                    on(file, gpu, witness, limits, progress)?
                }
                Device::Cpu { .. } | Device::Shared(_) | Device::Reference => {
                    unreachable!("a card shares its layers")
                }
            }
        }
        Device::Reference => on(file, Reference::default(), witness, limits, progress)?,
    };
    let (card, host_layers) = match device {
        Device::Shared(shared) => (&shared.card, shared.placement.host_layers()),
        alone => (alone, 0),
    };
    let memory = match card {
        Device::Cuda(card) => Some(card.memory()?),
        _ => None,
    };
    Ok(Ready { runner, device: format!("{device}{kept}"), unused, host_layers, memory })
}

/// The CUDA card of this number; the error says what there is.
pub fn card(ordinal: usize) -> Result<Card, Failure> {
    let cards = driver::probe().map_err(|why| format!("there is no cuda:{ordinal}: {why}"));
    let cards = cards.map_err(|fault| Failure::new(fault).hint("`--device cpu` needs no card"))?;
    let found: Vec<String> = cards.iter().map(ToString::to_string).collect();
    let fault = || Failure::new(format!("there is no cuda:{ordinal}: {}", found.join("; ")));
    cards.into_iter().find(|card| card.ordinal == ordinal).ok_or_else(fault)
}

/// The first CUDA card that kernels run on, or why there is none.
pub fn first_card() -> Result<Card, String> {
    let cards = driver::probe()?;
    let refusals: Vec<String> = cards.iter().filter_map(Card::refusal).collect();
    let usable = cards.into_iter().find(|card| card.refusal().is_none());
    usable.ok_or_else(|| match refusals[..] {
        [] => "the CUDA driver knows no card".into(),
        _ => refusals.join("; "),
    })
}

/// The adapter of this number that wgpu knows; the error says what there is.
pub fn adapter(ordinal: usize) -> Result<Adapter, Failure> {
    let none = |why: String| {
        let fault = format!("there is no wgpu:{ordinal}: {why}");
        Failure::new(fault).hint("`--device cpu` needs no card")
    };
    let adapters = wgpu::probe().map_err(none)?;
    let found: Vec<String> = adapters.iter().map(ToString::to_string).collect();
    adapters.into_iter().nth(ordinal).ok_or_else(|| none(found.join("; ")))
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
            Self::Cpu { threads, isa, note } => {
                let plural = if *threads == 1 { "" } else { "s" };
                write!(f, "cpu {}, {threads} thread{plural}", isa.name())?;
                note.iter().try_for_each(|note| write!(f, " ({note})"))
            }
            Self::Cuda(card) => card.fmt(f),
            Self::Wgpu(adapter) => adapter.fmt(f),
            Self::Shared(shared) => shared.fmt(f),
            Self::Reference => f.write_str("the f64 reference"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cpu".parse(), Ok(Choice::Cpu));
        assert_eq!("cuda:3".parse(), Ok(Choice::Cuda(3)));
        assert_eq!("wgpu".parse(), Ok(Choice::Wgpu(0)));
        assert_eq!("wgpu:1".parse(), Ok(Choice::Wgpu(1)));
        for text in ["", "cuda", "cuda:", "cuda:-1", "cuda:x", "wgpu:", "wgpu:x", "gpu"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }
}
