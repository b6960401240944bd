//! Worker threads, and the only way buffers are shared among them.
//!
//! A job is a number of tasks; the caller works too. Each worker has a range of neighbouring tasks,
//! so that it reads memory in one stream, and takes from the far end of others' ranges once its
//! own is empty. A job ends with its last task: a worker that the system gave no time is not waited
//! for. Which worker takes a task never influences a result. Waiting spins for some microseconds,
//! then sleeps. Buffers are handed out as disjoint pieces, so the code that computes holds no
//! `unsafe`.
#![allow(unsafe_code)] // lifetimes of a job's closure, disjoint pieces of a buffer, MXCSR

use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qwire_model::Halt;

/// Before sleeping a worker spins this long: most phases follow the last one sooner.
const SPIN: Duration = Duration::from_micros(30);

/// A closure on the stack of the caller of [`Pool::run`].
type Job<'a> = &'a (dyn Fn(usize, usize) + Sync);

struct Shared {
    /// The closure of the tasks in `ranges`.
    job: AtomicPtr<Job<'static>>,
    /// Tasks that nobody has taken yet, one range per worker.
    ranges: Vec<Tasks>,
    /// Tasks that are not finished.
    left: AtomicUsize,
    /// Counts jobs; a worker that sees a new number looks for tasks.
    epoch: AtomicUsize,
    running: AtomicBool,
    panicked: AtomicBool,
    /// While it is set tasks are skipped.
    halt: Halt,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// A range of tasks, on a cache line of its own: the end in the upper half, the start in the lower.
#[repr(align(128))]
struct Tasks(AtomicU64);

impl Tasks {
    fn put(&self, tasks: &Range<usize>) {
        self.0.store((tasks.end as u64) << 32 | tasks.start as u64, Ordering::Release);
    }

    /// Takes the first task, or, from somebody else's, the last.
    fn take(&self, own: bool) -> Option<usize> {
        let narrower = |now: u64| {
            let (start, end) = (now & 0xffff_ffff, now >> 32);
            (start < end).then(|| if own { now + 1 } else { now - (1 << 32) })
        };
        let was = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, narrower).ok()?;
        Some(if own { was & 0xffff_ffff } else { (was >> 32) - 1 } as usize)
    }
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
            job: AtomicPtr::new(ptr::null_mut()),
            ranges: (0..workers).map(|_| Tasks(AtomicU64::new(0))).collect(),
            left: AtomicUsize::new(0),
            epoch: AtomicUsize::new(0),
            running: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            halt: Halt::default(),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
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

    /// What ends jobs early: while it is set tasks that have not begun are skipped.
    pub fn halt(&self) -> Halt {
        self.shared.halt.clone()
    }

    /// Runs `job(worker, task)` for every task; returns when all are done.
    pub fn run(&self, tasks: usize, job: Job<'_>) {
        default_float_environment();
        let (workers, shared) = (self.workers(), &*self.shared);
        if workers == 1 || tasks <= 1 {
            let wanted = (0..tasks).take_while(|_| !shared.halt.is_set());
            wanted.for_each(|task| job(0, task));
            return;
        }
        assert!(u32::try_from(tasks).is_ok(), "{tasks} tasks");
        assert!(!shared.running.swap(true, Ordering::Acquire), "one job at a time");
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        shared.left.store(tasks, Ordering::Relaxed);
        for (worker, range) in shared.ranges.iter().enumerate() {
            range.put(&(tasks * worker / workers..tasks * (worker + 1) / workers));
        }
        shared.epoch.fetch_add(1, Ordering::Release);
        shared.rouse();
        shared.work(0);
        shared.wait_until(|| shared.left.load(Ordering::Acquire) == 0);
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        shared.running.store(false, Ordering::Release);
        assert!(!panicked, "a worker thread panicked");
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
        let needed = rows.checked_mul(stride);
        assert!(needed.is_some_and(|len| len <= matrix.len()), "rows lie in the matrix");
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
        self.shared.rouse();
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
            seen = self.epoch.load(Ordering::Acquire);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.work(worker);
        }
    }

    /// Runs tasks until none is left to take: its own, then those of the workers after it.
    fn work(&self, worker: usize) {
        let workers = self.ranges.len();
        for place in (worker..workers).chain(0..worker) {
            while let Some(task) = self.ranges[place].take(place == worker) {
                self.finish(worker, task);
            }
        }
    }

    /// Runs a task that was taken. A panic is kept for the caller, and later tasks are skipped.
    fn finish(&self, worker: usize, task: usize) {
        if !self.panicked.load(Ordering::Relaxed) && !self.halt.is_set() {
            // SAFETY: `run` stored the pointer before it gave out the task, and neither returns nor
            // stores another before `left` counts this task as finished, below.
            let job = unsafe { *self.job.load(Ordering::Relaxed) };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(worker, task))) {
                self.panicked.store(true, Ordering::Relaxed);
                std::mem::forget(payload); // it might panic again
            }
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 && worker != 0 {
            self.rouse();
        }
    }

    /// Wakes those who sleep, after something they may wait for was stored.
    fn rouse(&self) {
        fence(Ordering::SeqCst); // either this sees the sleeper, or the sleeper what was stored
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            let _guard = self.sleep.lock().expect("nothing panics under the lock");
            self.wake.notify_all();
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
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while !done() {
            guard = self.wake.wait(guard).expect("nothing panics under the lock");
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
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
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Rect<'_> {
    /// Its rows in the matrix.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Its columns.
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

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
            for i in 0..rect.rows().len() {
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
    fn a_halt_skips_what_has_not_begun_until_it_is_taken_back() {
        for workers in [1, 3] {
            let pool = Pool::new(workers).expect("threads start");
            let done = AtomicUsize::new(0);
            let job = |_, _| {
                pool.halt().set();
                done.fetch_add(1, Ordering::Relaxed);
            };
            pool.run(1000, &job);
            assert!((1..=workers).contains(&done.load(Ordering::Relaxed)));
            pool.run(1, &job);
            assert!(pool.halt().take() && done.into_inner() <= workers);
            let mut items = [0; 10];
            pool.each(&mut items, |_, index, item| *item = index);
            assert_eq!(items[9], 9);
        }
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
