//! Compiler: grammars of one vocabulary, compiled within bounds.
//!
//! What is accepted follows from the text alone, whatever else the machine does: lengths, nesting,
//! and llguidance's own limits, which count items and steps and not seconds. A compilation runs on
//! a thread of its own, with a stack that its bounded input cannot exhaust; the wait for it ends.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::earley::{Parser, SlicedBiasComputer, perf::ParserPerfCounters};
use llguidance::{JsonCompileOptions, Logger};
use serde_json::Value;
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use super::opening::Grammar;
use super::paths::Paths;
use super::walk::{Walk, guarded};
use super::{Refused, gbnf, schema};
use crate::error::{Error, excerpt};
use crate::tokenizer::{Controls, Special, Vocabulary};

/// For a compilation, far above what one within [`limits`] takes on a machine that is overloaded.
const PATIENCE: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 256 << 20; // of address space; what is not touched costs nothing
const MAX_TEXT_BYTES: usize = 64 << 10;
const MAX_NESTING: usize = 100;
/// The latest grammars of calls: an agent offers the same tools in each of its turns.
const RECENT: usize = 16;

/// Between two parts of a JSON text: a space, or a line's end and the next line's indentation.
const WHITESPACE: &str = r" |\r?\n( {0,60}|\t{0,20})";

/// Compiles grammars for one vocabulary; clones share everything.
#[derive(Clone)]
pub struct Grammars(Arc<Ground>);

/// What all grammars of a vocabulary share.
pub(super) struct Ground {
    vocabulary: Arc<Vocabulary>,
    pub(super) env: TokEnv,
    pub(super) slicer: SlicedBiasComputer,
    pub(super) ends: Vec<u32>,
    pub(super) text: Vec<u32>, // bit t % 32 of word t / 32: the tokens that are text
    recent: Mutex<VecDeque<(String, Paths)>>,
}

impl Grammars {
    /// Prepares a vocabulary, once per model: tokens that are text by their bytes, and the ends.
    /// Control, unknown and unused tokens never occur in what a grammar allows.
    pub fn new(vocabulary: &Arc<Vocabulary>) -> Result<Self, Error> {
        let fault = |why: &dyn Display| Error::Vocabulary(format!("masks: {why}"));
        let ends = vocabulary.end_ids().to_vec();
        let Some(&end) = ends.first() else {
            return Err(fault(&"no token ends an answer; accepted: a file that names its eos"));
        };
        let mut text = vec![0_u32; vocabulary.len().div_ceil(32)];
        let mut words = Vec::with_capacity(vocabulary.len());
        for id in 0..vocabulary.len() as u32 {
            let bytes = vocabulary.token_bytes(id, Controls::Hide);
            // A word that begins with 0xff and goes on would be read as a control token's name.
            let hidden = vocabulary.is_end(id) || bytes.len() > 1 && bytes[0] == 0xff;
            words.push(if hidden { Vec::new() } else { bytes.to_vec() });
            if !words[id as usize].is_empty() {
                text[id as usize / 32] |= 1 << (id % 32);
            }
        }
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slicer = SlicedBiasComputer::new(&env, &SlicedBiasComputer::json_slices())
            .map_err(|error| fault(&error))?;
        let (vocabulary, recent) = (vocabulary.clone(), Mutex::default());
        Ok(Self(Arc::new(Ground { vocabulary, env, slicer, ends, text, recent })))
    }

    /// Any JSON object.
    pub fn json_object(&self) -> Result<Grammar, Refused> {
        self.json_schema(&serde_json::json!({ "type": "object" }))
    }

    /// What validates against a JSON schema, with its properties in the schema's order.
    pub fn json_schema(&self, schema: &Value) -> Result<Grammar, Refused> {
        let options = JsonCompileOptions {
            whitespace_pattern: Some(WHITESPACE.into()),
            json_allow_general_unicode_escapes: true,
            ..JsonCompileOptions::default()
        };
        let deadline = Instant::now() + PATIENCE;
        let compiled = |exclusive| {
            let mut outcome = None;
            for mut schema in schema::prepared(schema, exclusive)? {
                options.apply_to(&mut schema);
                outcome =
                    Some(self.compile(TopLevelGrammar::from_json_schema(schema), true, deadline));
                if let Some(Ok(_)) = outcome {
                    break;
                }
            }
            outcome.expect("at least one form").map_err(|refused| schema::refusal(&refused))
        };
        compiled(false).or_else(|refused| match refused.keyword.as_deref() {
            Some("oneOf") => compiled(true),
            _ => Err(refused),
        })
    }

    /// What a regular expression matches as a whole.
    pub fn regex(&self, text: &str) -> Result<Grammar, Refused> {
        bounded("regex", text)?;
        self.compile(TopLevelGrammar::from_regex(text), false, Instant::now() + PATIENCE)
    }

    /// What a grammar in llguidance's dialect of Lark derives.
    pub fn lark(&self, text: &str) -> Result<Grammar, Refused> {
        if text.contains("x-guidance") {
            let why = "Lark: `x-guidance` changes what schemas mean; accepted: schemas without it";
            return Err(Refused::keyword("x-guidance", why));
        }
        self.calls(text)
    }

    /// What the grammar of calls that a dialect wrote derives, with its own spaces in JSON.
    pub fn calls(&self, text: &str) -> Result<Grammar, Refused> {
        if let Some(start) = self.0.recall(text) {
            return Ok(Grammar::new(Arc::clone(&self.0), start));
        }
        bounded("Lark", text)?;
        let deadline = Instant::now() + PATIENCE;
        let grammar = self.compile(TopLevelGrammar::from_lark(text.into()), false, deadline)?;
        self.0.remember(text, grammar.start());
        Ok(grammar)
    }

    /// What a grammar in llama.cpp's GBNF derives.
    pub fn gbnf(&self, text: &str) -> Result<Grammar, Refused> {
        bounded("GBNF", text)?;
        let deadline = Instant::now() + PATIENCE;
        self.compile(TopLevelGrammar::from_lark(gbnf::to_lark(text)?), false, deadline)
    }

    fn compile(
        &self,
        grammar: TopLevelGrammar,
        json: bool,
        deadline: Instant,
    ) -> Result<Grammar, Refused> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let ground = Arc::clone(&self.0);
        let work = move || {
            // Nobody listens any more to one that took too long.
            let _ = sender.send(guarded(|| ground.parser(grammar)));
        };
        let thread = thread::Builder::new().name("grammar".into()).stack_size(STACK_BYTES);
        thread.spawn(work).map_err(|error| Refused::because(format!("grammar: {error}")))?;
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(parser)) => {
                let start = Paths::of(Walk::new(parser, json));
                Ok(Grammar::new(Arc::clone(&self.0), start))
            }
            Ok(Err(why)) => Err(Refused::because(why)),
            Err(_) => Err(Refused::because(format!(
                "the grammar takes longer than {} s to compile",
                PATIENCE.as_secs()
            ))),
        }
    }
}

impl Ground {
    /// How a model writes these bytes, but for the last token, which may hold what follows them.
    pub(super) fn tokens(&self, bytes: &[u8]) -> Vec<u32> {
        let whole = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let mut tokens = self.vocabulary.encode(whole, Special::AsText);
        tokens.pop();
        tokens
    }

    fn recall(&self, text: &str) -> Option<Paths> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|(known, _)| known == text)?;
        let found = recent.remove(at)?;
        let start = found.1.clone();
        recent.push_back(found);
        Some(start)
    }

    fn remember(&self, text: &str, start: Paths) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((text.into(), start));
        if recent.len() > RECENT {
            recent.pop_front();
        }
    }

    fn parser(&self, grammar: TopLevelGrammar) -> Result<Parser, String> {
        let limits = limits();
        let env = Some(Arc::clone(&self.env));
        let (mut logger, lexemes) = (Logger::new(0, 0), self.slicer.extra_lexemes());
        let counters = Arc::new(ParserPerfCounters::default());
        let mut parser = GrammarInit::Serialized(grammar)
            .to_cgrammar(env, &mut logger, limits.clone(), lexemes)
            .and_then(|grammar| Parser::new(Arc::clone(&self.env), grammar, limits, counters))
            .map_err(|error| told(&error))?;
        // A grammar that allows nothing at its start would only fail at the first token.
        if !parser.is_accepting() && parser.compute_bias(&self.slicer, &[]).is_zero() {
            return Err("nothing matches the grammar".into());
        }
        Ok(parser)
    }

    /// The bytes of a token as a grammar reads it; empty for those that are not text.
    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        let trie = self.env.tok_trie();
        if (token as usize) < trie.vocab_size() { trie.token(token) } else { &[] }
    }

    /// Allows the tokens that end an answer.
    pub(super) fn allow_ends(&self, words: &mut [u32]) {
        for end in &self.ends {
            words[*end as usize / 32] |= 1 << (end % 32);
        }
    }
}

/// What a grammar may cost before its first mask, and what one mask may cost.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_lexer_states: 250_000,
        max_grammar_size: 500_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

/// What llguidance says, in one line: its first, and the one that names the error.
pub(super) fn told(error: &dyn Display) -> String {
    let whole = error.to_string();
    if whole.starts_with("panic: ") {
        return "the compiler fails on it".into();
    }
    let first = whole.lines().next().unwrap_or_default();
    let named = whole.lines().skip(1).find_map(|line| line.trim().strip_prefix("error:"));
    let last = named.unwrap_or_default();
    excerpt(&format!("{first}{last}"), 300)
}

/// Refuses a text that is too long, or nested deeper than recursion should follow.
fn bounded(what: &str, text: &str) -> Result<(), Refused> {
    if text.len() > MAX_TEXT_BYTES {
        let why = format!("{what}: {} bytes; accepted: {MAX_TEXT_BYTES}", text.len());
        return Err(Refused::because(why));
    }
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            let why = format!("{what}: brackets nest deeper than {MAX_NESTING}");
            return Err(Refused::because(why));
        }
    }
    Ok(())
}
