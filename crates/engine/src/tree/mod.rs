//! The prefix tree: pages that outlive their sequences, found again by their tokens.
//!
//! ```text
//! salt ─ [64 tokens] ─┬─ [64 tokens] ─┬─ [64 tokens] ─ [17 tokens]
//!                     │               └─ [40 tokens]               a leaf may be filled in part
//!                     └─ [64 tokens]
//! ```
//! A node is a page. A prompt walks down as far as its tokens go, into the middle of the last page:
//! what it then writes there goes into its own copy. A full page stands in the tree once: whoever
//! computed it again gives its own back. So a page in use has only pages in use before it, and the
//! leaves that nobody uses can go one by one: first the one that was idle longest for what it costs
//! to compute again.

mod explain;
mod keeping;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use qwire_model::PageId;

use crate::pages::store::Key;
use crate::pages::{PAGE, Pages, Table};
use crate::request::Salt;
use explain::Gone;
pub use explain::{Cached, Explanation, Listing, Miss};
pub use keeping::Due;
use keeping::{Dues, Kept};

/// Positions after which a page costs twice as much to compute as the first one.
const ATTENTION_POSITIONS: f64 = 8192.0;

/// Nodes by their tokens; the order finds the longest common prefix among neighbours.
type Children = BTreeMap<Arc<[u32]>, usize>;

struct Node {
    salt: Salt,
    parent: Option<usize>,
    tokens: Arc<[u32]>, // 1 to PAGE
    page: PageId,
    children: Children,
    depth: usize, // positions before it
    used: Duration,
    /// Of the tokens up to its end.
    hash: u64,
    /// Its name in a store, once it was needed.
    key: Option<Key>,
    kept: Kept,
}

/// Depth and tokens: nodes of one class cost the same.
type Class = (usize, usize);

impl Node {
    fn class(&self) -> Class {
        (self.depth, self.tokens.len())
    }

    fn is_full(&self) -> bool {
        self.tokens.len() == PAGE
    }

    /// What it takes to compute it again: linear work, and attention over all before it.
    fn cost(&self) -> f64 {
        self.tokens.len() as f64 * (1.0 + self.depth as f64 / ATTENTION_POSITIONS)
    }
}

/// Every cached prefix.
#[derive(Default)]
pub struct Tree {
    nodes: Vec<Option<Node>>,
    vacant: Vec<usize>,
    roots: BTreeMap<Salt, Children>,
    /// Leaves by what they cost, the longest idle first.
    leaves: BTreeMap<Class, BTreeSet<(Duration, Reverse<usize>)>>,
    gone: Gone,
    dues: Dues,
}

impl Tree {
    /// How many of the first tokens are cached.
    pub fn reach(&self, salt: Salt, tokens: &[u32]) -> usize {
        self.walk(salt, tokens).1
    }

    /// A table of the longest cached prefix, whose nodes count as used now.
    pub fn fork(&mut self, pages: &mut Pages, salt: Salt, tokens: &[u32], now: Duration) -> Table {
        let (path, len) = self.walk(salt, tokens);
        for at in &path {
            self.touch(*at, now);
        }
        pages.share(path.iter().map(|at| self.node(*at).page).collect(), len)
    }

    /// Takes in the pages of a computed prefix: the full ones, and with `tail` the last one too.
    /// Where the tree has a full page already the table gets that one. New pages within the first
    /// `kept` positions came from a store.
    pub fn publish(
        &mut self,
        pages: &mut Pages,
        (salt, tokens): (Salt, &[u32]),
        table: &mut Table,
        kept: usize,
        (tail, now): (bool, Duration),
    ) {
        let len = table.len();
        let len = if tail { len } else { len / PAGE * PAGE };
        let mut parent = None;
        for (i, key) in tokens[..len].chunks(PAGE).enumerate() {
            let page = table.pages()[i];
            let near = self.children(salt, parent).and_then(|children| nearest(children, key));
            let at = match near {
                Some((at, common)) if common == key.len() => {
                    if key.len() == PAGE && self.node(at).page != page {
                        pages.replace(table, i, self.node(at).page);
                    }
                    at
                }
                // A page filled in part is replaced by one that holds more.
                Some((at, common)) if common == self.node(at).tokens.len() => {
                    pages.let_go(self.remove(at).page);
                    self.insert(pages, salt, parent, key, page)
                }
                _ => self.insert(pages, salt, parent, key, page),
            };
            self.touch(at, now);
            self.note(at, (i + 1) * PAGE <= kept, now);
            parent = Some(at);
        }
    }

    /// Lets go of the idle leaf that is cheapest to lose; false if every page is in use.
    pub fn evict(&mut self, pages: &mut Pages, now: Duration) -> bool {
        // Among leaves that cost the same the order does not change with time.
        let oldest = |leaves: &BTreeSet<(Duration, Reverse<usize>)>| {
            let mut leaves = leaves.iter().map(|(_, at)| at.0);
            leaves.find(|at| pages.uses(self.node(*at).page) == 1)
        };
        let idle = |at: usize| {
            let node = self.node(at);
            now.saturating_sub(node.used).as_secs_f64() / node.cost()
        };
        // Ties go to the deeper page, which costs more but is useless to more prompts.
        let rank = |a: &usize, b: &usize| {
            let depth = |at: usize| self.node(at).depth;
            idle(*a).total_cmp(&idle(*b)).then(depth(*a).cmp(&depth(*b))).then(a.cmp(b))
        };
        let Some(at) = self.leaves.values().filter_map(oldest).max_by(rank) else { return false };
        self.lose(pages, at);
        true
    }

    /// Lets go of the leaf on this page, used or not: who else uses it has it alone then.
    pub fn disown(&mut self, pages: &mut Pages, page: PageId) -> bool {
        let leaf = pages.node(page).filter(|at| self.node(*at).children.is_empty());
        leaf.inspect(|at| self.lose(pages, *at)).is_some()
    }

    /// Lets go of all that nobody uses; how many pages that were.
    pub fn clear(&mut self, pages: &mut Pages) -> usize {
        let leaves = self.leaves.values().flatten();
        let mut leaves: Vec<usize> = leaves.map(|(_, at)| at.0).collect();
        let mut cleared = 0;
        while let Some(at) = leaves.pop() {
            let Node { page, parent, .. } = *self.node(at);
            if pages.uses(page) == 1 {
                self.lose(pages, at);
                cleared += 1;
                leaves.extend(parent.filter(|at| self.node(*at).children.is_empty()));
            }
        }
        cleared
    }

    /// Pages it holds.
    pub fn held(&self) -> impl Iterator<Item = PageId> {
        self.nodes().map(|(_, node)| node.page)
    }

    /// How many pages it holds.
    pub fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether what is counted as it changes is what there is.
    pub fn audit(&self, pages: &Pages) -> Result<(), String> {
        let idle = self.held().filter(|page| pages.uses(*page) == 1).count();
        let leaves: Vec<_> = self.nodes().filter(|(_, node)| node.children.is_empty()).collect();
        let listed: usize = self.leaves.values().map(BTreeSet::len).sum();
        let lists = |(at, leaf): &(usize, &Node)| {
            let class = self.leaves.get(&leaf.class());
            class.is_some_and(|leaves| leaves.contains(&(leaf.used, Reverse(*at))))
        };
        if idle != pages.idle() || leaves.len() != listed || !leaves.iter().all(lists) {
            let (counted, leaves) = (pages.idle(), leaves.len());
            return Err(format!("{idle} idle of {counted}, {leaves} leaves of {listed}"));
        }
        Ok(())
    }

    fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.as_ref()?)))
    }

    fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("an index of a node")
    }

    /// Marks a node as used.
    fn touch(&mut self, at: usize, now: Duration) {
        self.unlist(at);
        self.nodes[at].as_mut().expect("an index of a node").used = now;
        self.list(at);
    }

    /// Lists a node among the leaves, if it is one.
    fn list(&mut self, at: usize) {
        let node = self.node(at);
        if node.children.is_empty() {
            let (class, used) = (node.class(), node.used);
            self.leaves.entry(class).or_default().insert((used, Reverse(at)));
        }
    }

    /// Takes a node from the list of leaves, if it is there.
    fn unlist(&mut self, at: usize) {
        let node = self.node(at);
        let (class, used) = (node.class(), node.used);
        if let Some(leaves) = self.leaves.get_mut(&class) {
            leaves.remove(&(used, Reverse(at)));
            if leaves.is_empty() {
                self.leaves.remove(&class);
            }
        }
    }

    fn children(&self, salt: Salt, parent: Option<usize>) -> Option<&Children> {
        match parent {
            Some(at) => Some(&self.node(at).children),
            None => self.roots.get(&salt),
        }
    }

    fn children_mut(&mut self, salt: Salt, parent: Option<usize>) -> &mut Children {
        match parent {
            Some(at) => &mut self.nodes[at].as_mut().expect("an index of a node").children,
            None => self.roots.entry(salt).or_default(),
        }
    }

    /// The nodes that hold the longest cached prefix, and its length.
    fn walk(&self, salt: Salt, tokens: &[u32]) -> (Vec<usize>, usize) {
        let (mut path, mut len) = (Vec::new(), 0);
        while let Some(children) = self.children(salt, path.last().copied()) {
            let Some((at, common)) = nearest(children, &tokens[len..]) else { break };
            path.push(at);
            len += common;
            if common < PAGE {
                break;
            }
        }
        (path, len)
    }

    fn insert(
        &mut self,
        pages: &mut Pages,
        salt: Salt,
        parent: Option<usize>,
        key: &[u32],
        page: PageId,
    ) -> usize {
        let (depth, above) = match parent {
            Some(at) => (self.node(at).depth + PAGE, self.node(at).hash),
            None => (0, explain::seed(salt)),
        };
        assert!(parent.is_none_or(|at| self.node(at).is_full()), "only full pages have children");
        let tokens: Arc<[u32]> = key.into();
        let node = Node {
            salt,
            parent,
            tokens: tokens.clone(),
            page,
            children: Children::new(),
            depth,
            used: Duration::ZERO,
            hash: explain::chain(above, key),
            key: None,
            kept: Kept::Never,
        };
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        self.nodes[at] = Some(node);
        if let Some(parent) = parent {
            self.unlist(parent);
        }
        self.children_mut(salt, parent).insert(tokens, at);
        self.list(at);
        pages.keep(page, at);
        at
    }

    fn remove(&mut self, at: usize) -> Node {
        self.unlist(at);
        let node = self.nodes[at].take().expect("an index of a node");
        assert!(node.children.is_empty(), "only leaves go");
        self.vacant.push(at);
        let siblings = self.children_mut(node.salt, node.parent);
        siblings.remove(&node.tokens);
        if node.parent.is_none() && siblings.is_empty() {
            self.roots.remove(&node.salt);
        }
        if let Some(parent) = node.parent {
            self.list(parent);
        }
        node
    }

    fn lose(&mut self, pages: &mut Pages, at: usize) {
        let node = self.remove(at);
        pages.let_go(node.page);
        self.gone.note(node.hash);
        self.missed(node.kept);
    }
}

/// The child that begins with the most of these tokens, and how many. In lexicographic order it is
/// a neighbour of theirs.
fn nearest(children: &Children, tokens: &[u32]) -> Option<(usize, usize)> {
    let key = &tokens[..tokens.len().min(PAGE)];
    let below = children.range::<[u32], _>((Unbounded, Included(key))).next_back();
    let above = children.range::<[u32], _>((Excluded(key), Unbounded)).next();
    let shared = |(child, at): (&Arc<[u32]>, &usize)| (*at, common(child, key));
    let near = below.into_iter().chain(above).map(shared).max_by_key(|(_, common)| *common);
    near.filter(|(_, common)| *common > 0)
}

/// How many of the first tokens are equal.
pub fn common(a: &[u32], b: &[u32]) -> usize {
    let pages = a.chunks_exact(PAGE).zip(b.chunks_exact(PAGE)); // whole pages compare quickly
    let same = pages.take_while(|(a, b)| a == b).count() * PAGE;
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    const NOW: Duration = Duration::from_secs(9);

    /// A sequence of these tokens, all of them computed and published.
    fn publish(tree: &mut Tree, pages: &mut Pages, tokens: &[u32], now: u64) {
        let mut table = Table::default();
        pages.grow(&mut table, tokens.len()).expect("room");
        tree.publish(pages, (Salt(0), tokens), &mut table, 0, (true, Duration::from_secs(now)));
        pages.release(table);
    }

    fn tokens(head: u32, count: usize) -> Vec<u32> {
        (0..count as u32).map(|at| head + at).collect()
    }

    #[test]
    fn a_prefix_is_found_to_the_token() {
        let (mut tree, mut pages) = (Tree::default(), Pages::new(8));
        publish(&mut tree, &mut pages, &tokens(0, 150), 1);
        let check = |tree: &Tree, tokens: &[u32], expected: usize| {
            assert_eq!(tree.reach(Salt(0), tokens), expected, "{} tokens", tokens.len());
        };
        for len in [1, 63, 64, 65, 128, 149, 150] {
            check(&tree, &tokens(0, len), len);
        }
        check(&tree, &tokens(0, 200), 150);
        check(&tree, &tokens(1, 200), 0);
        let mut other = tokens(0, 150);
        other[100] = 7;
        check(&tree, &other, 100);
        publish(&mut tree, &mut pages, &other, 2);
        check(&tree, &other, 150);
        check(&tree, &tokens(0, 150), 150);
        assert_eq!(tree.reach(Salt(1), &other), 0, "another tenant");
        assert_eq!((pages.free(), pages.idle()), (3, 5), "the first page is there once");
    }

    #[test]
    fn a_page_filled_in_part_grows_into_a_fuller_one() {
        let (mut tree, mut pages) = (Tree::default(), Pages::new(4));
        for len in [10, 30, 20, 64, 70] {
            publish(&mut tree, &mut pages, &tokens(0, len), 1);
        }
        assert_eq!((pages.free(), tree.held().count()), (2, 2));
        assert_eq!(tree.reach(Salt(0), &tokens(0, 99)), 70);
    }

    #[test]
    fn a_fork_keeps_its_pages_and_the_cheapest_leaf_goes_first() {
        let (mut tree, mut pages) = (Tree::default(), Pages::new(8));
        publish(&mut tree, &mut pages, &tokens(0, 128), 1);
        publish(&mut tree, &mut pages, &tokens(500, 64), 2);
        publish(&mut tree, &mut pages, &tokens(900, 64), 3);
        let table = tree.fork(&mut pages, Salt(0), &tokens(0, 100), NOW);
        assert_eq!((table.len(), pages.idle()), (100, 2));
        for (head, left) in [(500, 1), (900, 0)] {
            assert!(tree.evict(&mut pages, NOW));
            assert_eq!((tree.reach(Salt(0), &tokens(head, 64)), pages.idle()), (0, left));
        }
        assert!(!tree.evict(&mut pages, NOW), "what is left is in use");
        assert!(tree.disown(&mut pages, table.pages()[1]));
        pages.release(table);
        assert!(tree.evict(&mut pages, NOW));
        assert_eq!((pages.free(), tree.roots.len()), (8, 0));
    }

    /// What eviction means: every idle leaf is looked at.
    fn cheapest(tree: &Tree, pages: &Pages, now: Duration) -> Option<usize> {
        let idle = |node: &Node| now.saturating_sub(node.used).as_secs_f64() / node.cost();
        let leaf = |node: &Node| node.children.is_empty() && pages.uses(node.page) == 1;
        let rank = |a: &Node, b: &Node| idle(a).total_cmp(&idle(b)).then(a.depth.cmp(&b.depth));
        let leaves = tree.nodes().filter(|(_, node)| leaf(node));
        leaves.max_by(|a, b| rank(a.1, b.1)).map(|(at, _)| at)
    }

    proptest! {
        /// Prefixes come, are used and go; the leaf that goes is the one that a look at all finds.
        #[test]
        fn the_cheapest_leaf_goes(
            steps in prop::collection::vec((0_u8..5, 0_u32..5, 1_usize..300, 0_u64..4), 1..80)
        ) {
            let (mut tree, mut pages) = (Tree::default(), Pages::new(24));
            let (mut tables, mut now) = (Vec::new(), 0);
            for (what, head, len, later) in steps {
                now += later;
                let time = Duration::from_secs(now);
                match what {
                    0 | 1 if len.div_ceil(PAGE) <= pages.free() => {
                        publish(&mut tree, &mut pages, &tokens(head % 3 * 40, len), now);
                    }
                    2 => {
                        let tokens = tokens(head % 3 * 40, len);
                        tables.push(tree.fork(&mut pages, Salt(0), &tokens, time));
                    }
                    3 => drop(tables.pop().map(|table| pages.release(table))),
                    _ => {
                        let expected = cheapest(&tree, &pages, time);
                        let left = tree.len() - usize::from(expected.is_some());
                        prop_assert_eq!(tree.evict(&mut pages, time), expected.is_some());
                        prop_assert!(expected.is_none_or(|at| tree.nodes[at].is_none()));
                        prop_assert_eq!(tree.len(), left);
                    }
                }
                prop_assert_eq!(tree.audit(&pages), Ok(()));
            }
            tree.clear(&mut pages);
            prop_assert_eq!((pages.idle(), cheapest(&tree, &pages, NOW)), (0, None));
            tables.into_iter().for_each(|table| pages.release(table));
            tree.clear(&mut pages);
            prop_assert_eq!((pages.free(), tree.len(), tree.leaves.len()), (24, 0, 0));
        }
    }

    #[test]
    fn a_hundred_thousand_pages_slow_nobody() {
        const PAGES: usize = 100_000;
        let (mut tree, mut pages) = (Tree::default(), Pages::new(PAGES));
        for at in 0..PAGES as u32 / 4 {
            publish(&mut tree, &mut pages, &tokens(at * 9, 256), u64::from(at));
        }
        let start = Instant::now();
        let now = Duration::from_secs(PAGES as u64);
        for left in (PAGES / 2..PAGES).rev() {
            assert!(tree.evict(&mut pages, now));
            assert_eq!((tree.len(), pages.idle(), pages.free()), (left, left, PAGES - left));
        }
        let took = start.elapsed();
        eprintln!("{:?} for each of {} pages evicted", took / (PAGES as u32 / 2), PAGES / 2);
        assert_eq!(tree.clear(&mut pages), PAGES / 2);
        assert!(start.elapsed().as_secs() < 5, "{took:?}");
    }
}
