//! Options of `qwire serve`: the one table of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser};
use clap::{ArgAction, Args, ValueEnum};
use qwire_server::Settings;
use qwire_server::admin::recorder::{Recorder, Room};
use qwire_server::chat::replay::Keeping;
use qwire_server::edge::{self, Address, Sockets};
use qwire_text::tools::Dialect;
use tracing::level_filters::LevelFilter;

use crate::arguments::{DeviceArgs, GuessArgs, read_file, utf8};
use crate::config::Environment;
use crate::failure::Failure;
use crate::quantity::parse_bytes;

/// Serve a model over HTTP, in OpenAI's words
#[derive(Args)]
#[command(after_help = "\
Every option can also stand in a TOML file (--config), or in the environment as QWIRE_ and its name
(QWIRE_PORT, QWIRE_KV_TYPE). The command line wins over the file, the file over the environment.
--print-config shows what is in force, and where it comes from.

The port is open before the model is loaded; until then requests are answered with 503. SIGTERM and
Ctrl-C end the server once running answers are finished, or --drain is over; a second one at once.
Exit status: 0 ended as asked, 1 could not start, 2 not understood, 70 the engine broke.

Examples:
  qwire serve model.gguf
  qwire serve model.gguf --ctx 65536 --memory 24G --alias gpt-4o
  qwire serve model.gguf --host 0.0.0.0 --api-key-file keys.txt --cors https://chat.example
  qwire serve --config qwire.toml --print-config")]
pub struct Options {
    /// The model, or its first file (NAME-00001-of-00005.gguf) [default: the small one in the
    /// binary]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub access: Access,
    #[command(flatten)]
    pub names: Names,
    #[command(flatten)]
    pub share: Share,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub guess: GuessArgs,
    #[command(flatten)]
    pub disk: DiskCache,
    #[command(flatten)]
    pub answers: Answers,
    #[command(flatten)]
    pub journal: Journal,
    /// Prove at the start that kernels, weights and cache do what they promise: `qwire verify` in
    /// its shortest form
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, value_parser = boolish())]
    #[arg(num_args = 0..=1, require_equals = true, help_heading = "Start")]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub self_check: bool,
    /// Read options from a TOML file
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config: Option<PathBuf>,
    /// Print all options as such a file, each with its origin, and end
    #[arg(long, help_heading = "Configuration")]
    pub print_config: bool,
}

/// Where it listens.
#[derive(Args)]
#[command(next_help_heading = "Address")]
pub struct Place {
    /// Addresses to listen at [default: 127.0.0.1, or none with --unix]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = host)]
    host: Vec<IpAddr>,
    /// Their port; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Listen at a socket in the file system, for its owner alone
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// Tell health and metrics at one more address, without a key: ADDRESS:PORT, or a port of this
    /// machine alone
    #[arg(long, value_name = "ADDRESS", value_parser = figures)]
    metrics_listen: Option<SocketAddr>,
}

/// Who may ask.
#[derive(Args)]
#[command(next_help_heading = "Access")]
pub struct Access {
    /// A key that requests must bring; several with commas. Others on this machine can read a
    /// command line: prefer QWIRE_API_KEY or a file
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    api_key: Vec<String>,
    /// A file of such keys, one a line; # begins a comment
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Origins whose web pages may ask; * is any
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    cors: Vec<String>,
    /// Most bytes of a request
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = parse_bytes)]
    body_limit: u64,
}

/// What clients call the model.
#[derive(Args)]
#[command(next_help_heading = "Names")]
pub struct Names {
    /// The model's name [default: as its file says, or the file's own]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Other names that clients may ask for
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub alias: Vec<String>,
}

/// How memory and time are shared.
#[derive(Args)]
#[command(next_help_heading = "Sharing")]
pub struct Share {
    /// Memory for weights, cache and scratch together [default: nine tenths of what is free, or of
    /// what the control group leaves]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Tokens of prompt and answer together [default: the model's, or what fits in memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,
    /// Most answers computed side by side
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub parallel: u32,
    /// Most answers that wait
    #[arg(long, value_name = "N", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub queue: u32,
    /// While a prompt is read, others' tokens take at most this many times as long
    #[arg(long, value_name = "R", default_value_t = 2.0, value_parser = stall)]
    pub stall: f64,
    /// Seconds that running answers have to finish once the server shall end
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u32,
}

/// What it keeps for later runs.
#[derive(Args)]
#[command(next_help_heading = "Disk cache")]
pub struct DiskCache {
    /// Most bytes of computed prefixes on disk, or off [default: a fifth of what is free there, at
    /// most 64G]
    #[arg(id = "disk-cache", long, value_name = "SIZE", value_parser = disk_size)]
    pub size: Option<DiskSize>,
    /// Their folder; several servers may share it [default: ~/.cache/qwire/pages]
    #[arg(id = "disk-cache-dir", long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// The size of a disk cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskSize {
    Off,
    Bytes(u64),
}

fn disk_size(text: &str) -> Result<DiskSize, String> {
    match text {
        "off" => Ok(DiskSize::Off),
        text => parse_bytes(text).map(DiskSize::Bytes).map_err(|fault| format!("{fault}, or off")),
    }
}

/// How it answers.
#[derive(Args)]
#[command(next_help_heading = "Answers")]
pub struct Answers {
    /// Seconds between two signs of life in a stream that has nothing else to say
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    heartbeat: u32,
    /// What such a sign is: a comment, or an empty chunk for clients that count only data
    #[arg(long, value_name = "FORM", default_value = "comment")]
    sse_keepalive: Keepalive,
    /// How the model writes calls of tools [default: as its chat template teaches]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Dialect::names()))]
    pub dialect: Option<String>,
    /// Remember what was sampled, so that turns that come back find their prefix cached: on disk,
    /// in memory, or not at all
    #[arg(long, value_name = "WHERE", default_value = "disk")]
    replay: Replay,
    /// The folder for that [default: qwire/turns in the user's cache]
    #[arg(long, value_name = "FOLDER")]
    replay_dir: Option<PathBuf>,
    /// Refuse fields that nobody knows, instead of naming them in x-ignored-fields
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, value_parser = boolish())]
    #[arg(num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "false", default_missing_value = "true")]
    strict_fields: bool,
    /// Export the gauges of another engine too, under its names
    #[arg(long, value_name = "ENGINE")]
    metrics_compat: Option<Compat>,
}

/// What it tells on stderr.
#[derive(Args)]
#[command(next_help_heading = "Log")]
pub struct Journal {
    /// The least important line: error, warn, info, debug, trace or off
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: LevelFilter,
    /// Lines to read, or an object each
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub log_format: LogForm,
    /// Write prompts and answers to the log
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, value_parser = boolish())]
    #[arg(num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "false", default_missing_value = "true")]
    log_prompts: bool,
    /// Keep a capsule of each request in this folder, for `qwire replay`: prompts and answers are
    /// in it
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Most capsules; the oldest make room
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    record_files: u32,
    /// Most bytes of them
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_bytes)]
    record_size: u64,
}

/// A sign of life; documented at its flag, which keeps the help in two columns.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Keepalive {
    Comment,
    Chunk,
}

/// Another engine.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Compat {
    Vllm,
}

/// Where turns are remembered; documented at its flag.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Replay {
    Disk,
    Memory,
    Off,
}

/// A line of the log; documented at its flag.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogForm {
    Text,
    Json,
}

impl Options {
    /// How the server behaves.
    pub fn settings(&self, environment: &Environment) -> Result<Settings, Failure> {
        let seconds = |n: u32| Duration::from_secs(n.into());
        Ok(Settings {
            keys: self.access.keys()?,
            origins: self.access.cors.clone(),
            body_limit: usize::try_from(self.access.body_limit).unwrap_or(usize::MAX),
            heartbeat: seconds(self.answers.heartbeat),
            heartbeat_chunks: self.answers.sse_keepalive == Keepalive::Chunk,
            strict_fields: self.answers.strict_fields,
            log_prompts: self.journal.log_prompts,
            vllm_metrics: self.answers.metrics_compat == Some(Compat::Vllm),
            replay: self.answers.keeping(environment),
            drain: seconds(self.share.drain),
            ..Settings::default()
        })
    }
}

impl Answers {
    fn keeping(&self, environment: &Environment) -> Keeping {
        let cache = environment.cache.as_ref().map(|cache| cache.join("qwire").join("turns"));
        match (self.replay, self.replay_dir.clone().or(cache)) {
            (Replay::Off, _) => Keeping::Off,
            (Replay::Disk, Some(folder)) => Keeping::Disk(folder),
            // There is no home to keep anything in.
            (Replay::Memory, _) | (Replay::Disk, None) => Keeping::Memory,
        }
    }
}

impl Journal {
    /// What keeps capsules, where that is wanted.
    pub fn recorder(&self) -> Result<Option<Recorder>, Failure> {
        let room = Room { files: self.record_files as usize, bytes: self.record_size };
        let start = |folder: &PathBuf| {
            let started = Recorder::start(folder, room);
            started.map_err(|error| Failure::new(error).in_file(folder))
        };
        self.record.as_ref().map(start).transpose()
    }

    /// Whether more is said than the log.
    pub fn is_for_people(&self) -> bool {
        self.log_format == LogForm::Text && self.log >= LevelFilter::INFO
    }
}

impl Place {
    /// Every address to listen at.
    fn addresses(&self) -> Vec<Address> {
        let hosts = match (self.host.as_slice(), &self.unix) {
            ([], None) => vec![Ipv4Addr::LOCALHOST.into()],
            (hosts, _) => hosts.to_vec(),
        };
        let tcp = hosts.into_iter().map(|host| Address::Tcp(SocketAddr::new(host, self.port)));
        tcp.chain(self.unix.clone().map(Address::Unix)).collect()
    }

    /// Binds them all, or none.
    pub fn sockets(&self) -> Result<Sockets, Failure> {
        let sockets = edge::bind(&self.addresses());
        let sockets = sockets.and_then(|sockets| match self.metrics_listen {
            Some(address) => sockets.with_figures(&Address::Tcp(address)),
            None => Ok(sockets),
        });
        sockets.map_err(Failure::new)
    }
}

impl Access {
    /// Those given and those of the file.
    fn keys(&self) -> Result<Vec<String>, Failure> {
        let mut keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text = utf8(read_file(path)?, &path.display().to_string())?;
            let lines = text.lines().map(str::trim);
            let found = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            let before = keys.len();
            keys.extend(found.map(str::to_string));
            if keys.len() == before {
                return Err(Failure::new("there is no key in it").in_file(path));
            }
        }
        if keys.iter().any(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            let fault = "a key has a character that no header can carry; accepted: visible ASCII";
            return Err(Failure::usage(fault));
        }
        keys.retain(|key| !key.is_empty());
        Ok(keys)
    }
}

/// `true` and `false` in every spelling that people use for variables.
fn boolish() -> BoolishValueParser {
    BoolishValueParser::new()
}

fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        text => text.parse().map_err(|_| "accepted: an IP address, or localhost".into()),
    }
}

fn figures(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    let address = port.or_else(|_| text.parse());
    address
        .map_err(|_| "accepted: an IP address with a port, such as 0.0.0.0:9090, or a port".into())
}

fn stall(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (1.0..=1000.0).contains(factor));
    factor.ok_or_else(|| "accepted: 1 to 1000".into())
}
