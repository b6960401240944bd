//! A contract: one promise in a file of `contracts/`, and whether numbers keep it.
//!
//! ```toml
//! id = "kv-cache"                # also the file's name
//! claim = "One sentence."
//! architecture = "any"           # any, mixture, dense
//! backend = "cpu"                # cpu, gpu
//! model = "box"                  # or shape = "NAME", where it is about one model alone
//! pace = "quick"                 # start, quick, usual, full: the shortest run that measures it
//! check = "cached"               # what measures it, by its name in check/mod.rs
//! falsifier = "lost-write"       # the fault that must break it, by its name in faults.rs
//!
//! [[threshold]]
//! measure = "differing"          # one of the check's
//! statistic = "most"             # least, most, mean, median, count, distinct
//! exactly = 0                    # or at_least, or at_most; beside it `aim`, which nothing fails
//! ```
//! No file says whether a contract holds: that follows from samples, here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::check::{self, Check};
use super::faults::Fault;

/// Raw numbers, by the name of what was measured.
pub type Samples = BTreeMap<String, Vec<f64>>;

/// Every contract, by the name of its file.
macro_rules! files {
    ($($name:literal)+) => {
        &[$(($name, include_str!(concat!("../../../../../contracts/", $name, ".toml")))),+]
    };
}

const FILES: &[(&str, &str)] = files! {
    "kernels" "tensors" "canary" "golden"
    "kv-cache" "rollback" "fork" "first-token" "cache-full" "cache-speedup"
    "router-sum" "finite" "forward" "transformers" "determinism" "determinism-i8"
    "greedy" "seeds" "guesses" "penalties" "tokenizer" "template"
    "serve-dispatch" "serve-end" "streaming"
    "malformed" "memory" "device" "decode-speed"
    "gpu-forward" "gpu-cpu" "gpu-repeat" "gpu-device" "gpu-speed" "gpu-memory"
};

/// A promise.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    pub id: String,
    pub claim: String,
    pub architecture: Architecture,
    pub backend: Place,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub shape: Option<String>,
    pub pace: Pace,
    pub check: String,
    pub falsifier: String,
    #[serde(rename = "threshold")]
    pub thresholds: Vec<Threshold>,
}

/// The models that a contract is about.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    Any,
    Mixture,
    Dense,
}

/// The devices.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Cpu,
    Gpu,
}

/// How long a run may take: each has the contracts of those before it.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    Start,
    Quick,
    Usual,
    Full,
}

/// What must be true of one measure.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    pub measure: String,
    pub statistic: Statistic,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exactly: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<f64>,
}

/// What becomes of the samples.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    Least,
    Most,
    Mean,
    Median,
    /// How many samples there are.
    Count,
    /// How many differ from each other.
    Distinct,
}

/// A threshold beside what was found.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    pub threshold: &'a Threshold,
    pub value: f64,
    pub holds: bool,
}

/// The contracts, in the order in which they are run. The error names the file.
pub fn all() -> Result<Vec<Contract>, String> {
    let mut ids = BTreeSet::new();
    let read = |(name, text): &(&str, &str)| {
        let contract = Contract::read(text).map_err(|why| format!("contracts/{name}.toml: {why}"));
        let contract = contract?;
        if contract.id != *name || !ids.insert(contract.id.clone()) {
            let id = &contract.id;
            return Err(format!("contracts/{name}.toml: its id is `{id}`; accepted: `{name}`"));
        }
        Ok(contract)
    };
    FILES.iter().map(read).collect()
}

impl Contract {
    /// Reads a file, and proves that every name in it means something.
    pub fn read(text: &str) -> Result<Self, String> {
        let contract: Self = toml::from_str(text).map_err(|error| error.message().to_string())?;
        let Some(check) = Check::named(&contract.check) else {
            let known: Vec<_> = check::CHECKS.iter().map(|check| check.name).collect();
            let name = &contract.check;
            return Err(format!("check `{name}` is unknown; accepted: {}", known.join(", ")));
        };
        if Fault::named(&contract.falsifier).is_none() {
            let (name, known) = (&contract.falsifier, Fault::names().join(", "));
            return Err(format!("falsifier `{name}` is unknown; accepted: {known}"));
        }
        if contract.thresholds.is_empty() {
            return Err("it has no threshold, so that nothing could break it".into());
        }
        for threshold in &contract.thresholds {
            let name = &threshold.measure;
            if !check.measures.contains(&name.as_str()) {
                let (check, known) = (check.name, check.measures.join(", "));
                return Err(format!("check `{check}` does not measure `{name}`; it does: {known}"));
            }
            let bounds = [threshold.at_least, threshold.at_most, threshold.exactly];
            if bounds.iter().flatten().count() != 1 {
                let fault = "has not one of at_least, at_most and exactly";
                return Err(format!("the threshold of `{name}` {fault}"));
            }
        }
        Ok(contract)
    }

    /// What measures it.
    pub fn measuring(&self) -> &'static Check {
        Check::named(&self.check).expect("its name was checked")
    }

    /// What must break it.
    pub fn fault(&self) -> Fault {
        Fault::named(&self.falsifier).expect("its name was checked")
    }
}

/// The only judge: every threshold beside its measure. What was not measured holds nothing.
pub fn judge<'a>(thresholds: &'a [Threshold], samples: &Samples) -> Vec<Reading<'a>> {
    let read = |threshold: &'a Threshold| {
        let found = samples.get(&threshold.measure).map_or(&[][..], Vec::as_slice);
        let value = threshold.statistic.of(found);
        // No comparison holds for NaN.
        let holds = threshold.at_least.is_none_or(|bound| value >= bound)
            && threshold.at_most.is_none_or(|bound| value <= bound)
            && threshold.exactly.is_none_or(|bound| value == bound);
        Reading { threshold, value, holds }
    };
    thresholds.iter().map(read).collect()
}

impl Statistic {
    fn of(self, samples: &[f64]) -> f64 {
        if self == Self::Count {
            return samples.len() as f64;
        }
        if samples.is_empty() || samples.iter().any(|sample| sample.is_nan()) {
            return f64::NAN;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        match self {
            Self::Least => sorted[0],
            Self::Most => sorted[sorted.len() - 1],
            Self::Mean => sorted.iter().sum::<f64>() / sorted.len() as f64,
            Self::Median if sorted.len() % 2 == 1 => sorted[half],
            Self::Median => f64::midpoint(sorted[half - 1], sorted[half]),
            Self::Distinct => {
                sorted.dedup();
                sorted.len() as f64
            }
            Self::Count => unreachable!("it was counted"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Least => "least",
            Self::Most => "most",
            Self::Mean => "mean",
            Self::Median => "median",
            Self::Count => "number of",
            Self::Distinct => "distinct",
        }
    }
}

/// The bound in words, such as `least cosine ≥ 0.99, aim 0.999`.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.statistic.name(), self.measure.replace('_', " "))?;
        for (sign, bound) in [("≥", self.at_least), ("≤", self.at_most), ("=", self.exactly)] {
            if let Some(bound) = bound {
                write!(f, " {sign} {}", shown(bound))?;
            }
        }
        self.aim.map_or(Ok(()), |aim| write!(f, ", aim {}", shown(aim)))
    }
}

/// A number as people read it.
pub fn shown(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "not measured".into(),
        size if value.fract() == 0.0 && size < 1e16 => format!("{value:.0}"),
        size if (1e-3..1e6).contains(&size) => {
            // What is close to 1 from below shall not look like 1.
            let digits = if (0.99..1.0).contains(&size) { 8 } else { 4 };
            let text = format!("{value:.digits$}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts")
    }

    #[test]
    fn every_file_is_in_the_binary_and_means_something() {
        let contracts = all().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder())
            .expect("the folder is there")
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".toml").map(str::to_string))
            .collect();
        let mut known: Vec<String> = contracts.iter().map(|c| c.id.clone()).collect();
        names.sort();
        known.sort();
        assert_eq!(names, known);
        let used: BTreeSet<_> = contracts.iter().map(|c| c.check.as_str()).collect();
        let checks: BTreeSet<_> = check::CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(used, checks, "every check serves a contract");
        let used: BTreeSet<_> = contracts.iter().map(|c| c.falsifier.as_str()).collect();
        assert_eq!(used, Fault::names().into_iter().collect(), "and every fault");
    }

    #[test]
    fn names_that_mean_nothing_are_refused() {
        let good = fs::read_to_string(folder().join("forward.toml")).unwrap();
        assert!(Contract::read(&good).is_ok());
        for (from, to, words) in [
            ("check = \"reference\"", "check = \"oracle\"", "check `oracle` is unknown"),
            ("falsifier = \"", "falsifier = \"x", "is unknown; accepted: "),
            ("measure = \"cosine\"", "measure = \"cosines\"", "does not measure `cosines`"),
            ("at_least = 0.99", "aim = 1", "duplicate key"),
            ("statistic = \"least\"", "statistic = \"best\"", "unknown variant"),
            ("claim = ", "status = \"pass\"\nclaim = ", "unknown field `status`"),
        ] {
            assert!(good.contains(from), "{from}");
            let fault = Contract::read(&good.replace(from, to)).unwrap_err();
            assert!(fault.contains(words), "{fault:?} lacks {words:?}");
        }
        let none = good.split("[[threshold]]").next().unwrap();
        assert!(Contract::read(none).is_err());
    }

    #[test]
    fn samples_are_judged() {
        let judged = |statistic, at_least, at_most, samples: &[f64]| {
            let measure = "m".to_string();
            let (exactly, aim) = (None, None);
            let threshold = Threshold { measure, statistic, at_least, at_most, exactly, aim };
            let samples = BTreeMap::from([("m".into(), samples.to_vec())]);
            judge(&[threshold], &samples)[0].holds
        };
        assert!(judged(Statistic::Least, Some(1.0), None, &[1.0, 2.0]));
        assert!(!judged(Statistic::Least, Some(1.0), None, &[0.9, 2.0]));
        assert!(!judged(Statistic::Most, None, Some(1.0), &[0.0, f64::NAN]));
        assert!(!judged(Statistic::Most, None, Some(1.0), &[]));
        assert!(judged(Statistic::Median, Some(2.0), None, &[1.0, 2.0, 9.0]));
        assert!(judged(Statistic::Mean, None, Some(4.0), &[1.0, 2.0, 9.0]));
        assert!(judged(Statistic::Count, Some(3.0), None, &[0.0; 3]));
        assert!(!judged(Statistic::Distinct, None, Some(1.0), &[5.0, 5.0, 6.0]));
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        for (value, text) in [
            (0.0, "0"),
            (64.0, "64"),
            (0.9999999, "0.9999999"),
            (12.34567, "12.3457"),
            (1.5e-7, "1.50e-7"),
            (f64::NAN, "not measured"),
        ] {
            assert_eq!(shown(value), text);
        }
    }
}
