//! The engine: a runner and a scheduler in one hand, turn by turn.
//!
//! ```text
//! turn   plan ─ copy pages ─ step ─ sample ─ deliver ─ pages from the store ─ layers of a chunk
//!        ─ pages to the store ─ deliver
//! ```
//! It has no thread: `service` gives it one, `qwire run` and the tests call it themselves.

mod storage;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use qwire_model::Runner;

use crate::event::Delivery;
use crate::pages::store::Store;
use crate::request::{Refusal, Request, RequestId, Settings};
use crate::scheduler::{Plan, Scheduler, guarded};
pub use watch::Watch;

/// A runner and what is computed on it.
pub struct Engine {
    runner: Box<dyn Runner>,
    scheduler: Scheduler,
    watch: Arc<Watch>,
    store: Option<Arc<dyn Store>>,
}

impl Engine {
    /// An engine with nothing to do.
    pub fn new(runner: Box<dyn Runner>, settings: Settings) -> Self {
        let scheduler = Scheduler::new(&*runner, settings);
        let watch = Arc::new(Watch::new(runner.halt()));
        Self { runner, scheduler, watch, store: None }
    }

    /// Keeps full pages here, and looks for them.
    pub fn with_store(mut self, store: Arc<dyn Store>) -> Self {
        self.scheduler.keep_pages();
        Self { store: Some(store), ..self }
    }

    /// Where pages are kept.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref()
    }

    /// Ends a request.
    pub fn cancel(&mut self, id: RequestId, now: Duration) {
        self.watch.forget(id);
        self.scheduler.cancel(id, now);
    }

    /// Where those who leave during a turn say so; they are cancelled before the next.
    pub fn watch(&self) -> Arc<Watch> {
        self.watch.clone()
    }

    /// What is under way.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// The same, to cancel or to forget.
    pub fn scheduler_mut(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// Queues a request.
    pub fn submit(
        &mut self,
        id: RequestId,
        request: Request,
        now: Duration,
    ) -> Result<(), Refusal> {
        self.scheduler.submit(id, request, now)
    }

    /// Does a little: a step of everybody who gets tokens, the layers of a prompt that fit beside
    /// it, and some pages from and to the store. False if there is nothing to do, or nothing until
    /// the store's bell rings. The clock never goes back.
    pub fn turn(
        &mut self,
        clock: &dyn Fn() -> Duration,
        deliver: &mut dyn FnMut(Delivery),
    ) -> bool {
        if let Some(store) = &self.store {
            self.scheduler.open_store(store.is_open());
        }
        let plan = self.scheduler.plan(clock());
        self.scheduler.deliveries().into_iter().for_each(&mut *deliver); // those who start hear so
        if let Some(store) = &self.store {
            self.scheduler.wishes().into_iter().for_each(|wish| store.fetch(wish));
        }
        let planned = plan.is_some();
        if let Some(plan) = plan {
            self.step(plan, clock, deliver);
        }
        let restored = self.restore(clock);
        self.read(clock);
        let kept = self.keep(clock);
        self.scheduler.deliveries().into_iter().for_each(deliver);
        planned || restored || kept
    }

    /// The step of a plan; its chunk is parked.
    fn step(
        &mut self,
        plan: Plan,
        clock: &dyn Fn() -> Duration,
        deliver: &mut dyn FnMut(Delivery),
    ) {
        let runner = &mut *self.runner;
        let copied = guarded(|| {
            plan.copies.iter().for_each(|(from, to)| runner.copy_page(*from, *to));
        });
        let (wanted, rows) = (self.scheduler.wanting_step(), plan.step.rows());
        let mut step = || guarded(|| (rows > 0).then(|| runner.step(&plan.step)));
        match copied.map(|()| self.watch.over(wanted, &mut step)) {
            Ok(None) => self.scheduler.step_halted(),
            Ok(Some(Ok(None))) => {}
            Ok(Some(Ok(Some(faults)))) => {
                let now = clock();
                self.scheduler.stepped(&faults, runner, now);
                self.scheduler.read_out(clock().saturating_sub(now));
            }
            Ok(Some(Err(fault))) => self.scheduler.step_failed(&fault),
            Err(fault) => {
                self.scheduler.step_failed(&fault);
                if plan.park.is_some() {
                    self.scheduler.advance_failed(fault); // its pages may not be copied
                }
            }
        }
        self.scheduler.deliveries().into_iter().for_each(deliver);
        if let Some(batch) = plan.park
            && let Err(fault) = guarded(|| self.runner.park(batch))
        {
            self.scheduler.advance_failed(fault);
        }
    }

    /// Layers of the parked chunk.
    fn read(&mut self, clock: &dyn Fn() -> Duration) {
        loop {
            let layers = self.scheduler.layers();
            if layers == 0 {
                return;
            }
            let began = clock();
            let wanted = self.scheduler.wanting_layers();
            let advance = || guarded(|| self.runner.advance(layers));
            match self.watch.over(wanted, advance) {
                None => return self.scheduler.advance_halted(),
                Some(Ok(faults)) => {
                    let times = (began, clock());
                    self.scheduler.advanced(layers, faults, &mut *self.runner, times);
                    self.scheduler.read_out(clock().saturating_sub(times.1));
                }
                Some(Err(fault)) => self.scheduler.advance_failed(fault),
            }
        }
    }
}
