//! Talk: one person and one model. What `qwire run` and `qwire chat` have in common: flags, the
//! model behind them, and the one loop in which an answer comes.

mod answer;
mod chat;
mod prompt;
mod run;
mod sampling;
mod speaker;

use clap::Args;

use crate::arguments::{DeviceArgs, GuessArgs};
use crate::quantity::parse_bytes;
pub use chat::{ChatArgs, chat};
pub use run::{RunArgs, run};

/// How the model runs, and how it answers.
#[derive(Args)]
struct SpeakerArgs {
    #[command(flatten)]
    length: LengthArgs,
    #[command(flatten)]
    sampling: sampling::SamplingArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    guess: GuessArgs,
}

/// When an answer ends.
#[derive(Args)]
#[command(next_help_heading = "Length")]
struct LengthArgs {
    /// Most tokens to generate [default: until the context is full]
    #[arg(short = 'n', long, value_name = "N")]
    max_tokens: Option<usize>,
    /// End before this text appears; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

/// How much is kept in memory.
#[derive(Args)]
#[command(next_help_heading = "Memory")]
struct MemoryArgs {
    /// Tokens of prompt and answer together [default: the model's, or what fits in memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Memory for keys and values, such as 512M or 2G [default: what the context needs]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    kv_memory: Option<u64>,
    /// Try it even if it does not seem to fit
    #[arg(long)]
    no_memory_check: bool,
}
