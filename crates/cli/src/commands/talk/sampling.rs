//! Sampling flags: what the user says, else what the model's file or Qwen recommends.

use std::hash::{BuildHasher, RandomState};

use clap::Args;
use qwire_engine::Sampling;
use qwire_gguf::Metadata;
use qwire_text::{Special, Vocabulary};

use crate::commands::recommended;
use crate::failure::Failure;

/// Texts over which no repetition reaches, as DRY's inventor proposes them.
const DRY_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// How tokens are chosen. What is absent comes from the model's file where it says so, else from
/// Qwen.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Sampling", allow_negative_numbers = true)]
pub struct SamplingArgs {
    /// Randomness; 0 always takes the best token
    #[arg(long, visible_alias = "temperature", value_name = "T")]
    temp: Option<f32>,
    /// Choose among the best K tokens; 0 is off
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Choose among the best tokens that reach this probability together; 1 is off
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Drop tokens less probable than P times the best; 0 is off
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Choose among the most typical tokens that reach this probability; 1 is off
    #[arg(long, value_name = "P")]
    typical: Option<f32>,
    /// Divide the scores of tokens that occurred; 1 is off
    #[arg(long, value_name = "R")]
    repeat_penalty: Option<f32>,
    /// Subtract from the scores of tokens that occurred; 0 is off
    #[arg(long, value_name = "R")]
    presence_penalty: Option<f32>,
    /// Subtract for each occurrence; 0 is off
    #[arg(long, value_name = "R")]
    frequency_penalty: Option<f32>,
    /// How many of the last tokens the three penalties see [default: all]
    #[arg(long, value_name = "N")]
    penalty_window: Option<u32>,
    /// Penalise continuing a repetition (DRY); 0 is off
    #[arg(long, value_name = "R")]
    dry_multiplier: Option<f32>,
    /// How DRY's penalty grows with each token of a repetition [default: 1.75]
    #[arg(long, value_name = "R")]
    dry_base: Option<f32>,
    /// The longest repetition that DRY allows [default: 2]
    #[arg(long, value_name = "N")]
    dry_allowed_length: Option<u32>,
    /// Add B to the score of a token; -inf bans it; may be repeated
    #[arg(long, value_name = "ID=B", value_parser = parse_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same tokens [default: drawn, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// Every number the sampler needs, each in its range.
    pub fn resolve(
        &self,
        metadata: &Metadata,
        vocabulary: &Vocabulary,
    ) -> Result<Sampling, Failure> {
        let mut sampling = recommended(metadata);
        set(&mut sampling.temperature, self.temp);
        set(&mut sampling.top_k, self.top_k);
        set(&mut sampling.top_p, self.top_p);
        set(&mut sampling.min_p, self.min_p);
        set(&mut sampling.typical_p, self.typical);
        set(&mut sampling.repetition_penalty, self.repeat_penalty);
        set(&mut sampling.presence_penalty, self.presence_penalty);
        set(&mut sampling.frequency_penalty, self.frequency_penalty);
        set(&mut sampling.penalty_window, self.penalty_window);
        set(&mut sampling.dry.multiplier, self.dry_multiplier);
        set(&mut sampling.dry.base, self.dry_base);
        set(&mut sampling.dry.allowed_length, self.dry_allowed_length);
        if sampling.dry.is_on() {
            let breakers = DRY_BREAKERS.map(|text| vocabulary.encode(text, Special::AsText));
            sampling.dry.breakers = breakers.into();
        }
        sampling.logit_bias.clone_from(&self.logit_bias);
        sampling.seed = match self.seed {
            Some(seed) => seed,
            None if sampling.is_greedy() => 0,
            None => drawn(),
        };
        sampling.validate().map_err(Failure::usage)?;
        Ok(sampling)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// A seed from the system's randomness, short enough to type again.
fn drawn() -> u64 {
    RandomState::new().hash_one(0) >> 32
}

fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let (id, bias) = text.split_once('=').ok_or("accepted: ID=B, such as 9707=-2.5")?;
    let id = id.parse().map_err(|_| format!("`{id}` is no token id"))?;
    let bias = bias.parse().map_err(|_| format!("`{bias}` is no number"))?;
    Ok((id, bias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_are_read() {
        assert_eq!(parse_bias("5=-2.5"), Ok((5, -2.5)));
        assert_eq!(parse_bias("5=-inf"), Ok((5, f32::NEG_INFINITY)));
        for wrong in ["5", "-1=2", "x=1", "5=y"] {
            assert!(parse_bias(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds_differ_and_are_short() {
        let seeds: Vec<u64> = (0..4).map(|_| drawn()).collect();
        assert!(seeds.iter().all(|seed| u32::try_from(*seed).is_ok()));
        assert!(seeds.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
