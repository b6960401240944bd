//! The pool's protocol as a machine of small steps, every interleaving of which is walked: nobody
//! sleeps for ever, every task runs once, and no job outlives the call that brought it.
//!
//! ```text
//! caller   job, left, ranges, epoch+1, rouse │ take, run, left-1 │ wait: left = 0
//! worker   wait: epoch ≠ seen │ take, run, left-1, rouse if that was the last
//! wait     look │ lock, sleepers+1 │ look, sleep .. │ sleepers-1, unlock
//! rouse    sleepers > 0? │ lock, wake all, unlock
//! ```
//! Each step is one access to shared memory in `src/pool.rs`, in its order, and all see them in
//! one order: that stores become visible late is kept out by the fences there, and
//! [`Flaw::LateStore`] shows what would happen without. The flaws prove that the walk finds them.

use std::collections::HashSet;

const WORKERS: usize = 3;
const TASKS: usize = 3;
const RUNS: u8 = 2;

/// What is wrong with the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    /// Sleepers are woken without the lock.
    UnlockedWake,
    /// Sleepers are counted before the store that they wait for is seen.
    LateStore,
    /// The last task wakes nobody.
    SilentEnd,
    /// The call returns when nothing is left to take, not when nothing is left to do.
    EarlyReturn,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Job,
    Left,
    Range(u8),
    /// Only with a late store: sleepers are counted now, the epoch becomes visible after.
    EarlyLook,
    Epoch,
    Look,
    WakeLock,
    Wake,
    Take,
    Run,
    Count,
    Spin,
    Lock,
    AddSleeper,
    Check,
    Fall,
    Asleep,
    Relock,
    DropSleeper,
    Awake,
    Stop,
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Thread {
    at: At,
    /// Where it goes on after waking others.
    after: At,
    seen: u8,
    task: (u8, u8), // run, task
    /// Whether it saw sleepers before its store.
    saw: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    job: u8,
    left: u8,
    ranges: [(u8, u8, u8); WORKERS], // run, start, end
    epoch: u8,
    stop: bool,
    sleepers: u8,
    lock: Option<usize>,
    threads: [Thread; WORKERS],
    ran: [[u8; TASKS]; RUNS as usize],
}

impl World {
    fn new() -> Self {
        let idle = Thread { at: At::Spin, after: At::Take, seen: 0, task: (0, 0), saw: false };
        let mut threads = [idle; WORKERS];
        threads[0].at = At::Job;
        Self {
            job: 0,
            left: 0,
            ranges: [(0, 0, 0); WORKERS],
            epoch: 0,
            stop: false,
            sleepers: 0,
            lock: None,
            threads,
            ran: [[0; TASKS]; RUNS as usize],
        }
    }

    /// What a thread waits for.
    fn is_done(&self, who: usize, flaw: Flaw) -> bool {
        if who > 0 {
            return self.epoch != self.threads[who].seen;
        }
        if flaw == Flaw::EarlyReturn {
            return self.ranges.iter().all(|range| range.1 == range.2);
        }
        self.left == 0
    }

    /// The world after this thread's next step; none where it cannot take one.
    fn step(&self, who: usize, flaw: Flaw) -> Result<Option<Self>, String> {
        let (mut next, me) = (self.clone(), self.threads[who]);
        let own = &mut next.threads[who];
        match me.at {
            At::Over | At::Asleep => return Ok(None),
            At::Job => {
                next.job = own.seen + 1; // the caller counts its runs there
                own.at = At::Left;
            }
            At::Left => (next.left, own.at) = (TASKS as u8, At::Range(0)),
            At::Range(at) => {
                let (run, i) = (own.seen + 1, at as usize);
                let bound = |i: usize| (TASKS * i / WORKERS) as u8;
                next.ranges[i] = (run, bound(i), bound(i + 1));
                let early = if flaw == Flaw::LateStore { At::EarlyLook } else { At::Epoch };
                own.at = if i + 1 == WORKERS { early } else { At::Range(at + 1) };
            }
            At::EarlyLook => (own.saw, own.at) = (self.sleepers > 0, At::Epoch),
            At::Epoch => {
                next.epoch += 1;
                own.seen += 1;
                own.after = if self.stop { At::Over } else { At::Take };
                own.at = match (flaw, own.saw) {
                    (Flaw::LateStore, true) => At::WakeLock,
                    (Flaw::LateStore, false) => own.after,
                    _ => At::Look,
                };
            }
            At::Look if self.sleepers == 0 => own.at = own.after,
            At::Look => own.at = if flaw == Flaw::UnlockedWake { At::Wake } else { At::WakeLock },
            At::WakeLock | At::Lock | At::Relock if self.lock.is_some() => return Ok(None),
            At::WakeLock => (next.lock, own.at) = (Some(who), At::Wake),
            At::Wake => {
                own.at = own.after;
                next.lock = next.lock.filter(|holder| *holder != who);
                let asleep = next.threads.iter_mut().filter(|thread| thread.at == At::Asleep);
                asleep.for_each(|thread| thread.at = At::Relock);
            }
            At::Take => next.take(who),
            At::Run => next.run(who)?,
            At::Count => {
                next.left -= 1;
                own.after = At::Take;
                let wakes = next.left == 0 && who > 0 && flaw != Flaw::SilentEnd;
                own.at = if wakes { At::Look } else { At::Take };
            }
            At::Spin
            | At::Lock
            | At::AddSleeper
            | At::Check
            | At::Fall
            | At::Relock
            | At::DropSleeper => next.wait(who, self.is_done(who, flaw)),
            At::Awake if who > 0 => {
                own.seen = self.epoch;
                own.at = if self.stop { At::Over } else { At::Take };
            }
            At::Awake => next.returned()?,
            At::Stop => (next.stop, own.at) = (true, At::Epoch),
        }
        Ok(Some(next))
    }

    /// Runs the task that was taken, with the job that is there.
    fn run(&mut self, who: usize) -> Result<(), String> {
        let (run, task) = self.threads[who].task;
        if self.job != run {
            return Err(format!("task {task} of run {run} has the job of {}", self.job));
        }
        self.ran[run as usize - 1][task as usize] += 1;
        self.threads[who].at = At::Count;
        Ok(())
    }

    /// The call returns: everything must have been done once.
    fn returned(&mut self) -> Result<(), String> {
        let run = self.threads[0].seen;
        if self.ran[run as usize - 1] != [1; TASKS] {
            return Err(format!("run {run} returned with {:?}", self.ran));
        }
        self.threads[0].at = if run == RUNS { At::Stop } else { At::Job };
        Ok(())
    }

    /// A step of waiting.
    fn wait(&mut self, who: usize, done: bool) {
        let own = &mut self.threads[who];
        match own.at {
            At::Spin => own.at = if done { At::Awake } else { At::Lock },
            At::Lock => (self.lock, own.at) = (Some(who), At::AddSleeper),
            At::AddSleeper => (self.sleepers, own.at) = (self.sleepers + 1, At::Check),
            At::Check => own.at = if done { At::DropSleeper } else { At::Fall },
            At::Fall => (self.lock, own.at) = (None, At::Asleep),
            At::Relock => (self.lock, own.at) = (Some(who), At::Check),
            _ => (self.sleepers, self.lock, own.at) = (self.sleepers - 1, None, At::Awake),
        }
    }

    /// Takes a task, its own first; goes to wait where none is left.
    fn take(&mut self, who: usize) {
        for place in (who..WORKERS).chain(0..who) {
            let (run, start, end) = &mut self.ranges[place];
            if start < end {
                let task = if place == who { *start } else { *end - 1 };
                if place == who {
                    *start += 1;
                } else {
                    *end -= 1;
                }
                (self.threads[who].task, self.threads[who].at) = ((*run, task), At::Run);
                return;
            }
        }
        self.threads[who].at = At::Spin;
    }
}

/// Walks every interleaving; how many worlds there are, or what went wrong in one.
fn walk(flaw: Flaw) -> Result<usize, String> {
    let (mut seen, mut open) = (HashSet::new(), vec![World::new()]);
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        let mut stuck = true;
        for who in 0..WORKERS {
            if let Some(next) = world.step(who, flaw)? {
                stuck = false;
                open.push(next);
            }
        }
        if stuck && world.threads.iter().any(|thread| thread.at != At::Over) {
            return Err(format!("nobody can go on: {world:?}"));
        }
    }
    Ok(seen.len())
}

#[test]
fn every_interleaving_ends_well() {
    let worlds = walk(Flaw::None).unwrap_or_else(|fault| panic!("{fault}"));
    println!("{worlds} worlds");
    assert!(worlds > 10_000, "{worlds} worlds are too few to mean anything");
}

#[test]
fn flaws_are_found() {
    for (flaw, words) in [
        (Flaw::UnlockedWake, "nobody can go on"),
        (Flaw::LateStore, "nobody can go on"),
        (Flaw::SilentEnd, "nobody can go on"),
        (Flaw::EarlyReturn, "run "),
    ] {
        let fault = walk(flaw).err().unwrap_or_else(|| panic!("{flaw:?} is not found"));
        assert!(fault.contains(words), "{flaw:?}: {fault}");
    }
}
