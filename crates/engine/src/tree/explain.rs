//! What the tree says of itself: every cached prefix, and why a prompt was not found.

use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use qwire_model::TokenId;

use super::{Node, Tree, nearest};
use crate::pages::{PAGE, Pages};
use crate::request::Salt;

/// Evicted pages that are remembered.
const MEMORY: usize = 4096;
/// Cached tokens that are shown where a prompt parts from them.
const SHOWN: usize = 16;

/// What is cached, of one tenant or of all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Pages, each a node of the tree.
    pub pages: usize,
    /// Tokens on them.
    pub tokens: usize,
    /// Prefixes that end there, shown or not.
    pub leaves: usize,
    /// The longest prefixes, as many as were asked for.
    pub prefixes: Vec<Cached>,
}

/// A cached prefix: one path from a root to a leaf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cached {
    /// Whose it is.
    pub salt: Salt,
    /// Its tokens.
    pub tokens: usize,
    /// Of those, on pages that no other prefix shares.
    pub own_tokens: usize,
    /// How long ago it was last read or written.
    pub idle: Duration,
    /// Whether a sequence is using its last page.
    pub running: bool,
}

/// How far a prompt is cached, and what ended it there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Tokens that are cached and would be reused: at most all but the last.
    pub cached_tokens: usize,
    /// Why not more.
    pub miss: Miss,
}

/// Why a prompt is not cached any further.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Miss {
    /// It is: only its last position is computed.
    Nothing,
    /// Nothing of this tenant is cached.
    Unknown,
    /// Other tokens stand where the prompt goes on.
    Diverged {
        /// Where in the prompt.
        position: usize,
        /// The first tokens that are cached there, in the nearest prefix.
        cached: Vec<TokenId>,
    },
    /// The cached prefix ends there.
    Ended {
        /// Where in the prompt.
        position: usize,
    },
    /// More was cached, and had to make room or was to be forgotten.
    Evicted {
        /// Where in the prompt.
        position: usize,
    },
}

impl Tree {
    /// What is cached, of one tenant or of all; of the prefixes the `most` longest, and of equal
    /// ones the latest first.
    pub fn listing(
        &self,
        pages: &Pages,
        salt: Option<Salt>,
        (most, now): (usize, Duration),
    ) -> Listing {
        let mut listing = Listing::default();
        let mut leaves = Vec::new();
        for (at, node) in self.nodes().filter(|(_, node)| salt.is_none_or(|s| s == node.salt)) {
            listing.pages += 1;
            listing.tokens += node.tokens.len();
            if node.children.is_empty() {
                leaves.push((Reverse(node.depth + node.tokens.len()), Reverse(node.used), at));
            }
        }
        leaves.sort_unstable();
        listing.leaves = leaves.len();
        let shown = leaves.iter().take(most);
        listing.prefixes = shown.map(|(.., at)| self.cached(pages, self.node(*at), now)).collect();
        listing
    }

    fn cached(&self, pages: &Pages, leaf: &Node, now: Duration) -> Cached {
        let mut own_tokens = leaf.tokens.len();
        let mut above = leaf.parent.map(|at| self.node(at));
        while let Some(node) = above.filter(|node| node.children.len() == 1) {
            own_tokens += PAGE;
            above = node.parent.map(|at| self.node(at));
        }
        Cached {
            salt: leaf.salt,
            tokens: leaf.depth + leaf.tokens.len(),
            own_tokens,
            idle: now.saturating_sub(leaf.used),
            running: pages.uses(leaf.page) > 1,
        }
    }

    /// Where and why a prompt misses.
    pub fn explain(&self, salt: Salt, tokens: &[u32]) -> Explanation {
        let (path, position) = self.walk(salt, tokens);
        let cached_tokens = position.min(tokens.len().saturating_sub(1));
        let miss = if position >= tokens.len().saturating_sub(1) {
            Miss::Nothing
        } else {
            self.miss(salt, tokens, &path, position)
        };
        Explanation { tokens: tokens.len(), cached_tokens, miss }
    }

    fn miss(&self, salt: Salt, tokens: &[u32], path: &[usize], position: usize) -> Miss {
        let page = position / PAGE * PAGE;
        let above = if page == 0 { seed(salt) } else { self.node(path[page / PAGE - 1]).hash };
        let key = &tokens[page..tokens.len().min(page + PAGE)];
        if self.gone.holds(chain(above, key)) {
            return Miss::Evicted { position };
        }
        let parent = (page > 0).then(|| path[page / PAGE - 1]);
        let Some(children) = self.children(salt, parent) else { return Miss::Unknown };
        let any = || Some((*children.values().next_back()?, 0));
        let found = nearest(children, key).or_else(any);
        let cached = found.map_or(Vec::new(), |(at, common)| self.onward(at, common));
        if cached.is_empty() {
            return Miss::Ended { position };
        }
        Miss::Diverged { position, cached }
    }

    /// The next tokens from inside of a node on.
    fn onward(&self, at: usize, skip: usize) -> Vec<TokenId> {
        let mut node = Some(self.node(at));
        let mut tokens = Vec::new();
        while let Some(here) = node.filter(|_| tokens.len() < skip + SHOWN) {
            tokens.extend(here.tokens.iter().copied().map(TokenId));
            node = here.children.values().next_back().map(|at| self.node(*at));
        }
        tokens.drain(skip..).take(SHOWN).collect()
    }
}

/// Pages that were evicted, as far back as is remembered.
#[derive(Default)]
pub(super) struct Gone {
    order: VecDeque<u64>,
    hashes: HashSet<u64>,
}

impl Gone {
    pub(super) fn note(&mut self, hash: u64) {
        if self.hashes.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > MEMORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }

    fn holds(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }
}

/// Where the chain of a tenant's hashes begins.
pub(super) fn seed(salt: Salt) -> u64 {
    mix(salt.0 as u64 ^ mix((salt.0 >> 64) as u64))
}

/// The hash of a page behind those that `above` stands for. It tells pages apart in reports only.
pub(super) fn chain(above: u64, tokens: &[u32]) -> u64 {
    tokens.iter().fold(above, |hash, token| mix(hash ^ u64::from(*token)))
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Table;

    fn published(tokens: &[&[u32]]) -> (Tree, Pages) {
        let (mut tree, mut pages) = (Tree::default(), Pages::new(16));
        for (at, tokens) in tokens.iter().enumerate() {
            let mut table = Table::default();
            pages.grow(&mut table, tokens.len()).expect("room");
            let now = Duration::from_secs(at as u64);
            tree.publish(&mut pages, (Salt(1), tokens), &mut table, 0, (true, now));
            pages.release(table);
        }
        (tree, pages)
    }

    #[test]
    fn a_miss_has_its_place_and_reason() {
        let long: Vec<u32> = (0..100).collect();
        let (mut tree, mut pages) = published(&[&long]);
        let check = |tree: &Tree, tokens: &[u32], cached_tokens, miss| {
            let expected = Explanation { tokens: tokens.len(), cached_tokens, miss };
            assert_eq!(tree.explain(Salt(1), tokens), expected);
        };
        check(&tree, &long, 99, Miss::Nothing);
        check(&tree, &long[..50], 49, Miss::Nothing);
        let more: Vec<u32> = (0..120).collect();
        check(&tree, &more, 100, Miss::Ended { position: 100 });
        let mut other = more.clone();
        other[70] = 5;
        let shown = |tokens: std::ops::Range<u32>| tokens.map(TokenId).collect();
        let miss = Miss::Diverged { position: 70, cached: shown(70..86) };
        check(&tree, &other, 70, miss);
        check(&tree, &[9, 8, 7], 0, Miss::Diverged { position: 0, cached: shown(0..16) });
        other[60] = 5;
        check(&tree, &other, 60, Miss::Diverged { position: 60, cached: shown(60..76) });
        other[60] = 60;
        let mut late = other.clone();
        (late[70], late[95]) = (70, 5);
        check(&tree, &late, 95, Miss::Diverged { position: 95, cached: shown(95..100) });
        assert_eq!(tree.explain(Salt(2), &long).miss, Miss::Unknown);
        assert!(tree.evict(&mut pages, Duration::from_secs(5)));
        check(&tree, &long, 64, Miss::Evicted { position: 64 });
    }

    #[test]
    fn every_prefix_is_listed_once() {
        let a: Vec<u32> = (0..150).collect();
        let mut b = a.clone();
        b[130] = 0;
        let (tree, pages) = published(&[&a, &b]);
        let check = |tree: &Tree, pages: &Pages, salt, most, expected: &[(usize, usize, u64)]| {
            let listing = tree.listing(pages, salt, (most, Duration::from_secs(9)));
            let shown = listing.prefixes.iter();
            let shown = shown.map(|c| (c.tokens, c.own_tokens, c.idle.as_secs()));
            assert_eq!(shown.collect::<Vec<_>>(), expected);
            (listing.pages, listing.tokens, listing.leaves)
        };
        let all = check(&tree, &pages, None, 9, &[(150, 22, 8), (150, 22, 9)]);
        assert_eq!(all, (4, 172, 2));
        let (tree, pages) = published(&[&a, &[7; 80], &[8; 10]]);
        let longest = [(150, 150, 9), (80, 80, 8)];
        assert_eq!(check(&tree, &pages, Some(Salt(1)), 2, &longest), (6, 240, 3));
        assert_eq!(check(&tree, &pages, Some(Salt(2)), 2, &[]), (0, 0, 0));
    }
}
