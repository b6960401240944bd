//! The subject: the model that contracts are about, and devices that run it, watched or broken
//! where a check wants it so.

use std::sync::{Arc, Mutex};

use qwire_engine::{Delivery, Engine, Event, Finish, Pages, Request, RequestId, Settings, Table};
use qwire_model::backend::LOGIT_ROWS;
use qwire_model::{Batch, KvType, Limits, Phase, Runner, Shape, TokenId, Witness};
use qwire_text::{Special, Vocabulary};
use sha2::{Digest, Sha256};

use super::contract::{Pace, Place};
use super::faults::Fault;
use crate::arguments::DeviceArgs;
use crate::backend::{Device, Ready};
use crate::commands::loading::sidecar::Packing;
use crate::commands::loading::{Manner, Opened};
use crate::config::Environment;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// What every model reads: prose, code, numbers, several scripts. Changing it changes `golden`.
const TEXT: &str = include_str!("../../../../../contracts/text.txt");

/// Files beyond this size are not loaded more often than needed.
const LARGE_BYTES: u64 = 1 << 30;

/// The model under test, and how it is tested.
pub struct Subject<'a> {
    pub opened: &'a Opened,
    pub vocabulary: &'a Arc<Vocabulary>,
    /// The CPU as it shall be used.
    pub device: &'a Device,
    pub kv: KvType,
    pub packing: Packing,
    /// The same as options.
    pub machine: &'a DeviceArgs,
    pub environment: &'a Environment,
    pub interrupt: &'a Interrupt,
    pub pace: Pace,
    /// Which device the contract at hand is about.
    pub place: Place,
    /// What is broken on purpose.
    pub fault: Option<Fault>,
    /// Logits from elsewhere, and their tokens.
    pub logits: Option<(std::path::PathBuf, Vec<u32>)>,
    /// What the process has logged.
    pub log: Arc<Mutex<Vec<u8>>>,
}

/// What a device shall be ready for.
#[derive(Clone, Copy)]
pub struct Size {
    /// Rows of the longest step.
    pub rows: usize,
    /// Positions of all sequences together.
    pub positions: usize,
}

impl Subject<'_> {
    /// Whether loading it takes a while.
    pub fn is_large(&self) -> bool {
        self.opened.file.len_bytes() > LARGE_BYTES
    }

    /// Whether nobody trained it.
    pub fn is_synthetic(&self) -> bool {
        let name = self.opened.file.metadata().str("general.name");
        name.is_ok_and(|name| name.is_some_and(|name| name.starts_with("Synthetic ")))
    }

    /// Whether the fault at hand is this one.
    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// The device that the contract is about; none where this machine has no such device.
    pub fn device_of_contract(&self) -> Option<Device> {
        match self.place {
            Place::Cpu => Some(self.device.clone()),
            Place::Gpu => Device::gpu(),
        }
    }

    /// So many tokens of text.
    pub fn tokens(&self, n: usize) -> Vec<TokenId> {
        text_tokens(self.vocabulary, n)
    }

    /// The model on a device, broken where it shall be.
    pub fn runner(&self, device: &Device, size: Size) -> Result<Box<dyn Runner>, Failure> {
        Ok(self.ready(device, self.kv, size, None)?.runner)
    }

    /// The same, with keys and values stored as somebody says, and a witness.
    pub fn ready(
        &self,
        device: &Device,
        kv: KvType,
        size: Size,
        witness: Option<Box<dyn Witness>>,
    ) -> Result<Ready, Failure> {
        let saboteur = match device {
            Device::Reference => None, // the truth is never broken
            _ => self.fault.and_then(Fault::saboteur),
        };
        let witness: Vec<Box<dyn Witness>> = saboteur.into_iter().chain(witness).collect();
        let witness = (!witness.is_empty()).then(|| Box::new(witness) as Box<dyn Witness>);
        let pages = Shape::pages_for(size.positions) + 4;
        let limits = Limits { rows: size.rows, outputs: size.rows, pages, kv };
        let Self { packing, environment, interrupt, .. } = *self;
        let manner = Manner { packing, environment, interrupt, quiet: true };
        self.opened.load_watched(device, limits, manner, witness)
    }

    /// The model on its device, and pages.
    pub fn desk(&self, size: Size) -> Result<Desk<'_>, Failure> {
        Ok(Desk::new(self.runner(self.device, size)?, self.interrupt))
    }

    /// One answer, by an engine that is turned here, as `qwire run` does.
    pub fn answer(&self, engine: &mut Engine, request: Request) -> Result<Answer, Failure> {
        let started = std::time::Instant::now();
        let clock = || started.elapsed();
        let id = RequestId(0);
        engine.submit(id, request, clock()).map_err(Failure::new)?;
        let mut answer = Answer::default();
        loop {
            self.interrupt.check()?;
            let mut heard: Vec<Delivery> = Vec::new();
            engine.turn(&clock, &mut |delivery| heard.push(delivery));
            for delivery in heard {
                match delivery.event {
                    Event::Token(sampled) => {
                        answer.tokens.push(sampled.token.0);
                        answer.logprobs.push(sampled.logprob);
                    }
                    Event::Finished { finish, .. } => {
                        answer.finish = Some(finish);
                        return Ok(answer);
                    }
                    Event::Failed(fault) => return Err(Failure::new(fault)),
                    _ => {}
                }
            }
        }
    }

    /// An engine for one answer after the other.
    pub fn engine(&self, size: Size, context: usize) -> Result<Engine, Failure> {
        let runner = self.runner(self.device, size)?;
        let settings = Settings { context, running: 1, waiting: 1, ..Settings::default() };
        Ok(Engine::new(runner, settings))
    }
}

/// So many tokens of the text that every model reads, from its start again where it ends.
pub fn text_tokens(vocabulary: &Vocabulary, n: usize) -> Vec<TokenId> {
    let ids = vocabulary.encode_prompt(TEXT, Special::AsText);
    ids.into_iter().cycle().take(n).map(TokenId).collect()
}

/// The text itself.
pub fn text() -> &'static str {
    TEXT
}

/// What an engine answered.
#[derive(Default)]
pub struct Answer {
    pub tokens: Vec<u32>,
    pub logprobs: Vec<f32>,
    pub finish: Option<Finish>,
}

/// A runner, its pages, and sequences that grow on them.
pub struct Desk<'a> {
    pub runner: Box<dyn Runner>,
    pub pages: Pages,
    interrupt: &'a Interrupt,
}

impl<'a> Desk<'a> {
    /// With no page in use.
    pub fn new(runner: Box<dyn Runner>, interrupt: &'a Interrupt) -> Self {
        let pages = Pages::new(runner.limits().pages);
        Self { runner, pages, interrupt }
    }

    /// Computes more of a sequence in steps of at most `chunk` rows. The logits of each new
    /// position, or of the last alone.
    pub fn extend(
        &mut self,
        table: &mut Table,
        tokens: &[TokenId],
        (chunk, every): (usize, bool),
    ) -> Result<Vec<f32>, Failure> {
        let mut logits = Vec::new();
        for chunk in tokens.chunks(chunk) {
            self.interrupt.check()?;
            let start = table.len();
            let grown = self.pages.grow(table, chunk.len());
            if let Some((from, to)) = grown.map_err(|_| Failure::broken("no page is left"))? {
                self.runner.copy_page(from, to);
            }
            let batch = Batch::single(chunk, start, table.pages().to_vec(), every);
            if let Some(poison) = self.runner.step(&batch).first() {
                return Err(Failure::new(poison));
            }
            if !every {
                logits.clear();
            }
            logits.extend(outputs(&mut *self.runner, batch.outputs.len()));
        }
        Ok(logits)
    }
}

/// The logits of the last step's outputs.
pub fn outputs(runner: &mut dyn Runner, n: usize) -> Vec<f32> {
    let mut logits = Vec::new();
    for first in (0..n).step_by(LOGIT_ROWS) {
        logits.extend_from_slice(runner.logits(first..n.min(first + LOGIT_ROWS)));
    }
    logits
}

/// The best token, ties to the lower id.
pub fn best(row: &[f32]) -> TokenId {
    let better = |best: usize, (at, x): (usize, &f32)| if *x > row[best] { at } else { best };
    TokenId(row.iter().enumerate().fold(0, better) as u32)
}

/// How many numbers of two rows have other bits.
pub fn differing(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "rows of one length");
    a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as f64
}

/// The first 48 bits of a SHA-256, which a float holds exactly.
pub fn digest(words: impl Iterator<Item = u32>) -> f64 {
    let mut hash = Sha256::new();
    words.for_each(|word| hash.update(word.to_le_bytes()));
    hash.finalize()[..6].iter().fold(0.0, |all, byte| all * 256.0 + f64::from(*byte))
}

/// What a witness hands out after each phase.
type Look<T> = fn(&mut T, usize, Phase, &Batch, &mut dyn qwire_model::Taps);

/// A witness that gathers something, to be read by whoever made it.
pub struct Gatherer<T> {
    pub gathered: Arc<Mutex<T>>,
    look: Look<T>,
}

impl<T: Default + Send + 'static> Gatherer<T> {
    /// One that begins with nothing.
    pub fn gather(look: Look<T>) -> (Box<dyn Witness>, Arc<Mutex<T>>) {
        Self::with(T::default(), look)
    }
}

impl<T: Send + 'static> Gatherer<T> {
    /// One that begins with something.
    pub fn with(start: T, look: Look<T>) -> (Box<dyn Witness>, Arc<Mutex<T>>) {
        let gathered = Arc::new(Mutex::new(start));
        (Box::new(Self { gathered: gathered.clone(), look }), gathered)
    }
}

impl<T: Send> Witness for Gatherer<T> {
    fn after(
        &mut self,
        layer: usize,
        phase: Phase,
        batch: &Batch,
        taps: &mut dyn qwire_model::Taps,
    ) {
        let mut gathered = self.gathered.lock().expect("nothing panics under the lock");
        (self.look)(&mut gathered, layer, phase, batch, taps);
    }
}
