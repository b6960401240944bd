//! Repetition: an answer that goes round in a circle, token for token.

/// Tokens of the longest circle.
const PERIODS: usize = 64;
/// Rounds before it counts.
const ROUNDS: usize = 32;
/// Tokens before it counts.
const TOKENS: usize = 512;

/// How long each period has held.
#[derive(Debug)]
pub struct Repetition {
    held: [usize; PERIODS], // [period - 1], tokens equal to the one a period before
}

impl Default for Repetition {
    fn default() -> Self {
        Self { held: [0; PERIODS] }
    }
}

impl Repetition {
    /// Looks at the last token of an answer; true once it has gone round often enough.
    pub fn goes_round(&mut self, answer: &[u32]) -> bool {
        let Some((token, before)) = answer.split_last() else { return false };
        let mut circles = false;
        for (held, period) in self.held.iter_mut().zip(1..) {
            let equal = before.len() >= period && before[before.len() - period] == *token;
            *held = if equal { *held + 1 } else { 0 };
            circles |= *held + period >= TOKENS.max(period * ROUNDS);
        }
        circles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_end_and_lists_do_not() {
        let check = |period: usize, expected: Option<usize>| {
            let mut repetition = Repetition::default();
            let answer: Vec<u32> = (0..4000).map(|at| (at % period) as u32).collect();
            let found = (1..=4000).find(|len| repetition.goes_round(&answer[..*len]));
            assert_eq!(found, expected, "period {period}");
        };
        check(1, Some(512));
        check(16, Some(512));
        check(64, Some(2048));
        check(65, None);
    }
}
