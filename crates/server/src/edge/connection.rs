//! Connection: one client's socket from accept to close, and the times after which it is cut.

use std::convert::Infallible;
use std::future::Future;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt;

use super::host::Local;
use super::stream::Stream;
use crate::app::Times;

/// Between two requests where others wait for a connection.
const CROWDED_TIME: Duration = Duration::from_millis(500);
/// For what a client still sends after its answer.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// Most bytes of a head, and about the most that wait to be written.
const BUFFER_BYTES: usize = 64 << 10;

/// What all connections are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Stay.
    Calm,
    /// Whoever does nothing makes room.
    Crowded,
    /// Nobody begins anything more.
    Closing,
}

/// What a connection is doing, and since when.
#[derive(Debug)]
pub struct Pulse(Mutex<Beat>, Times);

#[derive(Debug)]
struct Beat {
    /// A request is being answered.
    busy: bool,
    /// A head has begun.
    head: bool,
    /// Since it is idle, or its head has begun.
    since: Instant,
    /// Since nothing can be written.
    stalled: Option<Instant>,
    /// Since its last answer is out.
    lingering: Option<Instant>,
}

impl Pulse {
    fn new(times: Times) -> Self {
        let since = Instant::now();
        let (stalled, lingering) = (None, None);
        let beat = Beat { busy: false, head: false, since, stalled, lingering };
        Self(Mutex::new(beat), times)
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another part of a message is read.
    pub fn read(&self, head: bool) {
        let mut beat = self.beat();
        (beat.head, beat.since) = (head, Instant::now());
    }

    /// Nothing can be written, or something was.
    pub fn stall(&self, stalled: bool) {
        self.beat().stalled = stalled.then(Instant::now);
    }

    /// The last answer is out.
    pub fn linger(&self) {
        self.beat().lingering.get_or_insert_with(Instant::now);
    }

    /// A request is being answered.
    fn work(&self) {
        self.beat().busy = true;
    }

    /// Its answer is over.
    pub fn rest(&self) {
        let mut beat = self.beat();
        (beat.busy, beat.since) = (false, Instant::now());
    }

    /// When to cut it if nothing happens.
    fn deadline(&self, mood: Mood) -> Option<Instant> {
        let (beat, times) = (self.beat(), &self.1);
        let idle = if mood == Mood::Crowded { CROWDED_TIME } else { times.idle };
        match (beat.lingering, beat.stalled) {
            (Some(since), _) => Some(since + LINGER_TIME),
            (None, Some(since)) => Some(since + times.stall),
            _ if beat.busy => None,
            _ => Some(beat.since + if beat.head { times.head } else { idle }),
        }
    }
}

/// Serves a socket until either side has enough.
pub async fn serve<S>(
    socket: S,
    local: Option<SocketAddr>,
    router: Router,
    times: Times,
    mut moods: watch::Receiver<Mood>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pulse = Arc::new(Pulse::new(times));
    let service = service_fn(|mut request: Request<Incoming>| {
        pulse.work();
        request.extensions_mut().insert(pulse.clone());
        request.extensions_mut().insert(Local(local));
        let answer = router.clone().oneshot(request);
        async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let io = TokioIo::new(Stream::new(socket, pulse.clone()));
    let mut http = http1::Builder::new();
    // The pulse has its own times, which tell a head from an idle connection.
    http.header_read_timeout(None).max_buf_size(BUFFER_BYTES).max_header_size(BUFFER_BYTES);
    let mut connection = pin!(http.serve_connection(io, service));
    let mut sleep = pin!(tokio::time::sleep(times.head));
    let mut mood = *moods.borrow();
    loop {
        let end = poll_fn(|cx| {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(deadline) = pulse.deadline(mood) else { return Poll::Pending };
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            while sleep.as_mut().poll(cx).is_ready() {
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        });
        tokio::select! {
            () = end => return,
            changed = moods.changed() => {
                mood = *moods.borrow_and_update();
                if changed.is_err() || mood == Mood::Closing {
                    connection.as_mut().graceful_shutdown();
                }
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
