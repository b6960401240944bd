//! Arguments that several commands share, and how their values are read.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use clap::{Args, ValueEnum};
use qwire_engine::MOST_GUESSES;
use qwire_kernels::Isa;
use qwire_model::{KvType, Shape};

use crate::backend::{Choice, Device, Found};
use crate::commands::loading::Opened;
use crate::commands::loading::placement::{self, Asked};
use crate::commands::loading::sidecar::Packing;
use crate::config::Environment;
use crate::failure::Failure;
use crate::memory;

/// Where and how the model runs. No choice here but `--device`, `--gpu-expert-layers` and
/// `--kv-type` changes a single bit of the result.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct DeviceArgs {
    #[command(flatten)]
    card: CardArgs,
    /// Worker threads [default: the CPUs this process may use, or QWIRE_THREADS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    pub steps: StepArgs,
}

/// What computes, and how a model is divided between a card and the CPU.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct CardArgs {
    /// What computes: cpu, cuda:0 for the first NVIDIA card, auto for such a card where there is
    /// one, or wgpu for Vulkan, Metal or DirectX 12, in binaries that were built with it. Cards
    /// are new: qwire was never measured on one
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: Choice,
    /// Layers whose experts lie on the card, from the first on; the CPU computes those of the
    /// others. auto takes as many as fit in what the card has free [default: auto]
    #[arg(long, value_name = "N")]
    gpu_expert_layers: Option<Asked>,
}

/// How a step is computed, on any number of threads.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct StepArgs {
    /// Instruction set: auto, scalar, avx2, avx-vnni or avx512 [default: auto, or QWIRE_ISA]
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Tokens of a prompt computed in one step [default: 512 to 2,048, as many as 180 MB hold; in
    /// `serve` 512 while others wait]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    chunk: Option<u32>,
    /// Storage of keys and values: f32 keeps every bit in twice the memory of f16, i8 takes 0.56 to
    /// 0.75 of it, by the size of heads, and changes answers
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv_type: KvArg,
    /// Packed weights kept on disk (`qwire pack`), for what the CPU computes: auto takes them where
    /// they are and renews them where the disk has room, never takes none, always makes them first
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pack: Packing,
}

/// How answers are sped up.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct GuessArgs {
    /// Most tokens that are guessed from the text so far and checked in one step, while one answer
    /// is alone and it pays; 0 for none. The answer is the same
    #[arg(long, value_name = "N", default_value_t = MOST_GUESSES as u8)]
    #[arg(value_parser = clap::value_parser!(u8).range(..=MOST_GUESSES as i64))]
    guesses: u8,
}

impl GuessArgs {
    /// Most guesses of a step.
    pub fn most(&self) -> usize {
        self.guesses.into()
    }
}

/// [`KvType`] on the command line; documented at its flag, which keeps the help in two columns.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum KvArg {
    F16,
    F32,
    I8,
}

impl KvArg {
    /// What it stands for.
    pub fn kind(self) -> KvType {
        match self {
            Self::F16 => KvType::F16,
            Self::F32 => KvType::F32,
            Self::I8 => KvType::I8,
        }
    }
}

impl DeviceArgs {
    /// The device as it shall be used. One that was asked for and is not there is a failure.
    pub fn device(&self, environment: &Environment) -> Result<Device, Failure> {
        match self.card.find()? {
            Found::Beside(device) => Ok(device),
            Found::Cpu(note) => self.cpu(environment, note),
        }
    }

    /// The CPU as it shall be used, whatever device was asked for.
    pub fn cpu(&self, environment: &Environment, note: Option<String>) -> Result<Device, Failure> {
        self.card.allow_cpu(note.as_deref())?;
        let (threads, isa) = self.host(environment)?;
        Ok(Device::Cpu { threads, isa, note })
    }

    fn host(&self, environment: &Environment) -> Result<(usize, Isa), Failure> {
        let threads = self.threads.map_or_else(|| default_threads(environment), usize::from);
        Ok((threads, self.steps.isa(environment)?))
    }

    /// A card with as much of the model as was asked for, or as fits beside a cache of this size.
    pub fn place(
        &self,
        device: Device,
        opened: &Opened,
        cache_bytes: u64,
        environment: &Environment,
    ) -> Result<Device, Failure> {
        self.card.place(device, || self.host(environment), opened, cache_bytes)
    }

    /// Where nobody says it, the experts of the last so many layers are the CPU's.
    #[must_use]
    pub fn or_host_layers(self, host_layers: usize, layers: usize) -> Self {
        let known = !matches!(self.card.device, Choice::Cpu | Choice::Auto);
        let recorded =
            (known && host_layers > 0).then(|| Asked::Layers(layers.saturating_sub(host_layers)));
        let gpu_expert_layers = self.card.gpu_expert_layers.or(recorded);
        Self { card: CardArgs { gpu_expert_layers, ..self.card }, ..self }
    }
}

impl CardArgs {
    /// Looks for the device. One that was asked for and is not there is a failure.
    pub fn find(&self) -> Result<Found, Failure> {
        self.device.find()
    }

    /// Refuses the CPU alone, which is used for this reason, where experts were put on a card.
    pub fn allow_cpu(&self, why: Option<&str>) -> Result<(), Failure> {
        let asked = self.gpu_expert_layers;
        if asked.is_none() || (self.device == Choice::Auto && asked == Some(Asked::Auto)) {
            return Ok(());
        }
        let why = why.unwrap_or("--device cpu has none");
        let fault = format!("--gpu-expert-layers puts experts on a card: {why}");
        let hint = "name a card, such as --device cuda:0, or leave --gpu-expert-layers out";
        Err(Failure::usage(fault).hint(hint))
    }

    /// A card with as much of the model as was asked for, or as fits beside a cache of this size.
    pub fn place(
        &self,
        device: Device,
        host: impl FnOnce() -> Result<(usize, Isa), Failure>,
        opened: &Opened,
        cache_bytes: u64,
    ) -> Result<Device, Failure> {
        placement::place(device, host, self.gpu_expert_layers, opened, cache_bytes)
    }
}

/// Worker threads where nobody says how many.
pub fn default_threads(environment: &Environment) -> usize {
    let free = || std::thread::available_parallelism().map_or(1, usize::from);
    environment.threads.unwrap_or_else(free)
}

impl StepArgs {
    /// The instruction set; the error names those of this CPU.
    pub fn isa(&self, environment: &Environment) -> Result<Isa, Failure> {
        let name = self.isa.as_deref().or(environment.isa.as_deref()).unwrap_or("auto");
        Isa::named(name).map_err(Failure::new)
    }

    /// What becomes of sidecars.
    pub fn packing(&self) -> Packing {
        self.pack
    }

    /// Rows of a step, where anybody says.
    pub fn asked_chunk(&self) -> Option<usize> {
        self.chunk.map(|chunk| chunk as usize)
    }

    /// Rows of a step of a prompt that is read alone.
    pub fn chunk(&self, shape: &Shape) -> usize {
        self.asked_chunk().unwrap_or_else(|| memory::quickest_rows(shape))
    }

    /// Storage of keys and values.
    pub fn kv(&self) -> KvType {
        self.kv_type.kind()
    }
}

/// Reads ids separated by commas, blanks or newlines, in brackets or not.
pub fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    let text = text.trim();
    let inner = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or("the list starts with `[` and has no `]`")?,
        None => text,
    };
    let words = inner.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
    let id = |(at, word): (usize, &str)| {
        let shown: String = word.chars().take(20).collect();
        word.parse().map_err(|_| format!("item {} of the list is `{shown}`, not an id", at + 1))
    };
    words.enumerate().map(id).collect()
}

/// All bytes of a file, or of stdin where it is called `-`.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") {
        return read_stdin();
    }
    fs::read(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file".into(),
            io::ErrorKind::IsADirectory => "is a directory".into(),
            _ => error.to_string(),
        };
        Failure::new(format!("{}: {why}", path.display()))
    })
}

/// All bytes of stdin.
pub fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(format!("cannot read stdin: {error}")))?;
    Ok(bytes)
}

/// Whether something was piped into stdin.
pub fn is_piped() -> bool {
    !io::stdin().is_terminal()
}

/// Bytes as text; the error says where they are none.
pub fn utf8(bytes: Vec<u8>, source: &str) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("{source} is not UTF-8 text: byte {at} starts no character"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_every_spelling() {
        for text in ["1,2,3", "1 2 3", "[1, 2, 3]", " 1\n2,\t3 \n", "[1\n2 3,]"] {
            assert_eq!(parse_ids(text), Ok(vec![1, 2, 3]), "{text}");
        }
        assert_eq!(parse_ids("[]"), Ok(vec![]));
        for (text, words) in [
            ("[1, 2", "no `]`"),
            ("1;2", "item 1 of the list is `1;2`"),
            ("1 -2", "item 2 of the list is `-2`"),
            ("4294967296", "not an id"),
        ] {
            let fault = parse_ids(text).unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
    }

    #[test]
    fn text_that_is_none_is_refused_with_its_place() {
        let fault = utf8(b"ab\xff".to_vec(), "stdin").unwrap_err().message();
        assert_eq!(fault, "stdin is not UTF-8 text: byte 2 starts no character");
    }
}
