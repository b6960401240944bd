//! Loader: from a model's file to a model that answers.

use std::fmt::Write;
use std::path::{Path, absolute};
use std::sync::Arc;

use clap::{Args, Command, FromArgMatches};
use qwire_disk::Disk;
use qwire_engine::{Engine, Service, Settings};
use qwire_gguf::File;
use qwire_kernels::NUMBERS_VERSION;
use qwire_model::Limits;
use qwire_server::app::now;
use qwire_server::{Facts, Model};
use qwire_text::tools::Dialect;
use qwire_text::{ChatTemplate, Grammars, Vocabulary};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::budget::{Budget, Terms};
use super::disk::{self, Maker};
use super::forecast::{Bound, Forecast};
use super::options::Options;
use crate::backend::Device;
use crate::commands::inspect::WeightFacts;
use crate::commands::loading::{Manner, Opened};
use crate::commands::{recommended, verify};
use crate::config::Environment;
use crate::failure::Failure;
use crate::memory::ROWS_BESIDE;
use crate::memory::{self, BLIND_CONTEXT};
use crate::signals::Interrupt;

/// What is to be loaded, and how.
pub struct Loader {
    pub opened: Opened,
    pub options: Options,
    pub environment: Environment,
    pub interrupt: Interrupt,
}

/// A model that answers, and what there is to say of it.
pub struct Loaded {
    pub model: Model,
    pub budget: Budget,
    pub forecast: Forecast,
    /// Where a card shares its layers.
    pub bound: Option<Bound>,
}

impl Loader {
    /// One with these options of `qwire serve`, whatever file and environment say.
    pub fn flagged(
        opened: Opened,
        flags: &[&str],
        (environment, interrupt): (&Environment, &Interrupt),
    ) -> Result<Self, Failure> {
        let table = Options::augment_args(Command::new("qwire serve").no_binary_name(true));
        let matches = table.try_get_matches_from(flags);
        let options = matches.and_then(|matches| Options::from_arg_matches(&matches));
        let options = options.map_err(|error| Failure::usage(error.to_string()))?;
        let (environment, interrupt) = (environment.clone(), interrupt.clone());
        Ok(Self { opened, options, environment, interrupt })
    }

    /// Does it.
    pub fn load(&self) -> Result<Loaded, Failure> {
        self.try_load().map_err(|failure| failure.in_file(&self.opened.path))
    }

    fn try_load(&self) -> Result<Loaded, Failure> {
        let (options, metadata) = (&self.options, self.opened.file.metadata());
        let vocabulary = Arc::new(Vocabulary::from_gguf(metadata)?);
        // A second's work for a large vocabulary, while the weights are loaded.
        let words = vocabulary.clone();
        let grammars = std::thread::spawn(move || Grammars::new(&words));
        let template = ChatTemplate::from_gguf(metadata, &vocabulary).unwrap_or_else(|error| {
            warn!(%error, "the chat template cannot be used; completions of plain text remain");
            None
        });
        let keeps = disk::place(&options.disk, &self.environment);
        let device = self.device()?;
        let budget = self.budget(&device, vocabulary.len(), keeps.is_some())?;
        let limits = Limits {
            rows: budget.rows,
            outputs: budget.rows.min(ROWS_BESIDE).max(budget.parallel),
            pages: budget.pages,
            kv: options.device.steps.kv(),
        };
        let manner = Manner {
            packing: options.device.steps.packing(),
            environment: &self.environment,
            interrupt: &self.interrupt,
            quiet: !options.journal.is_for_people(),
        };
        let mut ready = self.opened.load(&device, limits, manner)?;
        if options.self_check {
            let checked =
                verify::self_check(&self.opened, &vocabulary, ready.runner, &self.interrupt)?;
            ready.runner = checked;
        }
        let forecast = Forecast::measure(&mut *ready.runner, budget.context)?;
        let bound = Bound::of(&device, &self.opened)?;
        let facts = self.facts(ready.device, ready.host_layers);
        let kept = keeps.map(|place| {
            let form = ready.runner.page_form();
            let maker = Maker { opened: &self.opened, form, prompt_tok_s: forecast.prompt };
            disk::start(place, &maker)
        });
        let disk = kept.flatten();
        let mut engine = Engine::new(ready.runner, self.pace(&budget));
        if let Some(disk) = &disk {
            engine = engine.with_store(disk.clone());
        }
        let service = Service::start(engine);
        let text = |key| metadata.str(key).ok().flatten().map(str::to_string);
        let name = options.names.name.clone().or_else(|| text("general.name"));
        let source = text("tokenizer.chat_template");
        let model = Model {
            name: name.unwrap_or_else(|| stem(&self.opened.path)),
            aliases: options.names.alias.clone(),
            dialect: self.dialect(source.as_deref()),
            template_source: source,
            template,
            sampling: recommended(metadata),
            grammars: grammars.join().expect("it does not panic")?,
            vocabulary,
            facts,
            service: service.map_err(|error| Failure::new(format!("the engine: {error}")))?,
        };
        Ok(Loaded { model, budget, forecast, bound })
    }

    /// The device, with as much of the model as fits beside one long answer.
    fn device(&self) -> Result<Device, Failure> {
        let (options, shape) = (&self.options, &self.opened.shape);
        let context = options.share.ctx.map_or(BLIND_CONTEXT, |ctx| ctx as usize);
        let kv = options.device.steps.kv();
        let cache_bytes = memory::cache_bytes(shape, context.min(shape.context), kv);
        let device = options.device.device(&self.environment)?;
        options.device.place(device, &self.opened, cache_bytes, &self.environment)
    }

    fn budget(&self, device: &Device, vocab: usize, keeps: bool) -> Result<Budget, Failure> {
        let (share, steps) = (&self.options.share, &self.options.device.steps);
        let page_bytes = self.opened.shape.page_bytes(steps.kv());
        let terms = Terms {
            memory: share.memory,
            context: share.ctx.map(|ctx| ctx as usize),
            parallel: share.parallel as usize,
            chunk: steps.asked_chunk(),
            kv: steps.kv(),
            aside_bytes: if keeps { Disk::way_bytes(page_bytes) } else { 0 },
        };
        let available = device.available();
        if let (Some(asked), Some(available)) = (share.memory, available)
            && asked > available
        {
            warn!(asked, available, "--memory is more than this machine has left");
        }
        let Opened { shape, file, .. } = &self.opened;
        let weights = device.weights_bytes(file);
        let budget = Budget::of(shape, vocab, weights, available, terms)?;
        device.probe(budget.cache_bytes)?;
        Ok(budget)
    }

    /// How the model writes calls: as somebody says, or as its template teaches.
    fn dialect(&self, template: Option<&str>) -> &'static Dialect {
        let named = self.options.answers.dialect.as_deref().and_then(Dialect::named);
        named.or_else(|| Dialect::of_template(template?)).unwrap_or_default()
    }

    /// How the engine divides its time.
    fn pace(&self, budget: &Budget) -> Settings {
        let share = &self.options.share;
        Settings {
            context: budget.context,
            running: budget.parallel,
            waiting: share.queue as usize,
            stall: share.stall,
            chunk_alone: budget.rows,
            chunk_beside: budget.rows.min(ROWS_BESIDE),
            guesses: self.options.guess.most(),
            ..Settings::default()
        }
    }

    fn facts(&self, device: String, host_layers: usize) -> Facts {
        let Opened { shape, file, .. } = &self.opened;
        let weights = WeightFacts::of(file, Some(shape));
        let most = weights.formats.iter().filter(|format| format.share >= 0.01);
        let identity = identity(file);
        let mix = most.map(|format| format!("{} {:.0} %", format.format, 100.0 * format.share));
        Facts {
            architecture: shape.architecture.into(),
            parameters: weights.parameters,
            file_bytes: file.len_bytes(),
            quantisation: mix.collect::<Vec<_>>().join(", "),
            trained_context: shape.context,
            hidden: shape.hidden,
            device,
            host_layers,
            fingerprint: fingerprint(&identity),
            identity: digits(&identity),
            numbers: NUMBERS_VERSION,
            path: file.path().and_then(|at| absolute(at).ok()).unwrap_or_default(),
            created: now(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Tells a model's file from every other.
pub fn identity(file: &File) -> [u8; 32] {
    let mut hash = Sha256::new();
    file.identify(|bytes| hash.update(bytes));
    hash.finalize().into()
}

/// Bytes as digits.
pub fn digits(identity: &[u8]) -> String {
    identity.iter().fold(String::new(), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Changes with the model and with the definition of its numbers.
fn fingerprint(identity: &[u8]) -> String {
    let hash = Sha256::new().chain_update(identity).chain_update(NUMBERS_VERSION.to_le_bytes());
    format!("fp_{}", digits(&hash.finalize()[..8]))
}

/// The file's name without its type and its number.
fn stem(path: &Path) -> String {
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
    let whole = name.split_once("-00001-of-").map(|(whole, _)| whole.to_string());
    whole.unwrap_or(name)
}
