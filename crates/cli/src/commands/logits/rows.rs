//! Rows: the logits at every position of a list of tokens, computed on any device, one after the
//! other. Memory does not grow with the list.

use qwire_engine::{Pages, Table};
use qwire_model::backend::LOGIT_ROWS;
use qwire_model::{Batch, KvType, Limits, Runner, TokenId, Witness};

use crate::arguments::{DeviceArgs, parse_ids, read_file, utf8};
use crate::backend::Device;
use crate::commands::loading::{Manner, Opened};
use crate::config::Environment;
use crate::failure::Failure;
use crate::memory::{self, Wish};
use crate::progress::{Bar, Unit};
use crate::quantity::grouped;
use crate::signals::Interrupt;

/// What computes rows.
pub struct Rows<'a> {
    pub model: &'a Opened,
    pub device: Device,
    pub kv: KvType,
    pub machine: &'a DeviceArgs,
    pub environment: &'a Environment,
    pub interrupt: &'a Interrupt,
    /// Most rows of a step, beside what the options say.
    pub chunk: usize,
}

/// The ids of a list on the command line or in a file.
pub fn ids(tokens: Option<&str>, file: Option<&std::path::Path>) -> Result<Vec<u32>, Failure> {
    let (text, source) = match (tokens, file) {
        (Some(tokens), _) => (tokens.to_string(), "--tokens".to_string()),
        (None, Some(path)) => {
            let name = path.display().to_string();
            (utf8(read_file(path)?, &name)?, name)
        }
        (None, None) => (String::new(), "--tokens".into()),
    };
    let ids = parse_ids(&text).map_err(|why| Failure::new(format!("{source}: {why}")))?;
    if ids.is_empty() {
        return Err(Failure::new(format!("{source}: the list is empty")));
    }
    Ok(ids)
}

/// Refuses a token that the vocabulary does not have.
pub fn check(ids: &[u32], vocab: usize) -> Result<(), Failure> {
    let strange = |(_, id): &(usize, &u32)| **id as usize >= vocab;
    let Some((at, id)) = ids.iter().enumerate().find(strange) else { return Ok(()) };
    let fault = format!("token {id} at position {at} is not in the vocabulary of {vocab}");
    Err(Failure::new(fault))
}

impl Rows<'_> {
    /// Loads the model for so many positions.
    pub fn runner(
        &self,
        tokens: usize,
        witness: Option<Box<dyn Witness>>,
    ) -> Result<Box<dyn Runner>, Failure> {
        let in_file = |failure: Failure| failure.in_file(&self.model.path);
        let shape = &self.model.shape;
        if tokens > shape.context {
            let (tokens, context) = (grouped(tokens as u64), grouped(shape.context as u64));
            let fault = format!("the list has {tokens} tokens; the model's context is {context}");
            return Err(in_file(Failure::new(fault)));
        }
        let wish = Wish {
            context: Some(tokens),
            cache_bytes: None,
            kv: self.kv,
            scratch_bytes: None,
            positions: tokens,
            checked: true,
            last_resort: "give it fewer tokens",
        };
        let (environment, interrupt) = (self.environment, self.interrupt);
        let cache_bytes = memory::cache_bytes(shape, tokens, self.kv);
        let device = self.device.clone();
        let device = self.machine.place(device, self.model, cache_bytes, environment)?;
        let weights = device.weights_bytes(&self.model.file);
        let plan = memory::plan(shape, weights, device.available(), wish);
        let plan = plan.map_err(in_file)?;
        device.probe(plan.cache_bytes)?;
        let steps = &self.machine.steps;
        let rows = steps.chunk(shape).min(tokens).min(self.chunk);
        let limits = Limits { rows, outputs: rows, pages: plan.pages, kv: self.kv };
        let packing = steps.packing();
        let manner = Manner { packing, environment, interrupt, quiet: false };
        Ok(self.model.load_watched(&device, limits, manner, witness)?.runner)
    }

    /// Hands out each row in order.
    pub fn each(
        &self,
        runner: &mut dyn Runner,
        ids: &[u32],
        take: &mut dyn FnMut(&[f32]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let vocab = runner.vocab();
        check(ids, vocab)?;
        let mut bar = Bar::new("computing", Unit::Count("positions"), true);
        let (mut pages, mut table) = (Pages::new(runner.limits().pages), Table::default());
        let mut done = 0;
        for chunk in ids.chunks(runner.limits().rows) {
            self.interrupt.check()?;
            let tokens: Vec<TokenId> = chunk.iter().copied().map(TokenId).collect();
            pages.grow(&mut table, tokens.len()).expect("there are pages for the whole list");
            let batch = Batch::single(&tokens, done, table.pages().to_vec(), true);
            if let Some(poison) = runner.step(&batch).first() {
                return Err(Failure::new(poison).in_file(&self.model.path));
            }
            for first in (0..chunk.len()).step_by(LOGIT_ROWS) {
                let rows = first..chunk.len().min(first + LOGIT_ROWS);
                let position = done + first;
                for (i, row) in runner.logits(rows).chunks_exact(vocab).enumerate() {
                    let finite = finite(row, position + i);
                    finite.map_err(|fault| fault.in_file(&self.model.path))?;
                    take(row)?;
                }
            }
            done += chunk.len();
            bar.set(done as u64, ids.len() as u64);
        }
        Ok(())
    }
}

/// Damaged weights of the head show in its logits alone.
fn finite(row: &[f32], position: usize) -> Result<(), Failure> {
    let Some(token) = row.iter().position(|logit| !logit.is_finite()) else { return Ok(()) };
    let found = row[token];
    let fault = format!("the logit of token {token} at position {position} is {found}");
    Err(Failure::new(fault).hint("the head is damaged; `qwire inspect --check` names the tensor"))
}
