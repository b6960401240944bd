//! Evidence: what a run measured, in a folder that can be judged again by whoever has it.
//!
//! ```text
//! DIR/manifest.json   where, when, of which model; the SHA-256 of every other file
//! DIR/ID.json         one contract: raw samples, the thresholds of that day, the verdict
//! ```
//! Judging again takes thresholds from the binary and samples from the folder, and refuses what is
//! missing, was changed since, or contradicts itself. That finds accidents and edits; somebody who
//! forges samples and sums alike is found by measuring again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use qwire_kernels::NUMBERS_VERSION;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::contract::{Contract, Pace, Samples, Threshold, judge};
use crate::commands::serve::loader::digits;
use crate::failure::Failure;

const MANIFEST: &str = "manifest.json";

/// How a contract fared.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    Fail,
    /// Nothing was shown, for or against.
    Skip,
}

/// What was measured of one contract.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub contract: String,
    pub status: Status,
    /// Why it was skipped, or why it failed before anything could be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub seconds: f64,
    pub thresholds: Vec<Threshold>,
    #[serde(with = "numbers")]
    pub samples: Samples,
}

/// Where, when, of what.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub date: String,
    pub qwire: String,
    pub build: String,
    pub numbers: u32,
    pub pace: Pace,
    pub machine: Machine,
    pub model: ModelFacts,
}

/// The machine.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub cpu: Option<String>,
    pub device: String,
    pub memory_bytes: Option<u64>,
    pub system: String,
}

/// The model.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    pub name: String,
    pub architecture: String,
    pub bytes: u64,
    /// Of each of its files.
    pub sha256: Vec<String>,
    pub kv: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    facts: Facts,
    /// Whether it has every contract of its pace.
    complete: bool,
    /// SHA-256 of each record's file.
    records: BTreeMap<String, String>,
}

impl Record {
    /// The verdict on what was measured; it follows from samples alone.
    pub fn judged(contract: &Contract, samples: Samples, seconds: f64) -> Self {
        let holds = judge(&contract.thresholds, &samples).iter().all(|reading| reading.holds);
        let status = if holds { Status::Pass } else { Status::Fail };
        Self::of(contract, status, None, (samples, seconds))
    }

    /// One without a verdict on samples.
    pub fn of(
        contract: &Contract,
        status: Status,
        reason: Option<String>,
        (samples, seconds): (Samples, f64),
    ) -> Self {
        let (id, thresholds) = (contract.id.clone(), contract.thresholds.clone());
        Self { contract: id, status, reason, seconds, thresholds, samples }
    }
}

/// Writes a folder.
pub fn write(
    folder: &Path,
    facts: &Facts,
    records: &[Record],
    complete: bool,
) -> Result<(), Failure> {
    let fault =
        |path: &Path, error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| fault(folder, error))?;
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| fault(&path, error))
    };
    let mut sums = BTreeMap::new();
    for record in records {
        let text = pretty(record)?;
        sums.insert(record.contract.clone(), digits(&Sha256::digest(&text)));
        put(&format!("{}.json", record.contract), text)?;
    }
    put(MANIFEST, pretty(&Manifest { facts: facts.clone(), complete, records: sums })?)
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
    Ok(text + "\n")
}

/// Reads a folder, and judges every record again.
pub fn read(folder: &Path, contracts: &[Contract]) -> Result<(Facts, Vec<Record>), Failure> {
    let refused = |name: &str, why: String| {
        let path = folder.join(name);
        Failure::new(format!("{}: the evidence is refused: {why}", path.display()))
    };
    let load = |name: &str| {
        fs::read_to_string(folder.join(name)).map_err(|error| refused(name, error.to_string()))
    };
    let manifest: Manifest = serde_json::from_str(&load(MANIFEST)?)
        .map_err(|error| refused(MANIFEST, error.to_string()))?;
    if manifest.facts.numbers != NUMBERS_VERSION {
        let theirs = manifest.facts.numbers;
        let why = format!("it is of numbers version {theirs}; this is version {NUMBERS_VERSION}");
        return Err(refused(MANIFEST, why));
    }
    let expected = contracts.iter().filter(|contract| contract.pace <= manifest.facts.pace);
    let missing = |contract: &&Contract| !manifest.records.contains_key(&contract.id);
    if let Some(contract) = expected.clone().find(missing).filter(|_| manifest.complete) {
        return Err(refused(MANIFEST, format!("it lacks the contract `{}`", contract.id)));
    }
    let mut records = Vec::new();
    for (id, sum) in &manifest.records {
        let name = format!("{id}.json");
        let text = load(&name)?;
        if digits(&Sha256::digest(&text)) != *sum {
            return Err(refused(&name, "it was changed after it was written".into()));
        }
        let record: Record =
            serde_json::from_str(&text).map_err(|error| refused(&name, error.to_string()))?;
        let Some(contract) = contracts.iter().find(|c| c.id == *id && record.contract == *id)
        else {
            return Err(refused(&name, format!("there is no contract `{id}`")));
        };
        record.recheck(contract).map_err(|why| refused(&name, why))?;
        records.push(record);
    }
    let place = |record: &Record| contracts.iter().position(|c| c.id == record.contract);
    records.sort_by_key(place);
    Ok((manifest.facts, records))
}

impl Record {
    /// Whether the record says what its samples say by today's thresholds.
    fn recheck(&self, contract: &Contract) -> Result<(), String> {
        if self.thresholds != contract.thresholds {
            return Err("the contract has other thresholds now; measure it again".into());
        }
        let measures = contract.measuring().measures;
        if let Some(name) = self.samples.keys().find(|name| !measures.contains(&name.as_str())) {
            return Err(format!("`{name}` is not measured by `{}`", contract.check));
        }
        let readings = judge(&contract.thresholds, &self.samples);
        let holds = readings.iter().all(|reading| reading.holds);
        match (self.status, &self.reason) {
            (Status::Skip, Some(_)) if self.samples.is_empty() => Ok(()),
            (Status::Fail, Some(_)) => Ok(()),
            (Status::Pass, None) if holds => Ok(()),
            (Status::Fail, None) if !holds => Ok(()),
            (Status::Pass, None) => {
                let broken = readings.iter().find(|reading| !reading.holds);
                let threshold = broken.map(|reading| reading.threshold.to_string());
                let threshold = threshold.unwrap_or_default();
                Err(format!("it says pass, and its samples do not hold `{threshold}`"))
            }
            (status, _) => Err(format!("it says {status:?}, and its samples say otherwise")),
        }
    }
}

/// Samples in JSON, where a number that is none is null.
mod numbers {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Samples;

    pub fn serialize<S: Serializer>(samples: &Samples, to: S) -> Result<S::Ok, S::Error> {
        let finite = |x: &f64| x.is_finite().then_some(*x);
        let rows = samples.iter().map(|(name, row)| (name, row.iter().map(finite).collect()));
        rows.collect::<BTreeMap<_, Vec<Option<f64>>>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Samples, D::Error> {
        let rows = BTreeMap::<String, Vec<Option<f64>>>::deserialize(from)?;
        let number = |x: Option<f64>| x.unwrap_or(f64::NAN);
        Ok(rows.into_iter().map(|(n, row)| (n, row.into_iter().map(number).collect())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::verify::contract;

    #[test]
    fn a_record_that_contradicts_its_samples_is_refused() {
        let contracts = contract::all().unwrap();
        let contract = contracts.iter().find(|c| c.id == "canary").unwrap();
        let samples = |differing: f64| {
            let rows = [("differing", vec![differing; 8]), ("not_finite", vec![0.0])];
            rows.map(|(name, row)| (name.to_string(), row)).into_iter().collect::<Samples>()
        };
        let good = Record::judged(contract, samples(0.0), 0.1);
        assert_eq!((good.status, good.recheck(contract)), (Status::Pass, Ok(())));
        let bad = Record::judged(contract, samples(3.0), 0.1);
        assert_eq!((bad.status, bad.recheck(contract)), (Status::Fail, Ok(())));
        let check = |change: &dyn Fn(&mut Record), words: &str| {
            let mut record = good.clone();
            change(&mut record);
            let fault = record.recheck(contract).unwrap_err();
            assert!(fault.contains(words), "{fault:?} lacks {words:?}");
        };
        check(&|r| r.samples = samples(1.0), "its samples do not hold `most differing = 0`");
        check(&|r| drop(r.samples.remove("differing")), "its samples do not hold");
        check(&|r| r.status = Status::Fail, "say otherwise");
        check(&|r| r.thresholds[0].exactly = Some(9.0), "other thresholds");
        check(&|r| drop(r.samples.insert("speed".into(), vec![])), "`speed` is not measured");
        check(&|r| r.status = Status::Skip, "say otherwise");
    }
}
