//! Placement: the layers whose experts lie on a card, and those whose experts the CPU computes.
//!
//! ```text
//! free memory of the card
//!  reserve   what the driver takes as it runs, and whoever else is on the card
//!  margin    what a step writes
//!  rest      attention, routers and norms of every layer, and the head
//!  cache     keys and values
//!  experts   of layer after layer, as long as the next one fits
//! ```
//! It is chosen once, before anything is loaded, and never changes: the bits depend on it.

use std::fmt;
use std::str::FromStr;

use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::Shape;

use super::Opened;
use crate::backend::Device;
use crate::failure::Failure;
use crate::memory::{self, MARGIN_BYTES};
use crate::quantity;

/// Memory of a card that nothing of a model is put into.
pub const RESERVE_BYTES: u64 = 512 << 20;

/// How many layers' experts lie on the card, as somebody asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// As many as fit.
    Auto,
    /// The first so many.
    Layers(usize),
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::Layers).map_err(|_| "accepted: auto, 0, 1, ..".into()),
        }
    }
}

/// The two sides, and what each has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The experts of the first so many layers are the card's.
    pub card_layers: usize,
    pub layers: usize,
}

impl Placement {
    /// Layers whose experts the CPU computes.
    pub fn host_layers(self) -> usize {
        self.layers - self.card_layers
    }
}

/// A card, and the CPU beside it.
#[derive(Clone, Debug)]
pub struct Shared {
    pub card: Device,
    pub placement: Placement,
    /// What the card has left, where it says so.
    pub free_bytes: Option<u64>,
    pub threads: usize,
    pub isa: Isa,
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { card, placement, threads, isa, .. } = self;
        let (name, plural) = (card.name(), if *threads == 1 { "" } else { "s" });
        let Placement { card_layers, layers } = placement;
        let (host, isa) = (placement.host_layers(), isa.name());
        write!(
            f,
            "{card} · experts of {card_layers} of {layers} layers on {name}, {host} on the CPU \
             ({isa}, {threads} thread{plural})"
        )
    }
}

/// What the weights of a model take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Of a card in any case.
    pub rest: u64,
    /// The experts of each layer.
    pub experts: Vec<u64>,
}

impl Sizes {
    /// Of a file's tensors. An embedding that is not the head as well stays on the host.
    pub fn of(file: &File, layers: usize) -> Self {
        let tied = file.tensor("output.weight").is_none();
        let (mut rest, mut experts) = (0, vec![0; layers]);
        for tensor in file.tensors() {
            match layer_of(&tensor.name).and_then(|layer| experts.get_mut(layer)) {
                Some(bytes) => *bytes += tensor.len_bytes(),
                None if tensor.name == "token_embd.weight" && !tied => {}
                None => rest += tensor.len_bytes(),
            }
        }
        Self { rest, experts }
    }

    /// Layers, from the first on, whose experts fit beside the rest and a cache of this size.
    pub fn fitting(&self, free_bytes: u64, cache_bytes: u64) -> usize {
        let taken = [RESERVE_BYTES, MARGIN_BYTES, self.rest, cache_bytes];
        let taken = taken.into_iter().fold(0_u64, u64::saturating_add);
        let mut room = free_bytes.checked_sub(taken);
        let fits = |bytes: &&u64| {
            room = room.and_then(|room| room.checked_sub(**bytes));
            room.is_some()
        };
        self.experts.iter().take_while(fits).count()
    }

    /// What a card takes that has the experts of so many layers.
    pub fn on_card(&self, layers: usize) -> u64 {
        self.rest + self.experts[..layers].iter().sum::<u64>()
    }

    /// What the host takes then.
    pub fn on_host(&self, layers: usize) -> u64 {
        self.experts[layers..].iter().sum()
    }
}

/// The layer whose experts a tensor belongs to. A dense model has one expert, without the plural.
fn layer_of(tensor: &str) -> Option<usize> {
    let (layer, part) = tensor.strip_prefix("blk.")?.split_once('.')?;
    let part = part.strip_suffix(".weight")?;
    let part = part.strip_suffix("_exps").unwrap_or(part);
    ["ffn_gate", "ffn_up", "ffn_down"].contains(&part).then(|| layer.parse().ok())?
}

/// What one token reads of the weights on either side.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Traffic {
    pub card_bytes: u64,
    pub host_bytes: u64,
}

impl Traffic {
    /// Of the experts a token reads those that it visits.
    pub fn of(sizes: &Sizes, shape: &Shape, placement: Placement) -> Self {
        let (used, experts) = (shape.routing.used as u128, shape.experts.max(1) as u128);
        let visited = |bytes: u64| (u128::from(bytes) * used / experts) as u64;
        let host_bytes = sizes.on_host(placement.card_layers);
        let card_bytes = sizes.on_card(placement.card_layers) - sizes.rest;
        Self { card_bytes: sizes.rest + visited(card_bytes), host_bytes: visited(host_bytes) }
    }

    /// Tokens a second where memory alone takes time: one side waits for the other.
    pub fn tokens_s(self, card_gb_s: f64, host_gb_s: f64) -> f64 {
        1e9 / (self.card_bytes as f64 / card_gb_s + self.host_bytes as f64 / host_gb_s)
    }
}

/// Divides a model between a card and the CPU, as asked and as it fits beside a cache of this size.
/// Where the card has all of it, or is none, nothing is divided.
pub fn place(
    device: Device,
    host: impl FnOnce() -> Result<(usize, Isa), Failure>,
    asked: Option<Asked>,
    opened: &Opened,
    cache_bytes: u64,
) -> Result<Device, Failure> {
    if !matches!(device, Device::Cuda(_) | Device::Wgpu(_)) {
        return Ok(device);
    }
    let layers = opened.shape.layers;
    let sizes = Sizes::of(&opened.file, layers);
    let free_bytes = device.free()?;
    let card_layers = match (asked.unwrap_or(Asked::Auto), free_bytes) {
        (Asked::Layers(n), _) if n > layers => return Err(too_many(n, layers)),
        (Asked::Layers(n), _) => n,
        (Asked::Auto, Some(free)) => sizes.fitting(free, cache_bytes),
        (Asked::Auto, None) => layers, // what it has left is unknown
    };
    if card_layers == layers {
        return Ok(device);
    }
    let placement = Placement { card_layers, layers };
    let needed = sizes.on_host(card_layers);
    if let Some(available) = memory::available().filter(|available| *available < needed) {
        let (n, name) = (placement.host_layers(), device.name());
        let (needed, available) = (quantity::bytes(needed), quantity::bytes(available));
        return Err(Failure::new(format!(
            "the experts of {n} of {layers} layers, which are not on {name}, take {needed}; only \
             {available} of memory are available"
        ))
        .hint("free memory, take a smaller quantisation, or a smaller --ctx"));
    }
    let (threads, isa) = host()?;
    Ok(Device::Shared(Box::new(Shared { card: device, placement, free_bytes, threads, isa })))
}

fn too_many(asked: usize, layers: usize) -> Failure {
    let fault = format!("--gpu-expert-layers {asked}: the model has {layers} layers");
    Failure::usage(fault).hint(format!("{layers} puts all of them on the card, auto what fits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::shape;

    const MB: u64 = 1 << 20;
    /// Of a card in any case, beside the rest.
    const TAKEN: u64 = RESERVE_BYTES + MARGIN_BYTES;

    fn sizes(experts: &[u64]) -> Sizes {
        Sizes { rest: 100 * MB, experts: experts.to_vec() }
    }

    #[test]
    fn layers_fit_one_by_one_from_the_first_on() {
        let even = sizes(&[50 * MB; 4]);
        let base = TAKEN + 100 * MB;
        for (free, cache, layers) in [
            (0, 0, 0),
            (base, 0, 0),
            (base + 50 * MB - 1, 0, 0),
            (base + 50 * MB, 0, 1),
            (base + 50 * MB, 1, 0),
            (base + 199 * MB, 0, 3),
            (base + 200 * MB, 0, 4),
            (base + 300 * MB, 150 * MB, 3),
            (u64::MAX, 0, 4),
            (u64::MAX, u64::MAX, 0),
        ] {
            assert_eq!(even.fitting(free, cache), layers, "{free} free, a cache of {cache}");
        }
        // The first that does not fit ends it, though a later one would.
        assert_eq!(sizes(&[10 * MB, 90 * MB, 10 * MB]).fitting(base + 60 * MB, 0), 1);
        assert_eq!(sizes(&[]).fitting(u64::MAX, 0), 0);
    }

    #[test]
    fn both_sides_have_everything_once() {
        let sizes = sizes(&[MB, 2 * MB, 4 * MB]);
        for layers in 0..=3 {
            assert_eq!(sizes.on_card(layers) + sizes.on_host(layers), 107 * MB);
        }
        assert_eq!((sizes.on_card(1), sizes.on_host(1)), (101 * MB, 6 * MB));
    }

    #[test]
    fn tensors_know_their_layer() {
        assert_eq!(layer_of("blk.17.ffn_gate_exps.weight"), Some(17));
        assert_eq!(layer_of("blk.0.ffn_down.weight"), Some(0));
        for name in ["blk.3.ffn_gate_inp.weight", "blk.3.ffn_norm.weight", "output.weight", "blk."]
        {
            assert_eq!(layer_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_token_reads_what_it_visits() {
        let mut shape = shape();
        (shape.experts, shape.routing.used) = (8, 2);
        let placement = Placement { card_layers: 1, layers: 3 };
        let traffic = Traffic::of(&sizes(&[8 * MB; 3]), &shape, placement);
        assert_eq!(traffic, Traffic { card_bytes: 102 * MB, host_bytes: 4 * MB });
        let even = Traffic { card_bytes: 1_000_000_000, host_bytes: 500_000_000 };
        assert_eq!(even.tokens_s(1000.0, 50.0), 1e9 / (1e6 + 1e7));
    }

    #[test]
    fn what_is_asked_is_read() {
        assert_eq!("auto".parse(), Ok(Asked::Auto));
        assert_eq!("0".parse(), Ok(Asked::Layers(0)));
        for text in ["", "all", "-1", "1.5"] {
            assert!(text.parse::<Asked>().is_err(), "{text}");
        }
        let refused = too_many(60, 48).message();
        assert!(refused.contains("60") && refused.contains("48 layers"), "{refused}");
    }
}
