//! The service: the thread that owns the engine, and the only way to it from others.
//!
//! ```text
//! submit ─► inbox (bounded) ─► engine's thread: orders ─ turn ─ orders ─ turn ..
//! sink   ◄──────────────────── events, one after the other
//! ```
//! A sink takes events at once and never waits: it may be a closure around any unbounded channel,
//! whose length `max_tokens` bounds, so that a slow reader costs memory and nobody's time. A sink
//! that returns false, and a handle that is dropped, cancel their request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Watch};
use crate::event::{Delivery, Event, Fault};
use crate::pages::store::Store;
use crate::request::{Bounds, Door, Refusal, Request, RequestId};
use crate::scheduler::{Scheduler, guarded};
use crate::stats::Stats;

/// Two panics of the runner within this time are not an accident.
const ACCIDENT: Duration = Duration::from_mins(1);

/// Between two looks at those who wait for a store.
const GLANCE: Duration = Duration::from_millis(100);

/// What is to be kept is on the disk by then, or it is lost.
const LAST_PAGES: Duration = Duration::from_secs(1);

/// Takes (choice, event); false cancels the request.
pub type Sink = Box<dyn FnMut(usize, Event) -> bool + Send>;

/// Whether the engine can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Yes.
    #[default]
    Sound,
    /// The runner panicked twice within a minute, or the engine itself did: end the process.
    Broken,
}

/// An engine on its own thread.
pub struct Service {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    door: Arc<Door>,
    store: Option<Arc<dyn Store>>,
    ids: AtomicU64,
}

/// A request under way; it is cancelled when this is dropped.
pub struct Handle {
    id: RequestId,
    shared: Arc<Shared>,
}

/// A request under way with its events, for callers that wait on a thread of their own.
pub struct Answer {
    /// Cancels it when dropped.
    pub handle: Handle,
    /// (choice, event)
    pub events: Receiver<(usize, Event)>,
}

struct Shared {
    epoch: Instant,
    inbox: Mutex<Inbox>,
    /// Orders have come, or the service ends.
    wake: Condvar,
    /// The thread has ended.
    over: Condvar,
    glance: Mutex<(Stats, Health)>,
    watch: Arc<Watch>,
}

#[derive(Default)]
struct Inbox {
    orders: Vec<Order>,
    /// A store has rung.
    rung: bool,
    /// When the service ends, whatever is left.
    end: Option<Duration>,
    over: bool,
}

/// What is asked between two turns.
type Question = Box<dyn FnOnce(&mut Scheduler, Duration) + Send>;

enum Order {
    Submit(RequestId, Request, Sink, Duration),
    Cancel(RequestId),
    Ask(Question),
}

impl Service {
    /// Starts the thread.
    pub fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            inbox: Mutex::default(),
            wake: Condvar::new(),
            over: Condvar::new(),
            glance: Mutex::new((engine.scheduler().stats(), Health::Sound)),
            watch: engine.watch(),
        });
        let door = engine.scheduler().door();
        let store = engine.store().cloned();
        if let Some(store) = &store {
            // The store outlives the service, and knows of it as long as it is there.
            let shared = Arc::downgrade(&shared);
            store.attach(Box::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.ring();
                }
            }));
        }
        let desk = Desk { shared: shared.clone(), sinks: HashMap::new(), crash: None, idle: true };
        let thread = std::thread::Builder::new().name("qwire-engine".into());
        let thread = thread.spawn(move || desk.serve(engine))?;
        Ok(Self { shared, thread: Some(thread), door, store, ids: AtomicU64::new(0) })
    }

    /// Where pages are kept beyond memory.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref()
    }

    /// What requests are accepted.
    pub fn bounds(&self) -> Bounds {
        self.door.bounds
    }

    /// Queues a request, or refuses it at once. Each choice hears of exactly one ending.
    pub fn submit(&self, request: Request, sink: Sink) -> Result<Handle, Refusal> {
        self.door.pass(&request)?;
        let id = RequestId(self.ids.fetch_add(1, Ordering::Relaxed));
        let mut inbox = self.shared.inbox();
        if inbox.end.is_some() {
            self.door.leave(request.choices.len());
            return Err(self.door.refuse(Refusal::Draining));
        }
        inbox.orders.push(Order::Submit(id, request, sink, self.shared.epoch.elapsed()));
        drop(inbox);
        self.shared.wake.notify_all();
        Ok(Handle { id, shared: self.shared.clone() })
    }

    /// Queues a request whose events are read from a channel.
    pub fn answer(&self, request: Request) -> Result<Answer, Refusal> {
        let (sender, events) = mpsc::channel();
        let sink = move |choice, event| sender.send((choice, event)).is_ok();
        let handle = self.submit(request, Box::new(sink))?;
        Ok(Answer { handle, events })
    }

    /// Cancels by id.
    pub fn cancel(&self, id: RequestId) {
        self.shared.order(Order::Cancel(id));
    }

    /// Asks the scheduler something between two turns; none once the service is over.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Scheduler, Duration) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.shared.order(Order::Ask(Box::new(move |scheduler, now| {
            // Whoever asked may have left.
            let _ = sender.send(question(scheduler, now));
        })));
        answer.recv().ok()
    }

    /// The latest figures; it never waits for the engine.
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.glance().0.clone();
        stats.counters.refused = self.door.refused();
        stats
    }

    /// The latest health.
    pub fn health(&self) -> Health {
        self.shared.glance().1
    }

    /// Accepts nothing more and waits until everything has ended; what has not by then fails with
    /// [`Fault::Shutdown`].
    pub fn drain(&self, patience: Duration) {
        let mut inbox = self.shared.inbox();
        let end = self.shared.epoch.elapsed().saturating_add(patience);
        inbox.end = Some(inbox.end.map_or(end, |earlier| earlier.min(end)));
        self.shared.wake.notify_all();
        while !inbox.over {
            inbox = self.shared.over.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

impl Handle {
    /// The request's name.
    pub fn id(&self) -> RequestId {
        self.id
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.order(Order::Cancel(self.id));
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn glance(&self) -> MutexGuard<'_, (Stats, Health)> {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.inbox().rung = true;
        self.wake.notify_all();
    }

    fn order(&self, order: Order) {
        let mut inbox = self.inbox();
        if inbox.over {
            return;
        }
        if let Order::Cancel(id) = &order {
            self.watch.leave(*id); // what is computed for it alone ends at once
        }
        inbox.orders.push(order);
        drop(inbox);
        self.wake.notify_all();
    }
}

/// The thread's side.
struct Desk {
    shared: Arc<Shared>,
    sinks: HashMap<RequestId, Line>,
    /// When the runner panicked last.
    crash: Option<Duration>,
    /// Whether the last turn had nothing to do.
    idle: bool,
}

/// Where a request's events go.
struct Line {
    sink: Sink,
    /// Choices whose ending has not come.
    open: Vec<usize>,
}

impl Desk {
    fn serve(mut self, mut engine: Engine) {
        let served = guarded(|| {
            while self.take_orders(&mut engine) {
                self.turn(&mut engine);
            }
        });
        let fault = served.err().unwrap_or(Fault::Shutdown);
        if fault != Fault::Shutdown {
            self.shared.glance().1 = Health::Broken;
        }
        for (_, mut line) in self.sinks.drain() {
            for choice in line.open {
                tell(&mut line.sink, choice, Event::Failed(fault.clone()));
            }
        }
        if let Some(store) = engine.store().filter(|_| fault == Fault::Shutdown) {
            store.settle(LAST_PAGES);
        }
        let mut inbox = self.shared.inbox();
        inbox.end = Some(Duration::ZERO);
        inbox.over = true;
        let late = std::mem::take(&mut inbox.orders);
        drop(inbox);
        self.shared.over.notify_all();
        for order in late {
            if let Order::Submit(_, request, mut sink, _) = order {
                for choice in 0..request.choices.len() {
                    tell(&mut sink, choice, Event::Failed(fault.clone()));
                }
            }
        }
    }

    /// Follows what was ordered since the last turn, and waits for more if there is nothing to do.
    /// False when it is time to end.
    fn take_orders(&mut self, engine: &mut Engine) -> bool {
        let shared = self.shared.clone();
        let mut inbox = shared.inbox();
        while self.idle && inbox.orders.is_empty() && !inbox.rung {
            if !engine.scheduler().is_idle() {
                let waited = shared.wake.wait_timeout(inbox, GLANCE);
                inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
                break;
            }
            if inbox.end.is_some() {
                break;
            }
            inbox = shared.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        inbox.rung = false;
        let orders = std::mem::take(&mut inbox.orders);
        let end = inbox.end;
        drop(inbox);
        orders.into_iter().for_each(|order| self.follow(engine, order));
        self.hand_out(engine);
        let now = self.shared.epoch.elapsed();
        // Once nobody is served any more there may be pages to keep, which takes a few turns.
        let over = end.is_some_and(|end| self.idle && engine.scheduler().is_idle() || now >= end);
        !over
    }

    fn follow(&mut self, engine: &mut Engine, order: Order) {
        let now = self.shared.epoch.elapsed();
        match order {
            Order::Submit(id, request, sink, arrived) => {
                let open = (0..request.choices.len()).collect();
                self.sinks.insert(id, Line { sink, open });
                engine.scheduler_mut().queue(id, request, arrived);
            }
            Order::Cancel(id) => engine.cancel(id, now),
            // Whoever asked a question that panics gets no answer.
            Order::Ask(question) => drop(guarded(|| question(engine.scheduler_mut(), now))),
        }
    }

    /// Tells endings that came about between turns.
    fn hand_out(&mut self, engine: &mut Engine) {
        for delivery in engine.scheduler_mut().deliveries() {
            // What nobody takes here has ended already.
            let _ = deliver(&mut self.sinks, delivery);
        }
    }

    fn turn(&mut self, engine: &mut Engine) {
        let (shared, sinks) = (self.shared.clone(), &mut self.sinks);
        let crashes = engine.scheduler().crashes();
        let mut left = Vec::new();
        let worked = engine.turn(&|| shared.epoch.elapsed(), &mut |delivery| {
            left.extend(deliver(sinks, delivery));
        });
        self.idle = !worked;
        let now = shared.epoch.elapsed();
        left.into_iter().for_each(|id| engine.cancel(id, now));
        self.hand_out(engine);
        let stats = engine.scheduler().stats();
        let mut glance = shared.glance();
        if engine.scheduler().crashes() > crashes {
            let last = self.crash.replace(now);
            let again = last.is_some_and(|last| now.saturating_sub(last) < ACCIDENT);
            glance.1 = if again { Health::Broken } else { glance.1 };
        }
        glance.0 = stats;
    }
}

/// Hands an event to a sink. One that panics takes nothing more, and nobody else along.
fn tell(sink: &mut Sink, choice: usize, event: Event) -> bool {
    guarded(|| sink(choice, event)).unwrap_or(false)
}

/// Hands an event on; the request if nobody takes it any more.
fn deliver(sinks: &mut HashMap<RequestId, Line>, delivery: Delivery) -> Option<RequestId> {
    let Delivery { request, choice, event } = delivery;
    let line = sinks.get_mut(&request)?;
    let ending = event.is_ending();
    let taken = tell(&mut line.sink, choice, event);
    if ending {
        line.open.retain(|open| *open != choice);
        if line.open.is_empty() {
            sinks.remove(&request);
        }
        return None;
    }
    (!taken).then_some(request)
}
