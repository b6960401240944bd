//! DRY, "don't repeat yourself": the penalty on the token that would continue a repetition.
//!
//! ```text
//! window      … a b c x … a b c | ?        the suffix "a b c" stood before, followed by x
//! length(x)   the longest such suffix over all earlier occurrences, here 3
//! score[x]    −= multiplier · base^(length − allowed_length)     where length ≥ allowed_length
//! ```
//! A breaker (a newline, a quote, the opening of a chat turn) ends a match: only tokens after the
//! last breaker in the window count, and a token that is a breaker by itself is never penalised.
//! Lengths come from one pass of the Z algorithm over the window read backwards, linear in it.

/// The parameters of the penalty.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// The penalty of a match of exactly the allowed length; 0 is off.
    pub multiplier: f32,
    /// How the penalty grows with each further token; at least 1.
    pub base: f32,
    /// The shortest match that is penalised.
    pub allowed_length: u32,
    /// How many of the last tokens are searched; `u32::MAX` is all, 0 is off.
    pub window: u32,
    /// Token sequences over which no match reaches.
    pub breakers: Vec<Vec<u32>>,
}

impl Default for Dry {
    fn default() -> Self {
        Self {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            window: u32::MAX,
            breakers: Vec::new(),
        }
    }
}

impl Dry {
    /// Whether the penalty can change a score.
    pub fn is_on(&self) -> bool {
        self.multiplier > 0.0 && self.window > 0
    }

    /// What to subtract for a match of this length.
    fn penalty(&self, length: u32) -> f32 {
        let grown = libm::pow(f64::from(self.base), f64::from(length - self.allowed_length));
        // A product beyond f32 becomes its largest number, and the score stays finite.
        (f64::from(self.multiplier) * grown).min(f64::from(f32::MAX)) as f32
    }

    /// Subtracts the penalties. `tally` holds a zero per token before and after.
    pub fn apply(&self, scores: &mut [f32], window: &[u32], work: &mut Work, tally: &mut [u32]) {
        let limit = self.after_last_breaker(window);
        if limit < self.allowed_length as usize {
            return;
        }
        work.matches(window);
        // The longest match per token, gathered first and spent once.
        for (i, &length) in work.lengths.iter().enumerate().skip(1) {
            let Some(longest) = tally.get_mut(following(window, i) as usize) else { continue };
            let length = length.min(limit as u32);
            if length >= self.allowed_length.max(1) {
                *longest = length.max(*longest);
            }
        }
        for i in 1..window.len() {
            let token = following(window, i);
            let Some(longest) = tally.get_mut(token as usize) else { continue };
            let length = std::mem::take(longest);
            if length > 0 && !self.breakers.iter().any(|breaker| *breaker == [token]) {
                let score = &mut scores[token as usize];
                *score = super::lowered(*score, self.penalty(length));
            }
        }
    }

    /// How many tokens follow the breaker that ends last.
    fn after_last_breaker(&self, window: &[u32]) -> usize {
        let after = |breaker: &Vec<u32>| {
            window.windows(breaker.len()).rev().position(|part| part == breaker.as_slice())
        };
        self.breakers.iter().filter_map(after).min().unwrap_or(window.len())
    }
}

/// The token after the earlier occurrence whose last token is `i` tokens before the end.
fn following(window: &[u32], i: usize) -> u32 {
    window[window.len() - i]
}

/// Scratch, kept from token to token.
#[derive(Debug, Default)]
pub struct Work {
    /// `[window]`: how many tokens, read backwards from i before the end, equal the suffix.
    lengths: Vec<u32>,
}

impl Work {
    /// The Z function of the window read backwards.
    fn matches(&mut self, window: &[u32]) {
        let n = window.len();
        let back = |i: usize| window[n - 1 - i];
        self.lengths.clear();
        self.lengths.resize(n, 0);
        // [left, right) is the stretch known to equal the beginning that reaches furthest.
        let (mut left, mut right) = (0, 0);
        for i in 1..n {
            let known =
                if i < right { (self.lengths[i - left] as usize).min(right - i) } else { 0 };
            let mut length = known;
            while i + length < n && back(length) == back(i + length) {
                length += 1;
            }
            self.lengths[i] = length as u32;
            if i + length > right {
                (left, right) = (i, i + length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The penalties that `dry` gives each of eight tokens.
    fn penalties(dry: &Dry, window: &[u32]) -> [f32; 8] {
        let mut scores = [0.0; 8];
        let mut tally = [0; 8];
        dry.apply(&mut scores, window, &mut Work::default(), &mut tally);
        assert_eq!(tally, [0; 8], "the tally is left as it was found");
        scores.map(|score: f32| 0.0 - score)
    }

    fn dry(breakers: &[&[u32]]) -> Dry {
        let breakers = breakers.iter().map(|breaker| breaker.to_vec()).collect();
        Dry { multiplier: 2.0, base: 3.0, breakers, ..Dry::default() }
    }

    #[test]
    fn cases_by_hand() {
        let check = |breakers: &[&[u32]], window: &[u32], expected: &[(usize, f32)]| {
            let mut wanted = [0.0; 8];
            for &(token, penalty) in expected {
                wanted[token] = penalty;
            }
            assert_eq!(penalties(&dry(breakers), window), wanted, "{window:?}, {breakers:?}");
        };
        check(&[], &[], &[]);
        check(&[], &[1], &[]);
        check(&[], &[1, 2, 1], &[]); // one token matches, two are allowed
        check(&[], &[1, 2, 3, 1, 2], &[(3, 2.0)]);
        check(&[], &[5, 1, 2, 3, 5, 1, 2], &[(3, 6.0)]);
        check(&[], &[1, 1, 1, 1], &[(1, 6.0)]); // three ones before the last one, overlapping
        check(&[], &[1, 2, 3, 1, 2, 4, 1, 2], &[(3, 2.0), (4, 2.0)]);
        check(&[], &[1, 2, 3, 0, 1, 2, 3, 1, 2], &[(3, 2.0)]);
        check(&[], &[9, 1, 2, 3, 9, 1, 2], &[(3, 6.0)]); // 9 is outside of the vocabulary
        check(&[], &[1, 2, 9, 1, 2], &[]);
        // Breakers: inside of the match, at its edge, as the candidate, as a sequence.
        check(&[&[1]], &[5, 1, 2, 3, 5, 1, 2], &[]);
        check(&[&[5]], &[5, 1, 2, 3, 5, 1, 2], &[(3, 2.0)]);
        check(&[&[3]], &[1, 2, 3, 1, 2], &[]);
        check(&[&[3, 1]], &[0, 1, 2, 3, 1, 2, 0, 1, 2], &[(3, 6.0), (0, 2.0)]);
        check(&[&[5, 1]], &[5, 1, 2, 3, 5, 1, 2], &[]);
        check(&[&[2]], &[1, 2, 3, 1, 2], &[]);
    }

    #[test]
    fn a_huge_penalty_stays_finite() {
        let dry = Dry { multiplier: f32::MAX, base: f32::MAX, ..Dry::default() };
        assert_eq!(penalties(&dry, &[1; 60])[1], f32::MAX);
    }

    proptest! {
        #[test]
        fn matches_equal_their_definition(window in prop::collection::vec(0u32..3, 0..60)) {
            let mut work = Work::default();
            work.matches(&window);
            let n = window.len();
            for i in 1..n {
                let pairs = (0..n - i).take_while(|&k| window[n - 1 - k] == window[n - 1 - i - k]);
                prop_assert_eq!(work.lengths[i] as usize, pairs.count());
            }
        }
    }
}
