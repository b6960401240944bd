//! `qwire launch`: an agent against a server, which is started where none runs, and ended with it.
//!
//! ```text
//! url ── a server that runs ─┐
//!                            ├─► what the agent is told ─► agent ─► its exit status
//! model ─ a server of its own ┘                              └─► what was started is ended
//! ```

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs, process, thread};

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::roster::{Agent, Told};
use super::server::{Server, send};
use super::{Place, named, names, told};
use crate::config::Environment;
use crate::failure::Failure;

/// Between two looks at the agent.
const GLANCE: Duration = Duration::from_millis(20);

/// Run an agent against a server, which is started if need be
#[derive(Args)]
#[command(after_help = "\
The agent is told where to ask by its environment and its command line, or in a folder of its own
that goes with it: your files stay as they are. With --model a server is started at a free port,
with the options of `qwire serve` from the environment (QWIRE_CTX, QWIRE_MEMORY ..), and ended after
the agent. The exit status is the agent's.

Examples:
  qwire launch claude-code
  qwire launch codex --model model.gguf
  qwire launch qwen-code --url http://127.0.0.1:9000 -- -p \"Fix the failing test\" --yolo")]
pub struct LaunchArgs {
    /// Which agent
    #[arg(value_name = "AGENT", value_parser = names())]
    agent: String,
    #[command(flatten)]
    place: Place,
    /// Start a server for this model
    #[arg(long, value_name = "MODEL", conflicts_with = "url")]
    model: Option<PathBuf>,
    /// What else the agent shall be told
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Runs the command.
pub fn launch(args: &LaunchArgs, environment: &Environment) -> Result<u8, Failure> {
    let agent = named(&args.agent);
    if !environment.programs.iter().any(|folder| folder.join(agent.program).is_file()) {
        return Err(absent(agent));
    }
    let ending = listen()?;
    let server = args.model.as_deref().map(|model| Server::start(model, &ending)).transpose()?;
    let place = match &server {
        Some(server) => Place { url: Some(server.url.clone()), ..args.place.clone() },
        None => args.place.clone(),
    };
    let told = told(&place.client(environment)?).map_err(|failure| match &args.place.url {
        None => failure.hint("name a model to start a server: --model MODEL.gguf"),
        Some(_) => failure,
    })?;
    let folder = Folder::new()?;
    let status = run(agent, &told, &folder, &args.arguments, &ending)?;
    drop(server);
    Ok(code(status))
}

fn absent(agent: &Agent) -> Failure {
    let message = format!("{} is not installed: there is no `{}`", agent.title, agent.program);
    Failure::new(message).hint(agent.install)
}

/// Signals are the agent's to obey; those that end this process are passed on to it.
fn listen() -> Result<Arc<AtomicBool>, Failure> {
    let (ending, interrupted) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    // A terminal sends Ctrl-C to the agent itself.
    [(SIGINT, &interrupted), (SIGTERM, &ending), (SIGHUP, &ending)]
        .into_iter()
        .try_for_each(|(signal, flag)| flag::register(signal, flag.clone()).map(drop))
        .map_err(|error| Failure::new(format!("cannot listen to signals: {error}")))?;
    Ok(ending)
}

fn run(
    agent: &Agent,
    told: &Told,
    folder: &Folder,
    arguments: &[OsString],
    ending: &AtomicBool,
) -> Result<ExitStatus, Failure> {
    let command = |arguments: &[&str]| {
        let mut command = Command::new(agent.program);
        command.envs(agent.variables(told, &folder.0));
        command.args(arguments.iter().map(|text| told.fill(text, &folder.0)));
        command
    };
    let fault = |error| Failure::new(format!("`{}` cannot be run: {error}", agent.program));
    if !agent.before.is_empty() {
        let told = command(agent.before).output().map_err(fault)?;
        if !told.status.success() {
            let said = String::from_utf8_lossy(&told.stderr).into_owned();
            return Err(Failure::new(format!("`{} {}`: {said}", agent.program, agent.before[0])));
        }
    }
    let mut child = command(agent.arguments).args(arguments).spawn().map_err(fault)?;
    loop {
        let lost = |error| Failure::new(format!("`{}` was lost: {error}", agent.program));
        if let Some(status) = child.try_wait().map_err(lost)? {
            return Ok(status);
        }
        if ending.swap(false, Ordering::Relaxed) {
            send(&child, rustix::process::Signal::TERM);
        }
        thread::sleep(GLANCE);
    }
}

/// As a shell reports it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// A folder for its owner alone that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let path = env::temp_dir().join(format!("qwire-launch-{}", process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Failure::new(error).in_file(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies among what is temporary.
        let _ = fs::remove_dir_all(&self.0);
    }
}
