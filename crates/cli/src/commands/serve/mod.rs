//! `qwire serve`: a model behind HTTP.
//!
//! ```text
//! layers ── options ─┬─ sockets ── edge's thread ─── 503 .. answers .. drained ─┐
//!                    └─ file ───── loader's thread ─ model ─ page ──────────────┴─► exit code
//! ```
//! The sockets are bound before the model is loaded, and whichever thread has news first decides
//! how it goes on: a model that cannot be loaded ends the server, a signal ends the loading.

mod budget;
mod disk;
mod forecast;
mod layers;
pub mod loader;
mod log;
mod options;
mod page;
pub mod replay;

use std::io::{self, Write};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use qwire_server::App;
use qwire_server::edge::{self, Address, Ending, Stop};
use tracing::{info, warn};

use super::loading::{self, Opened};
use crate::config::Environment;
use crate::failure::Failure;
use crate::signals::Interrupt;
use layers::Layered;
use loader::{Loaded, Loader};
use options::Options;
use page::Page;

/// For a thread that was told to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Options on the command line, in the file and in the environment.
pub type ServeArgs = Layered<Options>;

/// What the threads have to tell.
enum News {
    Loaded(Result<Box<Loaded>, Failure>),
    Ended(Ending),
}

/// What is known of the server before its model.
struct Door {
    addresses: Vec<Address>,
    /// Where its figures are told to everybody.
    figures: Option<Address>,
    keyed: bool,
    queue: usize,
    /// Whether the page is shown.
    welcomes: bool,
    stop: Stop,
}

/// Runs the command.
pub fn serve(args: &ServeArgs, environment: &Environment) -> Result<u8, Failure> {
    let settled = args.settle(environment)?;
    if settled.options.print_config {
        io::stdout().write_all(settled.print().as_bytes())?;
        return Ok(0);
    }
    let options = settled.options;
    log::start(&options.journal, environment.colour);
    let settings = options.settings(environment)?;
    let recorder = options.journal.recorder()?;
    let opened = Opened::given(options.model.as_deref(), true)?;
    if opened.is_boxed() {
        info!("{}", loading::NOTICE);
    }
    let sockets = options.place.sockets()?;
    let door = Door {
        addresses: sockets.addresses(),
        figures: sockets.figures_address(),
        keyed: !settings.keys.is_empty(),
        queue: options.share.queue as usize,
        welcomes: options.journal.is_for_people(),
        stop: sockets.stop(),
    };
    door.greet();
    let app = App::new(settings);
    if let Some(recorder) = recorder {
        app.recorder.set(recorder).expect("it is set once");
    }
    let interrupt = Interrupt::default();
    let environment = environment.clone();
    let loader = Loader { opened, options, environment, interrupt: interrupt.clone() };
    let (sender, news) = mpsc::channel();
    let (ended, shared) = (sender.clone(), app.clone());
    start("qwire-edge", move || {
        let served = guarded(|| edge::serve(sockets, shared)).unwrap_or(Ending::Broken);
        // Nobody hears it where the other thread's news ended the process.
        let _ = ended.send(News::Ended(served));
    })?;
    start("qwire-loader", move || {
        let broken = || Err(Failure::broken("loading broke off"));
        let loaded = guarded(|| loader.load()).unwrap_or_else(broken);
        let _ = sender.send(News::Loaded(loaded.map(Box::new)));
    })?;
    let outcome = until_the_end(&news, &app, &door, &interrupt);
    // The process ends: nobody waits for the engine's last step.
    mem::forget(app);
    outcome
}

/// Waits for the threads, and tells each what the other's news means for it.
fn until_the_end(
    news: &Receiver<News>,
    app: &App,
    door: &Door,
    interrupt: &Interrupt,
) -> Result<u8, Failure> {
    let next = || news.recv().expect("both threads tell of their end");
    let ending = match next() {
        News::Loaded(Ok(loaded)) => {
            let page = Page { loaded: &loaded, door }.to_string();
            let (name, context) = (loaded.model.name.clone(), loaded.budget.context);
            app.install(loaded.model);
            info!(name, context, "ready");
            if door.welcomes {
                eprint!("{page}");
            }
            match next() {
                News::Ended(ending) => ending,
                News::Loaded(_) => unreachable!("it loads once"),
            }
        }
        News::Loaded(Err(failure)) => {
            // The edge takes its socket's file along.
            door.stop.ask();
            let _ = news.recv_timeout(PATIENCE);
            return Err(failure);
        }
        News::Ended(ending) => {
            // A draft of a sidecar is removed, if it can be in time.
            interrupt.raise();
            if !interrupt.is_at_once() {
                let _ = news.recv_timeout(PATIENCE);
            }
            ending
        }
    };
    match ending {
        Ending::Drained => Ok(0),
        Ending::Cut => {
            warn!("ended as asked, before every answer was finished");
            Ok(0)
        }
        Ending::Broken => Err(Failure::broken("the engine broke; the log says more")),
    }
}

impl Door {
    /// Says where it listens, and who may come in.
    fn greet(&self) {
        for address in &self.addresses {
            info!(%address, "listening; until the model is loaded answers are 503");
        }
        if let Some(address) = &self.figures {
            info!(%address, "health and metrics, for whoever asks");
        }
        let open =
            |address: &&Address| matches!(address, Address::Tcp(at) if !at.ip().is_loopback());
        if let Some(address) = self.addresses.iter().find(open).filter(|_| !self.keyed) {
            warn!(%address, "no key is asked for: whoever reaches this address may ask");
        }
    }
}

/// A panic was told where it happened.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map(drop).map_err(|error| Failure::new(format!("no thread: {error}")))
}
