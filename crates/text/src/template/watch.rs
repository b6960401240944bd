//! Watch: what a rendering may take of the machine, and the thread on which it runs.
//!
//! The engine counts steps, but one step may copy a text of any length, and values nested a
//! million deep recurse when they are compared or dropped. So a rendering runs on its own thread,
//! with a stack for the deepest value that the fuel can build, while its caller looks at the
//! clock and, on Linux, at the memory that the process has gained. Past a bound the caller goes
//! on with an error and the thread is told to stop: loops over `range`, methods and printing
//! look at [`go_on`]. A single step cannot be interrupted; it ends by itself or with the process.
//!
//! The memory is that of the whole process: what other threads allocate meanwhile counts too.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind};

use crate::error::Error;

const TICK: Duration = Duration::from_millis(5);
const MAX_TIME: Duration = Duration::from_secs(3);
const MAX_GROWTH_BYTES: usize = 64 << 20;
/// Address space, of which only what is touched becomes memory.
const STACK_BYTES: usize = 1 << 30;
/// The most elements of a `range`, as in the engine.
const MAX_RANGE: usize = 100_000;

thread_local! {
    static STOPPED: RefCell<Arc<AtomicBool>> = RefCell::default();
}

/// Bounds of one rendering.
pub(super) struct Watch {
    max_growth: usize, // bytes
}

impl Watch {
    /// The bounds for variables that take about `input_bytes`.
    pub(super) fn over(input_bytes: usize) -> Self {
        Self { max_growth: MAX_GROWTH_BYTES + 4 * input_bytes }
    }

    /// Runs `rendering` on a thread of its own and waits for its result, or for a breach.
    pub(super) fn run(
        &self,
        rendering: impl FnOnce() -> Result<String, Error> + Send + 'static,
    ) -> Result<String, Error> {
        let (sender, receiver) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (base, start) = (memory(), Instant::now());
        let body = move || {
            STOPPED.set(stopped);
            let result = catch_unwind(AssertUnwindSafe(rendering))
                .unwrap_or_else(|_| Err(Error::Template("the engine panicked".into())));
            let _ = sender.send(result); // nobody listens after a breach
        };
        thread::Builder::new()
            .name("chat template".into())
            .stack_size(STACK_BYTES)
            .spawn(body)
            .map_err(|error| Error::Template(format!("no thread to run it on: {error}")))?;
        let why = loop {
            match receiver.recv_timeout(TICK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => break "its thread ended early".into(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let grown = memory().zip(base).map_or(0, |(now, base)| now.saturating_sub(base));
            if grown > self.max_growth {
                break format!("used more than {} MiB of memory", self.max_growth >> 20);
            }
            if start.elapsed() > MAX_TIME {
                break format!("did not finish within {} s", MAX_TIME.as_secs());
            }
        };
        stop.store(true, Ordering::Relaxed);
        Err(Error::Template(why))
    }
}

/// Bytes of memory that belong to this process alone; mapped files do not count. Unit tests share
/// a process, so there it is not asked; `tests/hostile.rs` does.
fn memory() -> Option<usize> {
    if cfg!(test) || !cfg!(target_os = "linux") {
        return None;
    }
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = pages.split(' ').skip(1).map_while(|count| count.parse::<usize>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * 4096) // a larger page only loosens the bound
}

/// Whether this thread's rendering is still waited for.
pub(super) fn go_on() -> Result<(), minijinja::Error> {
    if STOPPED.with_borrow(|stopped| stopped.load(Ordering::Relaxed)) {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "stopped"));
    }
    Ok(())
}

/// Replaces `range` by one whose loops end when nobody waits any more.
pub(super) fn add_to(environment: &mut Environment) {
    environment.add_function("range", range);
}

fn range(
    first: isize,
    second: Option<isize>,
    step: Option<isize>,
) -> Result<Value, minijinja::Error> {
    let refused = |why| Err(minijinja::Error::new(ErrorKind::InvalidOperation, why));
    let (start, end) = second.map_or((0, first), |end| (first, end));
    let step = step.unwrap_or(1);
    if step == 0 {
        return refused("cannot create range with step of 0");
    }
    let distance = if step > 0 { end.saturating_sub(start) } else { start.saturating_sub(end) };
    let len = (distance.max(0) as usize).div_ceil(step.unsigned_abs());
    if len > MAX_RANGE {
        return refused("range has too many elements");
    }
    let item = move |at: usize| match go_on() {
        Ok(()) => Value::from(start + at as isize * step),
        Err(error) => Value::from(error),
    };
    Ok(Value::make_iterable(move || (0..len).map(item)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendering_ends_or_is_left() {
        let watch = Watch::over(0);
        assert_eq!(watch.run(|| Ok("text".into())), Ok("text".into()));
        let why = watch.run(|| panic!("on purpose"));
        assert_eq!(why, Err(Error::Template("the engine panicked".into())));
        let start = Instant::now();
        let left = watch.run(|| {
            while go_on().is_ok() {
                thread::sleep(TICK);
            }
            Ok(String::new())
        });
        assert_eq!(left, Err(Error::Template("did not finish within 3 s".into())));
        assert!(start.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn ranges_are_those_of_python() {
        #[track_caller]
        fn check(first: isize, second: Option<isize>, step: Option<isize>, expected: &[i64]) {
            let items = range(first, second, step).unwrap();
            assert_eq!(items.len(), Some(expected.len()));
            let items: Vec<i64> =
                items.try_iter().unwrap().map(|item| item.try_into().unwrap()).collect();
            assert_eq!(items, expected);
        }
        check(3, None, None, &[0, 1, 2]);
        check(-3, None, None, &[]);
        check(2, Some(9), Some(3), &[2, 5, 8]);
        check(9, Some(2), Some(-3), &[9, 6, 3]);
        check(isize::MIN, Some(isize::MIN + 1), None, &[i64::MIN]);
        assert!(range(0, Some(1), Some(0)).is_err());
        assert!(range(isize::MIN, Some(isize::MAX), None).is_err());
        assert!(range(isize::MAX, Some(isize::MIN), Some(isize::MIN)).is_ok());
    }
}
