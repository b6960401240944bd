//! Lookup: what followed the latest tokens when they came before, as a guess at what follows now.
//!
//! ```text
//! history   ... a b c d e f g h i ...... a b c d e f        the latest six
//!                           └─ found ┘               g h i  guessed
//! step      f, g, h, i: four rows                    right: as many tokens as were drawn alike
//! ```
//! Where a request says what its answer should be, that is looked into first; and where a
//! constraint leaves nearly nothing else to be said, that is guessed.
//!
//! A guess costs a row of the step and changes nothing else: a token is drawn from each row's
//! logits as ever, and rows behind a guess that was wrong are forgotten. Steps of several rows read
//! weights once, so guesses pay where most of them are right, as in code that is written out again;
//! what rows cost and how often guesses are right is learned.

use std::collections::HashMap;

use qwire_model::TokenId;

/// Tokens that must have come before.
const LATEST: usize = 6;
/// Rows of a step: one, two, four and so on.
const SIZES: usize = 5;
/// Most guesses of a step.
pub const MOST_GUESSES: usize = (1 << (SIZES - 1)) - 1;
/// What doubling the rows of a step is taken to cost before it was tried.
const DOUBLED: f64 = 1.4;
/// How much the latest step counts for the cost of its size.
const NEW: f64 = 0.2;
/// What of a cost is believed on after a step that might have been of its size.
const STALE: f64 = 0.995;
/// The chance of a guess to be right, before any was made.
const TRUST: f64 = 0.8;
/// How much the latest guess counts for it, and a chance that was not taken, after enough of which
/// it is tried again.
const COUNTS: (f64, f64) = (0.1, 0.02);

/// Where runs of tokens came last in a text.
#[derive(Debug, Default)]
struct Runs {
    places: HashMap<u64, u32>, // hash of a run, the place behind it
    read: usize,
}

impl Runs {
    /// Reads on to the end of the text. A run that ends there has nothing behind it yet.
    fn read(&mut self, text: &[u32]) {
        for place in self.read.max(LATEST)..text.len() {
            self.places.insert(hash(&text[place - LATEST..place]), place as u32);
        }
        self.read = text.len().max(self.read);
    }

    /// What follows this run in the text.
    fn behind<'a>(&self, run: &[u32], text: &'a [u32]) -> &'a [u32] {
        let place = self.places.get(&hash(run)).map_or(text.len(), |place| *place as usize);
        let is_it = place < text.len() && text[place - LATEST..place] == *run;
        if is_it { &text[place..] } else { &[] } // hashes may be the same
    }
}

/// What comes again in one answer, and how guesses from it went.
#[derive(Debug)]
pub struct Lookup {
    said: Runs, // in the history
    /// The end of the prompt, and what the answer should be.
    predicted: Vec<u32>,
    expected: Runs,
    accepted: usize,
    rejected: usize,
    /// Where the latest guesses are from.
    source: Source,
    trust: [f64; 3], // by source
}

/// What a guess follows from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Said,
    Predicted,
    Forced,
}

impl Lookup {
    /// Knows a prompt, and perhaps what the answer should be.
    pub fn new(prompt: &[u32], prediction: &[TokenId]) -> Self {
        let end = &prompt[prompt.len().saturating_sub(LATEST)..];
        let predicted: Vec<u32> = match prediction {
            [] => Vec::new(),
            tokens => end.iter().copied().chain(tokens.iter().map(|token| token.0)).collect(),
        };
        let mut expected = Runs::default();
        expected.read(&predicted);
        let (said, source, trust) = (Runs::default(), Source::Said, [TRUST; 3]);
        Self { said, predicted, expected, accepted: 0, rejected: 0, source, trust }
    }

    /// What should follow the latest tokens of the history, or followed them when they came last
    /// before, where it begins as it must; otherwise what is forced. At most `most`.
    pub fn find<'a>(&'a mut self, history: &'a [u32], forced: &'a [u32], most: usize) -> &'a [u32] {
        self.said.read(history);
        let latest = &history[history.len().saturating_sub(LATEST)..];
        let begins = |found: &[u32]| {
            let must = forced.first();
            found.first().is_some_and(|first| must.is_none_or(|must| must == first))
        };
        let predicted = self.expected.behind(latest, &self.predicted);
        let said = self.said.behind(latest, history);
        let mut sources = [(Source::Predicted, predicted), (Source::Said, said)].into_iter();
        let found = sources.find(|(_, found)| begins(found));
        let (source, found) = found.unwrap_or((Source::Forced, forced));
        self.source = source;
        &found[..most.min(found.len())]
    }

    /// So many guesses were right and so many of no use, which says nothing of them where the
    /// answer ended. If they were predicted: how many of those were of use and how many were not,
    /// so far.
    pub fn learn(&mut self, right: usize, lost: usize, ended: bool) -> Option<(usize, usize)> {
        let trust = &mut self.trust[self.source as usize];
        (0..right).for_each(|_| *trust += COUNTS.0 * (1.0 - *trust));
        if lost > 0 && !ended {
            *trust -= COUNTS.0 * *trust;
        }
        if self.source != Source::Predicted {
            return None;
        }
        self.accepted += right;
        self.rejected += lost;
        Some((self.accepted, self.rejected))
    }
}

/// What steps cost by their rows, of one answer alone.
#[derive(Debug, Default)]
pub struct Odds {
    costs: [Option<f64>; SIZES], // seconds
}

impl Odds {
    /// A step of so many rows took so long.
    pub fn learn(&mut self, rows: usize, seconds: f64) {
        let at = size(rows);
        if let Some(cost) = self.costs.get_mut(at).filter(|_| rows == 1 << at) {
            *cost = Some(cost.map_or(seconds, |cost| cost + NEW * (seconds - cost)));
        }
    }

    /// How many of the guesses that were found are worth their rows: those with which most tokens
    /// come in the time. None before the cost of a single row is known.
    pub fn worth(&mut self, found: usize, lookup: &mut Lookup) -> usize {
        let Some(one) = self.costs[0].filter(|_| found > 0) else { return 0 };
        let trust = lookup.trust[lookup.source as usize];
        let (mut best, mut speed, mut cost) = (0, 1.0 / one.max(f64::MIN_POSITIVE), one);
        for at in 1..SIZES {
            let (half, below) = (1 << (at - 1), cost);
            cost = self.costs[at].unwrap_or(DOUBLED * below).max(f64::MIN_POSITIVE);
            let guesses = found.min(2 * half - 1);
            let share = (guesses + 1 - half) as f64 / half as f64;
            let tokens = (0..guesses).fold(1.0, |tokens, _| 1.0 + trust * tokens);
            let found_speed = tokens / (below + share * (cost - below));
            if found_speed > speed {
                (best, speed) = (guesses, found_speed);
            }
            if guesses == found {
                break;
            }
        }
        let taken = size(best + 1);
        let others = self.costs.iter_mut().enumerate().skip(1).filter(|(at, _)| *at != taken);
        others.for_each(|(_, cost)| *cost = cost.map(|cost| STALE * cost));
        if best == 0 {
            lookup.trust[lookup.source as usize] += COUNTS.1 * (TRUST - trust);
        }
        best
    }
}

/// The smallest size that holds so many rows.
fn size(rows: usize) -> usize {
    rows.next_power_of_two().trailing_zeros() as usize
}

/// FNV-1a over tokens.
fn hash(tokens: &[u32]) -> u64 {
    let mix = |hash: u64, token: &u32| (hash ^ u64::from(*token)).wrapping_mul(0x0100_0000_01b3);
    tokens.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_last_is_found_as_the_history_grows() {
        let mut lookup = Lookup::new(&[], &[]);
        let mut history: Vec<u32> = (0..20).chain(90..95).chain(2..8).collect();
        assert_eq!(lookup.find(&history[..20], &[], 4), []);
        assert_eq!(lookup.find(&history[..30], &[], 4), [], "five are not enough");
        assert_eq!(lookup.find(&history, &[], 4), [8, 9, 10, 11]);
        history.extend([8, 77]);
        assert_eq!(lookup.find(&history, &[], 4), []);
        history.extend(2..9);
        assert_eq!(lookup.find(&history, &[], 2), [77, 2], "the later of two places");
        let constant = [1; 9];
        assert_eq!(Lookup::new(&[], &[]).find(&constant, &[], 4), [1], "all there is");
        assert_eq!(Lookup::new(&[], &[]).find(&constant[..3], &[], 4), []);
    }

    #[test]
    fn what_the_answer_should_be_is_found_from_its_beginning_on() {
        let prompt: Vec<u32> = (0..50).chain(10..18).collect();
        let prediction = [70, 71, 72, 73, 74, 75, 76, 77, 78].map(TokenId);
        let mut lookup = Lookup::new(&prompt, &prediction);
        assert_eq!(
            lookup.find(&prompt, &[], 3),
            [70, 71, 72],
            "not 18, which followed in the prompt"
        );
        assert_eq!(lookup.learn(1, 2, false), Some((1, 2)));
        let mut history = prompt;
        history.extend([70, 99]);
        assert_eq!(lookup.find(&history, &[], 3), []);
        history.extend(71..77);
        assert_eq!(lookup.find(&history, &[], 3), [77, 78], "it goes on behind what is else");
        history.extend(20..26);
        assert_eq!(lookup.find(&history, &[], 1), [26]);
        assert_eq!(lookup.learn(1, 0, false), None, "that was not predicted");
        let mut short = Lookup::new(&[1, 2], &prediction);
        assert_eq!(short.find(&[1, 2], &[], 3), [], "six are not there");
        assert_eq!(short.find(&[1, 2, 70, 71, 72, 73], &[], 3), [74, 75, 76]);
    }

    #[test]
    fn what_is_forced_is_guessed_unless_more_is_known_that_begins_so() {
        let history: Vec<u32> = (0..20).chain(2..8).collect();
        let mut lookup = Lookup::new(&history, &[]);
        assert_eq!(lookup.find(&history, &[8], 3), [8, 9, 10]);
        assert_eq!(lookup.find(&history, &[50, 51], 3), [50, 51]);
        assert_eq!(lookup.find(&history[..3], &[50, 51], 1), [50], "from the beginning on");
        // That one source is wrong says nothing of another.
        (0..20).for_each(|_| {
            lookup.learn(0, 2, false);
        });
        let mut odds = Odds::default();
        odds.learn(1, 0.010);
        assert_eq!(odds.worth(2, &mut lookup), 0);
        lookup.find(&history, &[], 3);
        assert!(odds.worth(2, &mut lookup) > 0);
    }

    #[test]
    fn guesses_are_made_while_they_pay() {
        let (mut odds, mut lookup) = (Odds::default(), Lookup::new(&[], &[]));
        assert_eq!(odds.worth(15, &mut lookup), 0, "nothing is known");
        odds.learn(1, 0.010);
        assert_eq!(odds.worth(15, &mut lookup), 7, "doubling is taken to cost little");
        for (rows, seconds) in [(2, 0.012), (4, 0.021), (8, 0.038), (16, 0.060)] {
            odds.learn(rows, seconds);
        }
        assert_eq!((odds.worth(15, &mut lookup), odds.worth(1, &mut lookup)), (1, 1));
        (0..20).for_each(|_| {
            lookup.learn(15, 0, false);
        });
        assert_eq!([15, 5, 2].map(|found| odds.worth(found, &mut lookup)), [15, 5, 2]);
        (0..20).for_each(|_| {
            lookup.learn(0, 15, false);
        });
        assert_eq!(odds.worth(15, &mut lookup), 0);
        let again = (0..999).position(|_| odds.worth(15, &mut lookup) > 0);
        assert!(again.is_some_and(|times| times > 2), "{again:?}");
    }
}
