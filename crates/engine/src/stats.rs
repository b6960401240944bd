//! What there is to count and to measure, for whoever exports it.

use std::time::Duration;

use crate::event::{Finish, Usage};
use crate::request::RequestId;

/// A moment of the engine.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Answers under way.
    pub running: usize,
    /// Answers that wait.
    pub waiting: usize,
    /// Pages in all.
    pub pages: usize,
    /// Pages that hold nothing.
    pub free_pages: usize,
    /// Pages that the prefix tree holds.
    pub cached_pages: usize,
    /// Of those, the ones that no sequence is using.
    pub idle_pages: usize,
    /// Sums since the start.
    pub counters: Counters,
}

/// How far an answer is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Its request.
    pub request: RequestId,
    /// Which of the request's choices.
    pub choice: usize,
    /// What it took so far.
    pub usage: Usage,
    /// Positions that are computed.
    pub computed: usize,
    /// Most tokens it may have.
    pub max_tokens: usize,
}

impl Stats {
    /// The share of pages that running sequences use, 0 to 1.
    pub fn kv_use(&self) -> f64 {
        let used = self.pages - self.free_pages - self.idle_pages;
        used as f64 / self.pages.max(1) as f64
    }
}

/// Sums since the start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Requests that were not accepted.
    pub refused: u64,
    /// Answers that left the queue.
    pub started: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Of those, what was cached.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub answered: u64,
    /// Positions computed, those computed again among them.
    pub computed: u64,
    /// Steps of the runner.
    pub steps: u64,
    /// Tokens that were guessed ahead.
    pub guessed: u64,
    /// Of those, the ones that were drawn.
    pub guessed_right: u64,
    /// Answers the model ended.
    pub stopped: u64,
    /// Answers that were long enough.
    pub exhausted: u64,
    /// Answers that went round in a circle.
    pub repeated: u64,
    /// Answers that nobody wanted any more.
    pub cancelled: u64,
    /// Answers that could not go on.
    pub failed: u64,
    /// Of those, by a panic.
    pub panics: u64,
    /// Panics of the runner; each may have ended several answers.
    pub crashes: u64,
    /// Steps and layers that ended early, because nobody wanted them any more.
    pub halted: u64,
    /// Times that a sequence went back to the queue.
    pub preempted: u64,
    /// Prompts in the middle of their layers that went over to another request.
    pub handed_over: u64,
    /// Cached pages that made room.
    pub evicted: u64,
    /// Tokens of prompts whose pages came from a store.
    pub restored_tokens: u64,
    /// Pages that made room before a store had them.
    pub unkept: u64,
    /// From arrival to the start.
    pub queue: Histogram,
    /// From arrival to the first token.
    pub first_token: Histogram,
    /// From token to token.
    pub next_token: Histogram,
}

impl Counters {
    /// The share of prompt tokens that were cached, 0 to 1.
    pub fn hit_ratio(&self) -> f64 {
        self.cached_tokens as f64 / self.prompt_tokens.max(1) as f64
    }

    pub(crate) fn started(&mut self, prompt: usize, cached: usize) {
        self.started += 1;
        self.prompt_tokens += prompt as u64;
        self.cached_tokens += cached as u64;
    }

    pub(crate) fn finished(&mut self, finish: Finish) {
        *match finish {
            Finish::Stop => &mut self.stopped,
            Finish::Length => &mut self.exhausted,
            Finish::Repetition => &mut self.repeated,
            Finish::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

/// Upper bounds of a histogram's buckets, in seconds; one more bucket holds the rest.
pub const BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Times by size.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// How many fell into each bucket and no earlier one.
    pub counts: [u64; BUCKETS.len() + 1],
    /// The sum of all, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.counts[BUCKETS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let mut histogram = Histogram::default();
        [0, 1, 2, 400_000].into_iter().for_each(|ms| histogram.add(Duration::from_millis(ms)));
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[16]), (2, 1, 1));
        assert_eq!((histogram.count(), histogram.sum), (4, 400.003));
    }
}
