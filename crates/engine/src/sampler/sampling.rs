//! What a request may ask of the sampler: plain numbers, their neutral values and their ranges.
//!
//! Every field has one meaning here and every path that fills it ends here. Nothing is clamped
//! in silence: a number out of range is refused by name.

use super::dry::Dry;

/// The parameters of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the scores before the draw; 0 takes the best token.
    pub temperature: f32,
    /// Keeps the best k tokens; 0 is off, 1 takes the best token.
    pub top_k: u32,
    /// Keeps the most probable tokens that together reach this mass; 1 is off.
    pub top_p: f32,
    /// Keeps the tokens at least this probable relative to the best; 0 is off.
    pub min_p: f32,
    /// Keeps the tokens of most typical surprise that together reach this mass; 1 is off.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens in the window; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from each token in the window; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted from a token for each of its occurrences in the window; 0 is off.
    pub frequency_penalty: f32,
    /// How many of the last tokens the three penalties see; `u32::MAX` is all, 0 none.
    pub penalty_window: u32,
    /// The penalty on continuing a repetition.
    pub dry: Dry,
    /// Added to the logits of these tokens, in order; −∞ bans a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// The key of the random numbers; same seed, same tokens.
    pub seed: u64,
    /// Which of several answers under one seed; a single one is 0.
    pub choice: u32,
}

/// The best token, nothing else: temperature 0 and each step neutral. The windows are unlimited,
/// so that a penalty asked for without a window acts on the whole sequence.
impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: u32::MAX,
            dry: Dry::default(),
            logit_bias: Vec::new(),
            seed: 0,
            choice: 0,
        }
    }
}

impl Sampling {
    /// The default with the recommendations of a model's file, looked up by their metadata keys.
    ///
    /// As in llama.cpp, `top_k ≤ 0` is off and `penalty_last_n < 0` is unlimited.
    pub fn with_defaults(lookup: impl Fn(&str) -> Option<f64>) -> Self {
        let float = |key, neutral| lookup(key).map_or(neutral, |value| value as f32);
        let neutral = Self::default();
        Self {
            temperature: float("general.sampling.temp", neutral.temperature),
            top_k: lookup("general.sampling.top_k").map_or(neutral.top_k, |k| k as u32),
            top_p: float("general.sampling.top_p", neutral.top_p),
            min_p: float("general.sampling.min_p", neutral.min_p),
            repetition_penalty: float(
                "general.sampling.penalty_repeat",
                neutral.repetition_penalty,
            ),
            penalty_window: lookup("general.sampling.penalty_last_n")
                .map_or(neutral.penalty_window, |n| if n < 0.0 { u32::MAX } else { n as u32 }),
            ..neutral
        }
    }

    /// Whether the best token is taken without a draw.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    /// Refuses a number out of its range, naming the field, what was found and what is accepted.
    pub fn validate(&self) -> Result<(), String> {
        let any = f32::MIN..=f32::MAX;
        let from_zero = 0.0..=f32::MAX;
        let fields = [
            ("temperature", self.temperature, &from_zero),
            ("top_p", self.top_p, &(0.0..=1.0)),
            ("min_p", self.min_p, &(0.0..=1.0)),
            ("typical_p", self.typical_p, &(0.0..=1.0)),
            ("repetition_penalty", self.repetition_penalty, &(f32::MIN_POSITIVE..=f32::MAX)),
            ("presence_penalty", self.presence_penalty, &any),
            ("frequency_penalty", self.frequency_penalty, &any),
            ("dry.multiplier", self.dry.multiplier, &from_zero),
            ("dry.base", self.dry.base, &(1.0..=f32::MAX)),
        ];
        for (name, found, accepted) in fields {
            // NaN is in no range.
            if !accepted.contains(&found) {
                let accepted = describe(*accepted.start(), *accepted.end());
                return Err(format!("{name} is {found}: accepted is {accepted}"));
            }
        }
        if let Some(at) = self.dry.breakers.iter().position(Vec::is_empty) {
            return Err(format!("dry.breakers[{at}] is empty: accepted is at least one token"));
        }
        for (token, bias) in &self.logit_bias {
            if bias.is_nan() || *bias == f32::INFINITY {
                return Err(format!(
                    "logit_bias of token {token} is {bias}: accepted is a finite number, or -inf"
                ));
            }
        }
        Ok(())
    }

    /// The same for a vocabulary: refuses tokens that are not in it too.
    pub fn validate_for(&self, vocab: usize) -> Result<(), String> {
        self.validate()?;
        if let Some((token, _)) = self.logit_bias.iter().find(|b| b.0 as usize >= vocab) {
            return Err(format!("logit_bias names token {token}: accepted is below {vocab}"));
        }
        Ok(())
    }
}

fn describe(start: f32, end: f32) -> String {
    match (start, end) {
        (f32::MIN, f32::MAX) => "a finite number".into(),
        (f32::MIN_POSITIVE, f32::MAX) => "a finite number above 0".into(),
        (start, f32::MAX) => format!("a finite number from {start}"),
        (start, end) => format!("a number from {start} to {end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_greedy() {
        assert_eq!(Sampling::default().validate(), Ok(()));
        assert!(Sampling::default().is_greedy());
    }

    #[test]
    fn greedy_is_temperature_0_or_top_k_1() {
        let check = |temperature, top_k, expected| {
            let sampling = Sampling { temperature, top_k, ..Sampling::default() };
            assert_eq!(sampling.is_greedy(), expected, "temperature {temperature}, top_k {top_k}");
        };
        check(0.0, 0, true);
        check(0.0, 40, true);
        check(1.0, 1, true);
        check(1.0, 0, false);
        check(1.0, 2, false);
        check(f32::MIN_POSITIVE, 0, false);
    }

    #[test]
    fn each_field_is_refused_by_name() {
        type Change = fn(&mut Sampling, f32);
        let fields: [(&str, Change, &[f32]); 9] = [
            ("temperature", |s, x| s.temperature = x, &[-0.1]),
            ("top_p", |s, x| s.top_p = x, &[-0.1, 1.1]),
            ("min_p", |s, x| s.min_p = x, &[-0.1, 1.1]),
            ("typical_p", |s, x| s.typical_p = x, &[-0.1, 1.1]),
            ("repetition_penalty", |s, x| s.repetition_penalty = x, &[0.0, -1.0]),
            ("presence_penalty", |s, x| s.presence_penalty = x, &[f32::NEG_INFINITY]),
            ("frequency_penalty", |s, x| s.frequency_penalty = x, &[f32::NEG_INFINITY]),
            ("dry.multiplier", |s, x| s.dry.multiplier = x, &[-1.0]),
            ("dry.base", |s, x| s.dry.base = x, &[0.5]),
        ];
        for (name, change, bad) in fields {
            for &found in bad.iter().chain(&[f32::NAN, f32::INFINITY]) {
                let mut sampling = Sampling::default();
                change(&mut sampling, found);
                let error = sampling.validate().expect_err(name);
                let expected = format!("{name} is {found}: accepted is ");
                assert!(error.starts_with(&expected), "{error}");
            }
        }
    }

    #[test]
    fn biases_and_breakers_are_checked() {
        let with = |bias| Sampling { logit_bias: vec![(3, bias)], ..Sampling::default() };
        assert!(with(f32::NAN).validate().unwrap_err().starts_with("logit_bias of token 3 is NaN"));
        assert!(with(f32::INFINITY).validate().is_err());
        assert!(with(f32::NEG_INFINITY).validate().is_ok());
        let mut sampling = Sampling::default();
        sampling.dry.breakers = vec![vec![1], vec![]];
        assert!(sampling.validate().unwrap_err().starts_with("dry.breakers[1] is empty"));
    }

    #[test]
    fn a_file_recommends() {
        let table = [("temp", 0.7), ("top_k", 20.0), ("top_p", 0.8), ("penalty_repeat", 1.05)];
        let lookup = |key: &str| {
            let key = key.strip_prefix("general.sampling.")?;
            table.iter().find(|row| row.0 == key).map(|row| row.1)
        };
        let expected = Sampling {
            temperature: 0.7,
            top_k: 20,
            top_p: 0.8,
            repetition_penalty: 1.05,
            ..Sampling::default()
        };
        assert_eq!(Sampling::with_defaults(lookup), expected);
        assert_eq!(Sampling::with_defaults(|_| None), Sampling::default());
        let negative = Sampling::with_defaults(|_| Some(-1.0));
        assert_eq!((negative.top_k, negative.penalty_window), (0, u32::MAX));
        assert!(negative.validate().is_err());
    }
}
