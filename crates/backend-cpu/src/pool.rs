//! Worker threads, and the only way buffers are shared among them.
//!
//! A job is a number of tasks behind one atomic counter; the caller works too. Which worker takes a
//! task never influences a result. Waiting spins for some microseconds, then sleeps. Buffers are
//! handed out as disjoint pieces, so the code that computes holds no `unsafe`.
#![allow(unsafe_code)] // lifetimes of a job's closure, disjoint pieces of a buffer, MXCSR

use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Before sleeping a worker spins this long: most phases follow the last one sooner.
const SPIN: Duration = Duration::from_micros(30);

type Job = dyn Fn(usize, usize) + Sync;

struct Shared {
    /// The current job; replaced only while no worker runs.
    job: Mutex<Option<&'static Job>>,
    /// Counts jobs; a worker that sees a new number takes part.
    epoch: AtomicUsize,
    tasks: AtomicUsize,
    next: AtomicUsize,
    /// Workers that have not finished the current job.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// Persistent threads; the caller of [`Pool::run`] is worker 0.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of this many workers, the caller among them. Fails where a thread cannot start.
    pub fn new(workers: usize) -> std::io::Result<Self> {
        assert!(workers > 0, "a pool has a worker");
        let shared = Arc::new(Shared {
            job: Mutex::new(None),
            epoch: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut pool = Self { shared, threads: Vec::new() };
        for worker in 1..workers {
            let shared = pool.shared.clone();
            let name = format!("qwire-{worker}");
            let body = move || shared.serve(worker);
            pool.threads.push(std::thread::Builder::new().name(name).spawn(body)?);
        }
        Ok(pool)
    }

    /// Workers, the caller among them.
    pub fn workers(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `job(worker, task)` for every task; returns when all are done.
    pub fn run(&self, tasks: usize, job: &(dyn Fn(usize, usize) + Sync)) {
        default_float_environment();
        if self.threads.is_empty() || tasks <= 1 {
            (0..tasks).for_each(|task| job(0, task));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: the reference is dropped from `shared.job` below, before this call returns, and
        // no worker holds it once `busy` is zero; so it never outlives `job`.
        let job: &'static Job =
            unsafe { std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), &'static Job>(job) };
        *shared.job.lock().expect("no job panics under the lock") = Some(job);
        shared.tasks.store(tasks, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        shared.busy.store(self.threads.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        {
            let _guard = shared.sleep.lock().expect("nothing panics under the lock");
            shared.wake.notify_all();
        }
        shared.work(0, job);
        shared.wait_until(|| shared.busy.load(Ordering::Acquire) == 0);
        *shared.job.lock().expect("no job panics under the lock") = None;
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a worker thread panicked");
    }

    /// Runs `f(worker, index, item)` for every item.
    pub fn each<T: Send>(&self, items: &mut [T], f: impl Fn(usize, usize, &mut T) + Sync) {
        self.chunks(items, 1, |worker, index, item| f(worker, index, &mut item[0]));
    }

    /// Runs `f(worker, index, chunk)` for every chunk of `size` items.
    pub fn chunks<T: Send>(
        &self,
        items: &mut [T],
        size: usize,
        f: impl Fn(usize, usize, &mut [T]) + Sync,
    ) {
        let pieces = Pieces::new(items);
        self.run(pieces.len.div_ceil(size), &|worker, task| {
            let end = (task * size + size).min(pieces.len);
            // SAFETY: each task is run once, and tasks' ranges do not overlap.
            f(worker, task, unsafe { pieces.slice(task * size..end) });
        });
    }

    /// Splits a matrix [.., stride] at ascending row and column bounds and runs
    /// `f(worker, rows, columns, rectangle)` for each piece.
    pub fn grid(
        &self,
        matrix: &mut [f32],
        stride: usize,
        bounds: Bounds<'_>,
        f: impl Fn(usize, usize, usize, &mut Rect<'_>) + Sync,
    ) {
        let ascend = |bounds: &[usize]| bounds.windows(2).all(|pair| pair[0] <= pair[1]);
        assert!(ascend(bounds.rows) && ascend(bounds.columns), "bounds ascend");
        assert!(bounds.columns.last().is_none_or(|last| *last <= stride), "columns lie in the row");
        let rows = bounds.rows.last().copied().unwrap_or(0);
        assert!(rows * stride <= matrix.len(), "rows lie in the matrix");
        let across = bounds.columns.len().saturating_sub(1);
        let down = bounds.rows.len().saturating_sub(1);
        let pieces = Pieces::new(matrix);
        self.run(down * across, &|worker, task| {
            let (i, j) = (task / across, task % across);
            let mut rect = Rect {
                pieces: &pieces,
                stride,
                rows: bounds.rows[i]..bounds.rows[i + 1],
                columns: bounds.columns[j]..bounds.columns[j + 1],
            };
            f(worker, i, j, &mut rect);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        if let Ok(_guard) = self.shared.sleep.lock() {
            self.shared.wake.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has been reported by `run`.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self, worker: usize) {
        default_float_environment();
        let mut seen = 0;
        loop {
            self.wait_until(|| self.epoch.load(Ordering::Acquire) != seen);
            seen += 1;
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let job = *self.job.lock().expect("no job panics under the lock");
            let job = job.expect("a job stays until every worker has finished it");
            self.work(worker, job);
            if self.busy.fetch_sub(1, Ordering::Release) == 1 {
                let _guard = self.sleep.lock().expect("nothing panics under the lock");
                self.wake.notify_all();
            }
        }
    }

    /// Takes tasks until none is left. A panic is kept for the caller, the rest is skipped.
    fn work(&self, worker: usize, job: &Job) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        let all = || {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    return;
                }
                job(worker, task);
            }
        };
        if catch_unwind(AssertUnwindSafe(all)).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
            self.next.store(tasks, Ordering::Relaxed);
        }
    }

    fn wait_until(&self, done: impl Fn() -> bool) {
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..16 {
                if done() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        let mut guard = self.sleep.lock().expect("nothing panics under the lock");
        while !done() {
            guard = self.wake.wait(guard).expect("nothing panics under the lock");
        }
    }
}

/// Where a grid is cut: [0, .., end] each.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// Row bounds.
    pub rows: &'a [usize],
    /// Column bounds.
    pub columns: &'a [usize],
}

/// A buffer whose disjoint parts go to different workers.
struct Pieces<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer stands for an exclusive borrow of items that may move between threads.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'a, T> Pieces<'a, T> {
    fn new(items: &'a mut [T]) -> Self {
        Self { start: items.as_mut_ptr(), len: items.len(), owner: PhantomData }
    }

    /// # Safety
    /// No two slices that live at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "piece in the buffer");
        // SAFETY: in bounds; exclusive by the caller's promise; the buffer is borrowed for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// One piece of a grid.
pub struct Rect<'a> {
    pieces: &'a Pieces<'a, f32>,
    stride: usize,
    /// Rows of the matrix.
    pub rows: Range<usize>,
    /// Columns of the matrix.
    pub columns: Range<usize>,
}

impl Rect<'_> {
    /// The piece's part of one of its rows, counted within the piece.
    pub fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows.len(), "row in the piece");
        let start = (self.rows.start + i) * self.stride;
        // SAFETY: pieces of a grid do not overlap (bounds ascend), and `&mut self` keeps two rows
        // of one piece from living at the same time.
        unsafe { self.pieces.slice(start + self.columns.start..start + self.columns.end) }
    }
}

/// Rounding to nearest, subnormals kept, exceptions masked: what the definition assumes. A library
/// in the same process may have changed it.
fn default_float_environment() {
    #[cfg(target_arch = "x86_64")]
    {
        let mut found = 0_u32;
        let default = 0x1f80_u32;
        // SAFETY: stores and loads the control register of this thread through valid addresses.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut found, options(nostack));
            if found & 0xffc0 != default {
                std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const default, options(nostack));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_workers() {
        for workers in [1, 2, 3, 5] {
            let pool = Pool::new(workers).expect("threads start");
            for tasks in [0, 1, 2, 7, 1000] {
                let mut counts = vec![0; tasks];
                for _ in 0..20 {
                    pool.each(&mut counts, |_, _, count| *count += 1);
                }
                assert!(counts.iter().all(|count| *count == 20));
            }
        }
    }

    #[test]
    fn a_grid_covers_its_matrix() {
        let pool = Pool::new(3).expect("threads start");
        let mut matrix = vec![0.0; 7 * 50];
        let bounds = Bounds { rows: &[0, 3, 3, 7], columns: &[0, 16, 32, 40, 50] };
        pool.grid(&mut matrix, 50, bounds, |_, _, _, rect| {
            for i in 0..rect.rows.len() {
                rect.row(i).iter_mut().for_each(|x| *x += 1.0);
            }
        });
        assert!(matrix.iter().all(|x| *x == 1.0));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2).expect("threads start");
        let job = AssertUnwindSafe(|| pool.run(100, &|_, task| assert!(task != 50, "task 50")));
        assert!(catch_unwind(job).is_err());
        let mut items = [0; 10];
        pool.each(&mut items, |_, index, item| *item = index);
        assert_eq!(items[9], 9);
    }

    #[test]
    fn workers_that_slept_wake_up() {
        let pool = Pool::new(2).expect("threads start");
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(5));
            let mut items = [0; 64];
            pool.each(&mut items, |_, index, item| *item = index);
            assert_eq!(items[63], 63);
        }
    }
}
