//! The campaign: a model opened once, and every contract measured on it, with its fault or without.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use qwire_kernels::NUMBERS_VERSION;
use qwire_model::synthetic;
use qwire_server::app::{date, now};
use qwire_text::Vocabulary;
use tracing_subscriber::fmt;

use super::VerifyArgs;
use super::check::Measured;
use super::contract::{Architecture, Contract, Pace, Place, Samples};
use super::evidence::{Facts, Machine, ModelFacts, Record, Status};
use super::faults::Fault;
use super::subject::Subject;
use crate::arguments::DeviceArgs;
use crate::backend::Device;
use crate::commands::bench::machine;
use crate::commands::inspect;
use crate::commands::loading::{Opened, boxed_bytes};
use crate::commands::serve::loader::identity;
use crate::config::Environment;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// A model under test.
pub struct Campaign<'a> {
    opened: &'a Opened,
    vocabulary: Arc<Vocabulary>,
    device: Device,
    machine: &'a DeviceArgs,
    environment: &'a Environment,
    interrupt: &'a Interrupt,
    pace: Pace,
    /// Whether each contract is broken on purpose.
    falsifies: bool,
    /// Whether this is the model in the binary, wherever it lies.
    boxed: bool,
    logits: Option<(PathBuf, Vec<u32>)>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl<'a> Campaign<'a> {
    /// Reads what every check needs of the model. From here on whatever is logged is kept.
    pub fn open(
        opened: &'a Opened,
        args: &'a VerifyArgs,
        (environment, interrupt): (&'a Environment, &'a Interrupt),
        logits: Option<(PathBuf, Vec<u32>)>,
    ) -> Result<Self, Failure> {
        let vocabulary = Vocabulary::from_gguf(opened.file.metadata());
        let vocabulary = vocabulary.map_err(|error| Failure::from(error).in_file(&opened.path))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        fmt::Subscriber::builder()
            .with_ansi(false)
            .with_writer(move || Lines(lines.clone()))
            .init();
        let in_box = boxed_bytes().map(qwire_gguf::File::from_bytes).transpose()?;
        let in_box = in_box.map(|file| identity(&file));
        Ok(Self {
            opened,
            vocabulary: Arc::new(vocabulary),
            device: args.device.cpu(environment, None)?,
            machine: &args.device,
            environment,
            interrupt,
            pace: args.pace(),
            falsifies: args.falsify,
            boxed: in_box.is_some_and(|in_box| in_box == identity(&opened.file)),
            logits,
            log,
        })
    }

    /// Measures a contract, and judges it.
    pub fn measure(&self, contract: &Contract, fault: Option<Fault>) -> Result<Record, Failure> {
        self.interrupt.check()?;
        if let Some(reason) = self.outside(contract) {
            let nothing = (Samples::new(), 0.0);
            return Ok(Record::of(contract, Status::Skip, Some(reason), nothing));
        }
        let subject = Subject {
            opened: self.opened,
            vocabulary: &self.vocabulary,
            device: &self.device,
            kv: self.machine.steps.kv(),
            packing: self.machine.steps.packing(),
            machine: self.machine,
            environment: self.environment,
            interrupt: self.interrupt,
            pace: self.pace.max(contract.pace),
            place: contract.backend,
            fault,
            logits: self.logits.clone(),
            log: self.log.clone(),
        };
        let (started, mut samples) = (Instant::now(), Samples::new());
        let measured = (contract.measuring().run)(&subject, &mut samples);
        let seconds = (started.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        match measured {
            Ok(Measured::Done) => Ok(Record::judged(contract, samples, seconds)),
            Ok(Measured::Skipped(reason)) => {
                let nothing = (Samples::new(), seconds);
                Ok(Record::of(contract, Status::Skip, Some(reason), nothing))
            }
            Err(failure) if failure.is_silent() => Err(failure),
            Err(failure) => {
                let reason = Some(failure.message());
                Ok(Record::of(contract, Status::Fail, reason, (samples, seconds)))
            }
        }
    }

    /// Why a contract is not about this model. A fault of speed shows in any shape.
    fn outside(&self, contract: &Contract) -> Option<String> {
        let shape = &self.opened.shape;
        match contract.architecture {
            Architecture::Mixture if !shape.routed => {
                return Some("for mixtures of experts".into());
            }
            Architecture::Dense if shape.routed => return Some("for dense models".into()),
            _ => {}
        }
        if contract.backend == Place::Gpu && Device::gpu().is_none() {
            return Some("no device".into());
        }
        if contract.model.is_some() && !self.boxed {
            return Some("for the model in the binary".into());
        }
        let name = contract.shape.as_ref().filter(|_| !self.falsifies)?;
        let preset = synthetic::shape(name)?;
        let experts =
            preset.experts.map_or((1, preset.ffn), |experts| (experts.count, experts.ffn));
        let ours = (shape.layers, shape.hidden, (shape.experts, shape.ffn));
        (ours != (preset.layers, preset.hidden, experts)).then(|| format!("for {name} alone"))
    }

    /// Where and of what, for evidence.
    pub fn facts(&self, pace: Pace) -> Result<Facts, Failure> {
        let Opened { file, shape, .. } = self.opened;
        let name = file.metadata().str("general.name").ok().flatten();
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        Ok(Facts {
            date: date(now()),
            qwire: env!("CARGO_PKG_VERSION").into(),
            build: build.into(),
            numbers: NUMBERS_VERSION,
            pace,
            machine: Machine {
                cpu: machine::cpu(),
                device: self.device.to_string(),
                memory_bytes: machine::memory_bytes(),
                system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            },
            model: ModelFacts {
                name: name.unwrap_or("unnamed").into(),
                architecture: shape.architecture.into(),
                bytes: file.len_bytes(),
                sha256: inspect::hashes(file, self.interrupt)?,
                kv: self.machine.steps.kv().name().into(),
            },
        })
    }
}

/// What the process logs, kept to be looked at.
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
