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

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use qwire_model::PageId;

use crate::pages::{PAGE, Pages, Table};
use crate::request::Salt;
use explain::Gone;
pub use explain::{Cached, Explanation, Miss};

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
}

impl Node {
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
    gone: Gone,
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
            self.node_mut(*at).used = now;
        }
        pages.share(path.iter().map(|at| self.node(*at).page).collect(), len)
    }

    /// Takes in the pages of a computed prefix: the full ones, and with `tail` the last one too.
    /// Where the tree has a full page already the table gets that one.
    pub fn publish(
        &mut self,
        pages: &mut Pages,
        salt: Salt,
        tokens: &[u32],
        table: &mut Table,
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
                    pages.hold(page);
                    pages.let_go(self.remove(at).page);
                    self.insert(salt, parent, key, page)
                }
                _ => {
                    pages.hold(page);
                    self.insert(salt, parent, key, page)
                }
            };
            self.node_mut(at).used = now;
            parent = Some(at);
        }
    }

    /// Lets go of the idle leaf that is cheapest to lose; false if every page is in use.
    pub fn evict(&mut self, pages: &mut Pages, now: Duration) -> bool {
        let idle = |node: &Node| now.saturating_sub(node.used).as_secs_f64() / node.cost();
        let leaf = |node: &Node| node.children.is_empty() && pages.uses(node.page) == 1;
        let leaves = self.nodes().filter(|(_, node)| leaf(node));
        // Ties go to the deeper page, which costs more but is useless to more prompts.
        let rank = |a: &Node, b: &Node| idle(a).total_cmp(&idle(b)).then(a.depth.cmp(&b.depth));
        let Some((at, _)) = leaves.max_by(|a, b| rank(a.1, b.1)) else { return false };
        self.lose(pages, at);
        true
    }

    /// Lets go of the leaves on this page, used or not: who else uses it has it alone then.
    pub fn disown(&mut self, pages: &mut Pages, page: PageId) -> bool {
        let on_it = |node: &Node| node.page == page && node.children.is_empty();
        let Some(at) = self.nodes().find(|(_, node)| on_it(node)).map(|(at, _)| at) else {
            return false;
        };
        self.lose(pages, at);
        true
    }

    /// Pages that eviction can free.
    pub fn idle(&self, pages: &Pages) -> usize {
        self.nodes().filter(|(_, node)| pages.uses(node.page) == 1).count()
    }

    /// Pages it holds.
    pub fn held(&self) -> impl Iterator<Item = PageId> {
        self.nodes().map(|(_, node)| node.page)
    }

    fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.as_ref()?)))
    }

    fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("an index of a node")
    }

    fn node_mut(&mut self, at: usize) -> &mut Node {
        self.nodes[at].as_mut().expect("an index of a node")
    }

    fn children(&self, salt: Salt, parent: Option<usize>) -> Option<&Children> {
        match parent {
            Some(at) => Some(&self.node(at).children),
            None => self.roots.get(&salt),
        }
    }

    fn children_mut(&mut self, salt: Salt, parent: Option<usize>) -> &mut Children {
        match parent {
            Some(at) => &mut self.node_mut(at).children,
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

    fn insert(&mut self, salt: Salt, parent: Option<usize>, key: &[u32], page: PageId) -> usize {
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
        };
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        self.nodes[at] = Some(node);
        self.children_mut(salt, parent).insert(tokens, at);
        at
    }

    fn remove(&mut self, at: usize) -> Node {
        let node = self.nodes[at].take().expect("an index of a node");
        assert!(node.children.is_empty(), "only leaves go");
        self.vacant.push(at);
        let siblings = self.children_mut(node.salt, node.parent);
        siblings.remove(&node.tokens);
        if node.parent.is_none() && siblings.is_empty() {
            self.roots.remove(&node.salt);
        }
        node
    }

    fn lose(&mut self, pages: &mut Pages, at: usize) {
        let node = self.remove(at);
        pages.let_go(node.page);
        self.gone.note(node.hash);
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

    const NOW: Duration = Duration::from_secs(9);

    /// A sequence of these tokens, all of them computed and published.
    fn publish(tree: &mut Tree, pages: &mut Pages, tokens: &[u32], now: u64) {
        let mut table = Table::default();
        pages.grow(&mut table, tokens.len()).expect("room");
        tree.publish(pages, Salt(0), tokens, &mut table, (true, Duration::from_secs(now)));
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
        assert_eq!((pages.free(), tree.idle(&pages)), (3, 5), "the first page is there once");
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
        assert_eq!((table.len(), tree.idle(&pages)), (100, 2));
        for (head, left) in [(500, 1), (900, 0)] {
            assert!(tree.evict(&mut pages, NOW));
            assert_eq!((tree.reach(Salt(0), &tokens(head, 64)), tree.idle(&pages)), (0, left));
        }
        assert!(!tree.evict(&mut pages, NOW), "what is left is in use");
        assert!(tree.disown(&mut pages, table.pages()[1]));
        pages.release(table);
        assert!(tree.evict(&mut pages, NOW));
        assert_eq!((pages.free(), tree.roots.len()), (8, 0));
    }
}
