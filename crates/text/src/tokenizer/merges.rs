//! Merges: which pairs of tokens become one, and in which order (byte-pair encoding).
//!
//! The definition: while any adjacent pair has a rank, join the pair of the lowest rank, the
//! leftmost of equals. A heap of ranked pairs over a linked list of symbols does it in
//! O(n log n), so that a megabyte without a space costs no more than a megabyte of prose.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Merge {
    rank: u32,
    result: u32,
}

/// The ranked pairs of a vocabulary. The hash is seeded, as pairs come from a file.
#[derive(Default)]
pub(crate) struct Merges {
    pairs: HashMap<(u32, u32), Merge>,
}

/// Room for one word at a time, reused from word to word.
#[derive(Default)]
pub(crate) struct Bench {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<(u32, u32)>>, // (rank, left)
}

/// One symbol of the word and the merge with its right neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    left: u32,
    right: u32,
    rank: u32,
    result: u32,
}

impl Merges {
    /// Adds the next pair in order of rank; false when the pair already has a rank.
    pub(crate) fn push(&mut self, rank: u32, pair: (u32, u32), result: u32) -> bool {
        let mut added = false;
        self.pairs.entry(pair).or_insert_with(|| {
            added = true;
            Merge { rank, result }
        });
        added
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Joins the symbols `ids` of one word as far as they go and appends what is left to `out`.
    pub(crate) fn join(
        &self,
        ids: impl Iterator<Item = u32>,
        bench: &mut Bench,
        out: &mut Vec<u32>,
    ) {
        let Bench { symbols, heap } = bench;
        symbols.clear();
        symbols.extend((0..).zip(ids).map(|(at, id)| Symbol {
            id,
            left: if at == 0 { NONE } else { at - 1 },
            right: at + 1,
            rank: NONE,
            result: 0,
        }));
        let Some(last) = symbols.last_mut() else { return };
        last.right = NONE;
        heap.clear();
        for at in 0..symbols.len() as u32 {
            self.rank(symbols, at, heap);
        }
        while let Some(Reverse((rank, at))) = heap.pop() {
            let here = symbols[at as usize];
            if here.rank != rank {
                continue; // the pair has changed since, or is gone
            }
            let gone = here.right;
            let right = symbols[gone as usize].right;
            symbols[gone as usize].rank = NONE;
            symbols[at as usize].id = here.result;
            symbols[at as usize].right = right;
            if right != NONE {
                symbols[right as usize].left = at;
            }
            self.rank(symbols, at, heap);
            if here.left != NONE {
                self.rank(symbols, here.left, heap);
            }
        }
        let mut at = 0;
        while at != NONE {
            out.push(symbols[at as usize].id);
            at = symbols[at as usize].right;
        }
    }

    /// Ranks the pair that starts at `at` anew.
    fn rank(&self, symbols: &mut [Symbol], at: u32, heap: &mut BinaryHeap<Reverse<(u32, u32)>>) {
        let here = symbols[at as usize];
        let pair = symbols.get(here.right as usize).map(|right| (here.id, right.id));
        let merge = pair.and_then(|pair| self.pairs.get(&pair));
        let here = &mut symbols[at as usize];
        here.rank = NONE;
        if let Some(merge) = merge {
            (here.rank, here.result) = (merge.rank, merge.result);
            heap.push(Reverse((merge.rank, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word.
    fn naive(merges: &Merges, mut ids: Vec<u32>) -> Vec<u32> {
        loop {
            let ranked = ids.windows(2).enumerate().filter_map(|(at, pair)| {
                merges.pairs.get(&(pair[0], pair[1])).map(|m| (m.rank, at, m.result))
            });
            let Some((_, at, result)) = ranked.min() else { return ids };
            ids.splice(at..at + 2, [result]);
        }
    }

    fn joined(merges: &Merges, ids: &[u32]) -> Vec<u32> {
        let mut out = Vec::new();
        merges.join(ids.iter().copied(), &mut Bench::default(), &mut out);
        out
    }

    #[test]
    fn the_lowest_rank_first_then_the_leftmost() {
        let mut merges = Merges::default();
        assert!(merges.push(0, (1, 2), 10));
        assert!(merges.push(1, (1, 1), 11));
        assert!(!merges.push(2, (1, 2), 12));
        assert!(merges.push(3, (11, 11), 13));
        assert!(joined(&merges, &[]).is_empty());
        assert_eq!(joined(&merges, &[1, 1, 2]), [1, 10]);
        assert_eq!(joined(&merges, &[1, 1, 1]), [11, 1]);
        assert_eq!(joined(&merges, &[1, 1, 1, 1, 1]), [13, 1]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            pairs in prop::collection::vec((0..6u32, 0..6u32, 0..6u32), 0..20),
            ids in prop::collection::vec(0..6u32, 0..40),
        ) {
            let mut merges = Merges::default();
            for (rank, (left, right, result)) in (0..).zip(pairs) {
                merges.push(rank, (left, right), result);
            }
            prop_assert_eq!(joined(&merges, &ids), naive(&merges, ids));
        }
    }
}
