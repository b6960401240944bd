//! Storage: pages between the runner and the store, within the time that a turn has for them.

use std::time::Duration;

use super::Engine;
use crate::pages::store::Arrival;
use crate::scheduler::guarded;
use crate::tree::Due;

impl Engine {
    /// Takes in what has come from the store; whether there was anything.
    pub(super) fn restore(&mut self, clock: &dyn Fn() -> Duration) -> bool {
        let Some(store) = self.store.clone() else { return false };
        let (len, mut moved) = (self.runner.page_form().bytes, false);
        for id in self.scheduler.lose_patience(clock()) {
            store.abandon(id);
            moved = true;
        }
        while self.scheduler.has_time()
            && let Some(arrival) = store.arrived()
        {
            moved = true;
            let began = clock();
            let (id, bytes) = match arrival {
                Arrival::Page(id, bytes) => (id, bytes),
                Arrival::End(id) => {
                    self.scheduler.restored(id, began);
                    continue;
                }
            };
            if bytes.len() != len {
                self.scheduler.restored(id, began); // it is no page of this model
                store.abandon(id);
            } else if let Some(page) = self.scheduler.place(id, began) {
                let written = guarded(|| self.runner.write_page(page, &bytes));
                self.scheduler.page_moved(clock().saturating_sub(began));
                if let Err(fault) = written {
                    self.scheduler.place_failed(id, fault);
                }
            } else {
                self.scheduler.restored(id, began); // more than was asked for, or too late
                store.abandon(id);
            }
            store.recycle(bytes);
        }
        moved
    }

    /// Hands pages over that are to be kept; whether there were any.
    pub(super) fn keep(&mut self, clock: &dyn Fn() -> Duration) -> bool {
        let Some(store) = self.store.clone().filter(|store| store.is_open()) else { return false };
        let (len, mut moved) = (self.runner.page_form().bytes, false);
        while self.scheduler.has_time_to_keep(clock())
            && let Some((name, due)) = self.scheduler.due(&*store)
        {
            let began = clock();
            if let Due::Page(page) = due {
                let Some(mut sheet) = store.sheet() else { break };
                sheet.resize(len, 0);
                match guarded(|| self.runner.read_page(page, &mut sheet)) {
                    Ok(()) => store.keep(name, sheet),
                    Err(_) => store.recycle(sheet), // what reads wrongly is not worth keeping
                }
                self.scheduler.page_moved(clock().saturating_sub(began));
            } else {
                store.touch(name);
            }
            self.scheduler.said(clock());
            moved = true;
        }
        moved
    }
}
