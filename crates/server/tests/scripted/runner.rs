//! A runner whose most likely token is always the next one of a script's line.
//!
//! A slot holds the token that was written there, so that what a sequence is comes back through
//! its page table: pages, forks, the prefix tree and parked chunks are the engine's own.

use std::ops::Range;
use std::sync::Arc;

use qwire_engine::pages::PAGE;
use qwire_model::{Batch, KvType, Limits, PageForm, PageId, Poison, Runner};
use qwire_text::{Controls, Special, Vocabulary};

use crate::script::Script;

/// Far above every other token.
const CERTAIN: f32 = 100.0;

/// What opens the model's turns.
const SPEAKER: &str = "<|im_start|>assistant\n";

/// What a template opens an answer with where nothing is to be thought.
const NO_THOUGHT: &str = "<think>\n\n</think>\n\n";

/// The runner.
pub struct Scripted {
    vocabulary: Arc<Vocabulary>,
    script: Script,
    limits: Limits,
    end: u32,
    slots: Vec<u32>,
    parked: Option<Batch>,
    outputs: Vec<u32>, // the token that comes next
    logits: Vec<f32>,
}

impl Scripted {
    /// A runner for sequences of so many tokens in all.
    pub fn new(vocabulary: Arc<Vocabulary>, script: Script, tokens: usize) -> Self {
        let pages = tokens.div_ceil(PAGE);
        let end = *vocabulary.end_ids().first().expect("the vocabulary has an end");
        Self {
            limits: Limits { rows: 2048, outputs: 64, pages, kv: KvType::F16 },
            slots: vec![0; pages * PAGE],
            end,
            vocabulary,
            script,
            parked: None,
            outputs: Vec::new(),
            logits: Vec::new(),
        }
    }

    fn run(&mut self, batch: &Batch) {
        for (slot, token) in batch.slots().zip(&batch.tokens) {
            self.slots[slot] = token.0;
        }
        self.outputs = batch.outputs.iter().map(|row| self.next(batch, *row)).collect();
    }

    /// The token after everything that a row sees.
    fn next(&self, batch: &Batch, row: usize) -> u32 {
        let span = &batch.spans[batch.span_of(row)];
        let position = batch.positions().nth(row).expect("a row of the batch");
        let slot = |at: usize| span.pages[at / PAGE].0 as usize * PAGE + at % PAGE;
        let history: Vec<u32> = (0..=position).map(|at| self.slots[slot(at)]).collect();
        let text = self.vocabulary.decode(&history, Controls::Show);
        let Some((before, said)) = text.rsplit_once(SPEAKER) else { return self.end };
        let said = said.strip_prefix(NO_THOUGHT).unwrap_or(said);
        let tail = before.rsplit_once(SPEAKER).map_or(before, |(_, tail)| tail);
        let line = self.vocabulary.encode(self.script.answer(tail), Special::Parse);
        let mut prefix = Vec::new();
        for token in line {
            if prefix == said.as_bytes() {
                return token;
            }
            prefix.extend_from_slice(self.vocabulary.token_bytes(token, Controls::Show));
        }
        self.end
    }
}

impl Runner for Scripted {
    fn vocab(&self) -> usize {
        self.vocabulary.len()
    }

    fn layers(&self) -> usize {
        1
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn step(&mut self, batch: &Batch) -> Vec<Poison> {
        self.run(batch);
        Vec::new()
    }

    fn park(&mut self, batch: Batch) {
        self.parked = Some(batch);
    }

    fn advance(&mut self, _: usize) -> Option<Vec<Poison>> {
        let batch = self.parked.take().expect("a batch is parked");
        self.run(&batch);
        Some(Vec::new())
    }

    fn logits(&mut self, outputs: Range<usize>) -> &[f32] {
        let vocab = self.vocab();
        self.logits = vec![0.0; outputs.len() * vocab];
        for (row, next) in self.logits.chunks_mut(vocab).zip(&self.outputs[outputs]) {
            row[*next as usize] = CERTAIN;
        }
        &self.logits
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        vec![1.0; outputs.len()]
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        let (from, to) = (from.0 as usize * PAGE, to.0 as usize * PAGE);
        self.slots.copy_within(from..from + PAGE, to);
    }

    fn page_form(&self) -> PageForm {
        let bytes = PAGE * size_of::<u32>();
        PageForm { bytes, layout: "slot", numbers: "scripted", host_layers: 0 }
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        let at = page.0 as usize * PAGE;
        let slots = self.slots[at..at + PAGE].iter();
        slots.zip(bytes.as_chunks_mut().0).for_each(|(token, bytes)| *bytes = token.to_le_bytes());
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        let at = page.0 as usize * PAGE;
        let slots = self.slots[at..at + PAGE].iter_mut();
        slots
            .zip(bytes.as_chunks().0)
            .for_each(|(token, bytes)| *token = u32::from_le_bytes(*bytes));
    }
}
