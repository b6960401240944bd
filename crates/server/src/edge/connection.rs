//! Connection: one client's socket from accept to close, and the times after which it is cut.
//!
//! ```text
//! parked ─ something to read ─► talking ─┬─ over, or cut
//!    ▲                                   │
//!    └────────── a tenth of a second ────┘
//! ```
//! A parked connection has no parser and no buffers, so that thousands of them cost little.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tower::ServiceExt;

use super::gate::Part;
use super::host::Local;
use super::stream::Stream;
use crate::app::Times;

/// Silence after which it is parked.
const PARK_TIME: Duration = Duration::from_millis(100);
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
    /// Requests whose heads were read and whose answers are not over.
    open: usize,
    /// What is being read.
    part: Part,
    /// Since it began a head, or nothing at all.
    since: Instant,
    /// Nothing is left to be written.
    flushed: bool,
    /// Since nothing can be written.
    stalled: Option<Instant>,
    /// Since its last answer is out.
    lingering: Option<Instant>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Stay,
    Talk,
    Park,
    Over,
}

impl Pulse {
    fn new(times: Times) -> Self {
        let (part, since, stalled, lingering) = (Part::Nothing, Instant::now(), None, None);
        let beat = Beat { open: 0, part, since, flushed: true, stalled, lingering };
        Self(Mutex::new(beat), times)
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many heads were read to their ends, and this comes next.
    pub fn read(&self, heads: usize, part: Part) {
        let mut beat = self.beat();
        if heads > 0 || beat.part != part {
            beat.since = Instant::now();
        }
        beat.open += heads;
        beat.part = part;
    }

    /// Something was written, or could not be.
    pub fn write(&self, pending: bool) {
        let mut beat = self.beat();
        beat.flushed = false;
        beat.stalled = pending.then(|| beat.stalled.unwrap_or_else(Instant::now));
    }

    /// Everything was written.
    pub fn flush(&self) {
        self.beat().flushed = true;
    }

    /// The last answer is out.
    pub fn linger(&self) {
        self.beat().lingering.get_or_insert_with(Instant::now);
    }

    /// An answer is over.
    pub fn rest(&self) {
        let mut beat = self.beat();
        (beat.open, beat.since) = (beat.open.saturating_sub(1), Instant::now());
    }

    /// What to do if nothing happens until then.
    fn plan(&self, mood: Mood, parked: bool) -> Option<(Instant, Next)> {
        let (beat, times) = (self.beat(), &self.1);
        let idle = if mood == Mood::Crowded { CROWDED_TIME } else { times.idle };
        let silent = beat.part == Part::Nothing && beat.flushed && !parked;
        match (beat.lingering, beat.stalled) {
            (Some(since), _) => Some((since + LINGER_TIME, Next::Over)),
            (None, Some(since)) => Some((since + times.stall, Next::Over)),
            _ if beat.open > 0 => None,
            _ if beat.part == Part::Head => Some((beat.since + times.head, Next::Over)),
            _ if silent && PARK_TIME < idle => Some((beat.since + PARK_TIME, Next::Park)),
            _ => Some((beat.since + idle, Next::Over)),
        }
    }

    /// Does as planned.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        mut sleep: Pin<&mut Sleep>,
        mood: Mood,
        parked: bool,
    ) -> Poll<Next> {
        let Some((time, next)) = self.plan(mood, parked) else { return Poll::Pending };
        if sleep.deadline() > time {
            sleep.as_mut().reset(time);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if time <= Instant::now() {
                return Poll::Ready(next);
            }
            sleep.as_mut().reset(time);
        }
        Poll::Pending
    }
}

/// Serves a socket until either side has enough.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    local: Option<SocketAddr>,
    router: Router,
    times: Times,
    mut moods: watch::Receiver<Mood>,
) {
    let pulse = Arc::new(Pulse::new(times));
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(pulse.clone());
        request.extensions_mut().insert(Local(local));
        let answer = router.clone().oneshot(request);
        async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut http = http1::Builder::new();
    // The pulse has its own times, which tell a head from an idle connection.
    http.header_read_timeout(None).max_buf_size(BUFFER_BYTES).max_header_size(BUFFER_BYTES);
    let mut parked = Some(Stream::new(socket, pulse.clone()));
    let mut talking: Option<http1::Connection<TokioIo<Stream<S>>, _>> = None;
    let mut sleep = pin!(tokio::time::sleep(times.idle));
    let mut mood = *moods.borrow();
    loop {
        let happens = poll_fn(|cx| {
            let socket = match (&mut parked, &mut talking) {
                (Some(stream), _) => stream.poll_first(cx).map(|()| Next::Talk),
                (None, Some(http)) => Pin::new(http).poll(cx).map(|_| Next::Over),
                (None, None) => Poll::Ready(Next::Over),
            };
            match socket {
                Poll::Pending => pulse.poll(cx, sleep.as_mut(), mood, parked.is_some()),
                next @ Poll::Ready(_) => next,
            }
        });
        let next = tokio::select! {
            next = happens => next,
            changed = moods.changed() => {
                mood = *moods.borrow_and_update();
                let closing = changed.is_err() || mood == Mood::Closing;
                match &mut talking {
                    Some(http) if closing => Pin::new(http).graceful_shutdown(),
                    _ => {}
                }
                let over = changed.is_err() || closing && parked.is_some();
                if over { Next::Over } else { Next::Stay }
            }
        };
        match next {
            Next::Stay => {}
            Next::Over => return,
            Next::Talk => {
                let stream = parked.take().map(TokioIo::new);
                talking = stream.map(|stream| http.serve_connection(stream, &service));
            }
            Next::Park => {
                parked = talking.take().map(|http| http.into_parts().io.into_inner());
            }
        }
    }
}
