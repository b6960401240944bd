//! Serve: the life of a server from its first connection to its last.
//!
//! ```text
//! serving ─ signal ─► draining ─┬─ all answers are over ──────────────► drained
//!    │                          ├─ time is up: error events, a moment ─► cut
//!    │                          └─ second signal ─────────────────────► cut
//!    └─ the engine broke: a moment ──────────────────────────────────► broken
//! ```

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection::{self, Mood};
use super::sockets::{Listener, Sockets, Stop};
use crate::app::{App, Stage};

/// Most connections at a time; the system may allow fewer.
const CONNECTIONS: usize = 16_384;
/// Before another try where there is no room for a connection.
const BREATH: Duration = Duration::from_millis(100);
/// For last words when time is up.
const MOMENT: Duration = Duration::from_millis(500);

/// How a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Every answer was finished.
    Drained,
    /// Some were not.
    Cut,
    /// The engine could not be trusted any more.
    Broken,
}

/// Serves every endpoint until a signal, or [`Stop`], or a broken engine ends it.
pub fn serve(sockets: Sockets, app: Arc<App>) -> Ending {
    let router = crate::router(app.clone());
    sockets.serve(router, app)
}

impl Sockets {
    /// Serves these routes.
    pub fn serve(self, router: Router, app: Arc<App>) -> Ending {
        let Self { runtime, listeners, figures, asked, stop } = self;
        let routers = iter::repeat_n(router, listeners.len());
        let listeners = listeners.into_iter().zip(routers);
        let figures = figures.map(|listener| (listener, crate::figures(app.clone())));
        let listeners = listeners.chain(figures).collect();
        runtime.spawn(async {
            if let Err(error) = hear(stop).await {
                tracing::warn!(%error, "signals are not heard");
            }
        });
        let ending = runtime.block_on(live(listeners, asked, app));
        runtime.shutdown_timeout(BREATH);
        ending
    }
}

async fn live(
    listeners: Vec<(Listener, Router)>,
    mut asked: UnboundedReceiver<()>,
    app: Arc<App>,
) -> Ending {
    let (moods, mood) = watch::channel(Mood::Calm);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let doors = listeners.into_iter().map(|(listener, router)| {
        let (app, places, moods) = (app.clone(), places.clone(), moods.clone());
        tokio::spawn(Door { router, app, places, moods }.keep(listener))
    });
    let doors: Vec<_> = doors.collect();
    drop(mood);
    let ending = tokio::select! {
        _ = asked.recv() => drain(&app, &mut asked).await,
        () = broken(&app) => {
            // Those whose answers broke hear of it.
            let _ = timeout(MOMENT, quiet(&app.tally.requests)).await;
            Ending::Broken
        }
    };
    // Before the last connections go, so that whoever is turned away now finds nobody.
    for door in doors {
        door.abort();
        let _ = door.await;
    }
    moods.send_replace(Mood::Closing);
    let _ = timeout(2 * BREATH, quiet(&app.tally.connections)).await;
    tracing::info!(?ending, "the server has ended");
    ending
}

/// Signals ask the server to end.
async fn hear(stop: Stop) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => stop.ask(),
            _ = interrupt.recv() => stop.ask(),
        }
    }
}

/// Waits until nothing is counted any more.
async fn quiet(count: &std::sync::atomic::AtomicUsize) {
    while count.load(Ordering::Relaxed) > 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the engine cannot be trusted any more.
async fn broken(app: &App) {
    while app.stage() != Stage::Broken {
        sleep(BREATH).await;
    }
}

async fn drain(app: &Arc<App>, asked: &mut UnboundedReceiver<()>) -> Ending {
    let patience = app.settings.drain;
    let deadline = Instant::now() + patience;
    app.drain();
    tracing::info!(?patience, "draining");
    let (over, engine) = oneshot::channel();
    let own = app.clone();
    std::thread::spawn(move || {
        if let Ok(model) = own.model() {
            model.service.drain(patience);
        }
        // Nobody waits any more after a second signal.
        let _ = over.send(());
    });
    let finished = async {
        let _ = engine.await;
        quiet(&app.tally.requests).await;
    };
    tokio::select! {
        _ = timeout_at(deadline + MOMENT, finished) => {
            if Instant::now() < deadline { Ending::Drained } else { Ending::Cut }
        }
        _ = asked.recv() => Ending::Cut,
    }
}

/// Where connections come in.
struct Door {
    router: Router,
    app: Arc<App>,
    places: Arc<Semaphore>,
    moods: watch::Sender<Mood>,
}

impl Door {
    async fn keep(self, listener: Listener) {
        loop {
            let place = self.place().await;
            if let Err(error) = self.accept(&listener, place).await {
                // A client that gave up concerns nobody else.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    self.crowd().await;
                }
            }
        }
    }

    async fn accept(&self, listener: &Listener, place: OwnedSemaphorePermit) -> io::Result<()> {
        match listener {
            Listener::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let local = socket.local_addr()?;
                self.open(socket, Some(local), place);
            }
            Listener::Unix(listener, _) => self.open(listener.accept().await?.0, None, place),
        }
        Ok(())
    }

    fn open<S>(&self, socket: S, local: Option<SocketAddr>, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let counted = Counted::new(self.app.clone());
        let (router, moods) = (self.router.clone(), self.moods.subscribe());
        let times = self.app.settings.times;
        tokio::spawn(async move {
            let _held = (counted, place);
            connection::serve(socket, local, router, times, moods).await;
        });
    }

    /// A place for one connection more.
    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            match self.places.clone().try_acquire_owned() {
                Ok(place) => return place,
                Err(_) => self.crowd().await,
            }
        }
    }

    /// Asks those who do nothing to make room, and waits a little.
    async fn crowd(&self) {
        self.moods.send_replace(Mood::Crowded);
        sleep(BREATH).await;
        self.moods.send_replace(Mood::Calm);
    }
}

/// A connection that is counted.
struct Counted(Arc<App>);

impl Counted {
    fn new(app: Arc<App>) -> Self {
        app.tally.connections.fetch_add(1, Ordering::Relaxed);
        Self(app)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tally.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
