//! App: what every endpoint sees: the model, once it is loaded, and the settings.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qwire_engine::{Health, Sampling, Service};
use qwire_text::tools::Dialect;
use qwire_text::{ChatTemplate, Grammars, Vocabulary};

use crate::admin::metrics::Sums;
use crate::admin::recorder::Recorder;
use crate::admin::underway::Underway;
use crate::chat::fork::Trail;
use crate::chat::replay::{Keeping, Replay};
use crate::fault::Fault;
use crate::fields::Fields;
use crate::openai::responses::kept::Kept;

/// What the endpoints share.
pub struct App {
    /// How the server behaves.
    pub settings: Settings,
    /// What happens at the wire.
    pub tally: Tally,
    /// Responses that may be asked for again.
    pub kept: Kept,
    /// The latest prompts, to see where the next ones part from them.
    pub trail: Trail,
    /// Requests that are being answered, to end them from elsewhere.
    pub underway: Underway,
    replay: OnceLock<Option<Arc<Replay>>>,
    /// Keeps capsules of requests, where somebody wants them.
    pub recorder: OnceLock<Recorder>,
    model: OnceLock<Model>,
    draining: AtomicBool,
}

/// What happens at the wire and the engine cannot see.
#[derive(Default, Debug)]
pub struct Tally {
    /// Connections that are open.
    pub connections: AtomicUsize,
    /// Requests whose answers are not over.
    pub requests: AtomicUsize,
    /// Bytes of bodies that are being read or worked on.
    pub bodies: AtomicUsize,
    /// Answers so far, by the first digit of their status.
    pub answers: [AtomicU64; 6],
    /// Requests that ended in a panic.
    pub panics: AtomicU64,
    /// Answers of endpoints, by path and status.
    pub endpoints: Sums<(&'static str, u16)>,
    /// Tool calls that were mended, by what was wrong.
    pub repairs: Sums<&'static str>,
    /// Spans that were taken out of prompts, by their names.
    pub spans: Sums<&'static str>,
    /// Turns of conversations that got the tokens back that were sampled.
    pub replayed: AtomicU64,
}

/// Where in its life the server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The model is still to come.
    Loading,
    /// Requests are answered.
    Ready,
    /// What runs may finish; nothing more is accepted.
    Draining,
    /// The engine cannot be trusted any more: the process is about to end.
    Broken,
}

/// How the server behaves.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that users have")]
pub struct Settings {
    /// One of these must come with a request; with none, only this machine may ask.
    pub keys: Vec<String>,
    /// Origins whose pages may ask; `*` is any.
    pub origins: Vec<String>,
    /// Most bytes of a body.
    pub body_limit: usize,
    /// Between two signs of life while nothing else is to be said.
    pub heartbeat: Duration,
    /// Says them as empty chunks, for clients that count only data.
    pub heartbeat_chunks: bool,
    /// Refuses fields that nobody knows.
    pub strict_fields: bool,
    /// Writes prompts and answers to the log.
    pub log_prompts: bool,
    /// Exports the gauges that vLLM has too.
    pub vllm_metrics: bool,
    /// Where it is remembered what was sampled, for when it comes back.
    pub replay: Keeping,
    /// Running streams may take so long to finish when the server ends.
    pub drain: Duration,
    /// How long clients may take.
    pub times: Times,
}

/// How long clients may take before they are cut.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// For a body.
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Without reading anything of their answer.
    pub stall: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let [head, body, idle, stall] = [10, 30, 300, 60].map(Duration::from_secs);
        Self { head, body, idle, stall }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            origins: Vec::new(),
            body_limit: 32 << 20,
            heartbeat: Duration::from_secs(10),
            heartbeat_chunks: false,
            strict_fields: false,
            log_prompts: false,
            vllm_metrics: false,
            replay: Keeping::default(),
            drain: Duration::from_secs(30),
            times: Times::default(),
        }
    }
}

/// The model behind the server.
pub struct Model {
    /// What clients call it.
    pub name: String,
    /// What they may call it too.
    pub aliases: Vec<String>,
    /// Its tokens.
    pub vocabulary: Arc<Vocabulary>,
    /// What holds its answers to a form.
    pub grammars: Grammars,
    /// How it wants conversations written; none if it was not made for any.
    pub template: Option<ChatTemplate>,
    /// The template's source.
    pub template_source: Option<String>,
    /// How it writes calls of tools.
    pub dialect: &'static Dialect,
    /// What its file recommends.
    pub sampling: Sampling,
    /// What it is.
    pub facts: Facts,
    /// The engine that runs it.
    pub service: Service,
}

/// What a model is.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The architecture of its file.
    pub architecture: String,
    /// Its weights, in numbers.
    pub parameters: u64,
    /// Its file, in bytes.
    pub file_bytes: u64,
    /// The mix of its quantisation, in words.
    pub quantisation: String,
    /// The context it was trained for.
    pub trained_context: usize,
    /// Numbers in a row of its residual stream.
    pub hidden: usize,
    /// Its device in words.
    pub device: String,
    /// Layers whose experts the CPU computes beside a card, on which its bits depend.
    pub host_layers: usize,
    /// Changes with the model and with the definition of its numbers.
    pub fingerprint: String,
    /// Tells its file from every other, wherever it lies.
    pub identity: String,
    /// The version of the definition of its numbers.
    pub numbers: u32,
    /// Where it was loaded from.
    pub path: PathBuf,
    /// Seconds since 1970 when it was loaded.
    pub created: u64,
    /// The program's version.
    pub version: &'static str,
}

impl App {
    /// An app whose model is still to come.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            tally: Tally::default(),
            kept: Kept::default(),
            trail: Trail::default(),
            underway: Underway::default(),
            replay: OnceLock::new(),
            recorder: OnceLock::new(),
            model: OnceLock::new(),
            draining: AtomicBool::new(false),
        })
    }

    /// Where in its life the server is.
    pub fn stage(&self) -> Stage {
        match self.model.get() {
            Some(model) if model.service.health() == Health::Broken => Stage::Broken,
            _ if self.draining.load(Ordering::Relaxed) => Stage::Draining,
            Some(_) => Stage::Ready,
            None => Stage::Loading,
        }
    }

    /// Nothing more is accepted from here on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The model has been loaded. Only the first one counts.
    pub fn install(&self, model: Model) {
        self.replay.get_or_init(|| Replay::open(&self.settings.replay, &model.facts.fingerprint));
        assert!(self.model.set(model).is_ok(), "a model is installed once");
    }

    /// The model, or 503.
    pub fn model(&self) -> Result<&Model, Fault> {
        self.model.get().ok_or_else(Fault::loading)
    }

    /// What was sampled, unless nothing is remembered.
    pub fn replay(&self) -> Option<&Arc<Replay>> {
        self.replay.get()?.as_ref()
    }

    /// The model that a request asks for.
    pub fn asked_model(&self, fields: &mut Fields) -> Result<&Model, Fault> {
        let name = fields.text("model")?;
        self.model_named(name.as_deref())
    }

    /// The model, if this is one of its names.
    pub fn model_named(&self, name: Option<&str>) -> Result<&Model, Fault> {
        let model = self.model()?;
        match name {
            Some(name) if !model.answers_to(name) => Err(Fault::model(name, &model.name)),
            _ => Ok(model),
        }
    }
}

impl Model {
    /// Whether a client means this model.
    pub fn answers_to(&self, name: &str) -> bool {
        // Ollama's clients write which of its tags they mean.
        let name = name.strip_suffix(":latest").unwrap_or(name);
        let same = |own: &str| own.eq_ignore_ascii_case(name);
        // Agents made for Claude ask for it by name.
        let claude = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("claude-"));
        claude
            || same(&self.name)
            || same("default")
            || self.aliases.iter().any(|alias| same(alias))
    }
}

/// Runs what takes a while, or waits for the engine, beside the runtime. Its panic is that of the
/// request.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds since 1970 as RFC 3339 writes them. Years begin in March, so that a leap day is a last
/// day, and are counted in eras of 400.
pub fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
