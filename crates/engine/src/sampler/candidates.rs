//! The candidates: tokens by falling score, ranked only as deep as someone looks.
//!
//! Order is total: the higher score first, equal scores by the lower id. A vocabulary has 150,000
//! entries and a draw rarely looks at more than a few dozen, so the list holds a ranked head of
//! the vocabulary and grows on demand, until a truncation makes it the whole set.

use super::softmax;
use std::cmp::Ordering;

/// How deep the first ranking goes, and how much deeper each next one.
const FIRST_DEPTH: usize = 256;
const GROWTH: usize = 16;

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub id: u32,
    pub score: f32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that sorting takes")]
fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    let by_score = b.score.partial_cmp(&a.score).expect("poisoned logits are refused before");
    by_score.then(a.id.cmp(&b.id))
}

/// Fills `list` with the best `k` of all scores above −∞, in order, without sorting the rest.
pub fn rank(scores: &[f32], k: usize, list: &mut Vec<Candidate>) {
    list.clear();
    let k = k.min(scores.len());
    if k == 0 {
        return;
    }
    // Ids ascend, so a later score must exceed the worst of the best k to be one of them.
    let mut bar = f32::NEG_INFINITY;
    for (id, &score) in scores.iter().enumerate() {
        if score > bar {
            list.push(Candidate { id: id as u32, score });
            if list.len() == 2 * k {
                bar = list.select_nth_unstable_by(k - 1, best_first).1.score;
                list.truncate(k);
            }
        }
    }
    if list.len() > k {
        list.select_nth_unstable_by(k - 1, best_first);
        list.truncate(k);
    }
    list.sort_unstable_by(best_first);
}

/// The set that the steps of the chain narrow; its memory is kept from token to token.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Truncated: the set. Otherwise: the head of the vocabulary, ranked to `depth`.
    list: Vec<Candidate>,
    depth: usize,
    truncated: bool,
}

impl Candidates {
    /// Starts over with the whole vocabulary.
    pub fn reset(&mut self) {
        self.list.clear();
        self.depth = 0;
        self.truncated = false;
    }

    /// The candidate of this rank, or none when the set has fewer.
    pub fn get(&mut self, scores: &[f32], rank: usize) -> Option<Candidate> {
        while rank >= self.list.len() && !self.truncated && self.list.len() == self.depth {
            let depth = (self.depth * GROWTH).max(FIRST_DEPTH);
            self.rank_to(scores, depth);
        }
        self.list.get(rank).copied()
    }

    /// Starts over with a whole set, in no order.
    pub fn take(&mut self, set: impl Iterator<Item = Candidate>) {
        self.list.clear();
        self.list.extend(set);
        self.list.sort_unstable_by(best_first);
        self.truncated = true;
    }

    fn rank_to(&mut self, scores: &[f32], depth: usize) {
        rank(scores, depth, &mut self.list);
        self.depth = depth;
    }

    /// Keeps the best `k`.
    pub fn truncate(&mut self, scores: &[f32], k: usize) {
        if !self.truncated && self.list.len() < k {
            self.rank_to(scores, k);
        }
        self.list.truncate(k);
        self.truncated = true;
    }

    /// The whole set, in order.
    pub fn all(&mut self, scores: &[f32]) -> &[Candidate] {
        if !self.truncated {
            self.truncate(scores, scores.len());
        }
        &self.list
    }

    /// Keeps the candidates of these ranks, in any order given, and puts them back into order.
    pub fn keep(&mut self, ranks: impl Iterator<Item = usize>, scratch: &mut Vec<Candidate>) {
        scratch.clear();
        scratch.extend(ranks.map(|rank| self.list[rank]));
        std::mem::swap(&mut self.list, scratch);
        self.list.sort_unstable_by(best_first);
        self.truncated = true;
    }

    /// The sum of exp(beta·(score − best)) over the set: by id over the whole vocabulary, by rank
    /// once it has been truncated.
    pub fn mass(&mut self, scores: &[f32], beta: f64) -> f64 {
        let Some(best) = self.get(scores, 0) else { return 0.0 };
        if self.truncated {
            self.list.iter().map(|c| softmax::weight(c.score, best.score, beta)).sum()
        } else {
            softmax::mass(scores, best.score, beta)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(scores: &[f32]) -> Vec<Candidate> {
        let ids = scores.iter().enumerate();
        let mut all: Vec<Candidate> =
            ids.map(|(id, &score)| Candidate { id: id as u32, score }).collect();
        all.retain(|c| c.score > f32::NEG_INFINITY);
        all.sort_by(best_first);
        all
    }

    proptest! {
        #[test]
        fn rank_is_the_head_of_a_full_sort(
            scores in prop::collection::vec(
                prop_oneof![Just(f32::NEG_INFINITY), (-4i8..4).prop_map(f32::from)], 0..200),
            k in 0usize..220,
        ) {
            let mut list = Vec::new();
            rank(&scores, k, &mut list);
            let mut expected = sorted(&scores);
            expected.truncate(k);
            prop_assert_eq!(list, expected);
        }
    }

    #[test]
    fn get_grows_through_the_whole_vocabulary() {
        let scores: Vec<f32> = (0..10_000).map(|i| (i * 7919 % 1009) as f32).collect();
        let expected = sorted(&scores);
        let mut candidates = Candidates::default();
        for (rank, &wanted) in expected.iter().enumerate() {
            assert_eq!(candidates.get(&scores, rank), Some(wanted), "rank {rank}");
        }
        assert_eq!(candidates.get(&scores, 10_000), None);
        candidates.truncate(&scores, 3);
        assert_eq!(candidates.get(&scores, 3), None);
        assert_eq!(candidates.all(&scores), &expected[..3]);
    }

    #[test]
    fn zeros_of_either_sign_are_equal() {
        let mut list = Vec::new();
        rank(&[-0.0, 0.0, -0.0], 3, &mut list);
        assert_eq!(list.iter().map(|c| c.id).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
