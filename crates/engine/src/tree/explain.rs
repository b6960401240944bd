//! What the tree says of itself: every cached prefix, and why a prompt was not found.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use qwire_model::TokenId;

use super::{Node, Tree, nearest};
use crate::pages::{PAGE, Pages};
use crate::request::Salt;

/// Evicted pages that are remembered.
const MEMORY: usize = 4096;

/// A cached prefix: one path from a root to a leaf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cached {
    /// Whose it is.
    pub salt: Salt,
    /// Its tokens.
    pub tokens: usize,
    /// Of those, on pages that no other prefix shares.
    pub own_tokens: usize,
    /// When it was last read or written, on the engine's clock.
    pub used: Duration,
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
    /// Another token stands where the prompt goes on.
    Diverged {
        /// Where in the prompt.
        position: usize,
        /// The token that is cached there, in the nearest prefix.
        cached: TokenId,
        /// The prompt's.
        asked: TokenId,
    },
    /// The cached prefix ends there.
    Ended {
        /// Where in the prompt.
        position: usize,
    },
    /// More was cached, and had to make room.
    Evicted {
        /// Where in the prompt.
        position: usize,
    },
}

impl Tree {
    /// Every cached prefix, the latest first.
    pub fn listing(&self, pages: &Pages) -> Vec<Cached> {
        let leaves = self.nodes().filter(|(_, node)| node.children.is_empty());
        let mut listing: Vec<Cached> = leaves.map(|(_, leaf)| self.cached(pages, leaf)).collect();
        listing.sort_by(|a, b| b.used.cmp(&a.used).then(b.tokens.cmp(&a.tokens)));
        listing
    }

    fn cached(&self, pages: &Pages, leaf: &Node) -> Cached {
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
            used: leaf.used,
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
        let other = match nearest(children, key) {
            Some((at, common)) => self.node(at).tokens.get(common).copied(),
            None => children.keys().next_back().map(|tokens| tokens[0]),
        };
        let asked = TokenId(tokens[position]);
        match other {
            Some(cached) => Miss::Diverged { position, cached: TokenId(cached), asked },
            None => Miss::Ended { position },
        }
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
            tree.publish(&mut pages, Salt(1), tokens, &mut table, (true, now));
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
        let miss = Miss::Diverged { position: 70, cached: TokenId(70), asked: TokenId(5) };
        check(&tree, &other, 70, miss);
        let miss = Miss::Diverged { position: 0, cached: TokenId(0), asked: TokenId(9) };
        check(&tree, &[9, 8, 7], 0, miss);
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
        let found: Vec<_> = tree.listing(&pages).iter().map(|c| (c.tokens, c.own_tokens)).collect();
        assert_eq!(found, [(150, 22), (150, 22)]);
        let (tree, pages) = published(&[&a, &[7; 80]]);
        let found: Vec<_> = tree.listing(&pages).iter().map(|c| (c.tokens, c.own_tokens)).collect();
        assert_eq!(found, [(80, 80), (150, 150)]);
    }
}
