//! The watch: who still wants what the runner computes at this moment, seen from other threads.
//!
//! A step of a large model takes longer than somebody who cancels should wait. When the last one
//! who wants it has left it is halted, and its outcome is thrown away.

use std::sync::{Mutex, MutexGuard, PoisonError};

use qwire_model::Halt;

use crate::request::RequestId;

/// The work under way and those who want it.
pub struct Watch {
    halt: Halt,
    crowd: Mutex<Crowd>,
}

#[derive(Default)]
struct Crowd {
    /// Who wants the work under way.
    wanting: Vec<RequestId>,
    /// Who has left, and is not cancelled yet.
    left: Vec<RequestId>,
}

impl Watch {
    /// Nothing is under way on a runner that looks at this.
    pub(crate) fn new(halt: Halt) -> Self {
        Self { halt, crowd: Mutex::default() }
    }

    /// Does work that these requests want; none if all of them have left before its end.
    pub(crate) fn over<T>(&self, wanting: Vec<RequestId>, work: impl FnOnce() -> T) -> Option<T> {
        let mut crowd = self.crowd();
        let all = wanting.len();
        crowd.wanting = wanting;
        let Crowd { wanting, left } = &mut *crowd;
        wanting.retain(|id| !left.contains(id));
        if wanting.is_empty() && all > 0 {
            return None;
        }
        drop(crowd);
        let outcome = work();
        self.crowd().wanting.clear();
        (!self.halt.take()).then_some(outcome)
    }

    /// A request wants nothing more, and will be cancelled.
    pub fn leave(&self, id: RequestId) {
        let mut crowd = self.crowd();
        crowd.left.push(id);
        let before = crowd.wanting.len();
        crowd.wanting.retain(|other| *other != id);
        if crowd.wanting.is_empty() && before > 0 {
            self.halt.set();
        }
    }

    /// A request that may have left is cancelled.
    pub(crate) fn forget(&self, id: RequestId) {
        self.crowd().left.retain(|other| *other != id);
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_halted_when_the_last_one_leaves() {
        let halt = Halt::default();
        let watch = Watch::new(halt.clone());
        let [one, other, third] = [1, 2, 3].map(RequestId);
        let over = |leaving: &[RequestId]| {
            let leave = || leaving.iter().for_each(|id| watch.leave(*id));
            let outcome = watch.over(vec![one, other, one], leave);
            leaving.iter().for_each(|id| watch.forget(*id));
            outcome
        };
        assert_eq!(over(&[one]), Some(()));
        assert_eq!(over(&[other, third]), Some(()));
        assert_eq!(over(&[other, one]), None);
        assert_eq!((over(&[]), halt.is_set()), (Some(()), false));
        watch.leave(one);
        assert_eq!(over(&[other]), None, "one had left before");
        watch.leave(other);
        assert!(!halt.is_set() && watch.over(vec![], || ()).is_some(), "nobody wants nothing");
    }
}
