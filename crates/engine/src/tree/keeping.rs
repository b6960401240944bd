//! Keeping: which full pages of the tree a store shall hear of.

use std::collections::VecDeque;
use std::time::Duration;

use qwire_model::PageId;

use super::Tree;
use crate::pages::store::{Key, Named, Store};

/// A page that is kept is told to be of use at most so often.
const REMINDER: Duration = Duration::from_mins(10);

/// What a store knows of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Kept {
    /// Nothing, nor shall it.
    #[default]
    Never,
    /// It is to be kept.
    Due,
    /// It is, and the store last heard of it then.
    Since(Duration),
}

/// What the next thing is that a store shall hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// A page to keep.
    Page(PageId),
    /// A page that is kept was used.
    Use,
}

/// Nodes to speak of.
#[derive(Default)]
pub(super) struct Dues {
    /// Some may be gone, or be others by now: what is said of a node is always its own.
    queue: VecDeque<usize>,
    /// Whether there is a store.
    wanted: bool,
    /// Pages that went before they were kept.
    lost: u64,
}

impl Tree {
    /// From now on full pages are to be kept.
    pub fn keep_pages(&mut self) {
        self.dues.wanted = true;
    }

    /// Whatever was kept is gone from the store, or will be: what is used again is kept again.
    pub fn keep_again(&mut self) {
        self.nodes.iter_mut().flatten().for_each(|node| node.kept = Kept::Never);
        self.dues.queue.clear();
    }

    /// Pages that went before they were kept.
    pub fn lost(&self) -> u64 {
        self.dues.lost
    }

    /// What to say next, and of which node.
    pub fn due(&mut self) -> Option<(usize, Due)> {
        while let Some(at) = self.dues.queue.front().copied() {
            match self.nodes[at].as_ref().map(|node| (node.kept, node.page)) {
                Some((Kept::Due, page)) => return Some((at, Due::Page(page))),
                Some((Kept::Since(_), _)) => return Some((at, Due::Use)),
                Some((Kept::Never, _)) | None => {
                    self.dues.queue.pop_front();
                }
            }
        }
        None
    }

    /// What was due is said.
    pub fn said(&mut self, now: Duration) {
        if let Some(at) = self.dues.queue.pop_front()
            && let Some(node) = &mut self.nodes[at]
        {
            node.kept = Kept::Since(now);
        }
    }

    /// The name of a node's page; keys that were found on the way up are remembered.
    pub fn name(&mut self, at: usize, store: &dyn Store) -> Named {
        let mut path = vec![at];
        while let Some(above) = self.node(path[path.len() - 1]).parent
            && self.node(above).key.is_none()
        {
            path.push(above);
        }
        let mut above = self.key_above(path[path.len() - 1]);
        for at in path.iter().skip(1).rev() {
            above = Some(self.name_one(*at, above, store));
        }
        let key = self.name_one(at, above, store);
        Named { key, above, depth: self.node(at).depth }
    }

    fn key_above(&self, at: usize) -> Option<Key> {
        self.node(at).parent.and_then(|above| self.node(above).key)
    }

    fn name_one(&mut self, at: usize, above: Option<Key>, store: &dyn Store) -> Key {
        let node = self.nodes[at].as_mut().expect("an index of a node");
        *node.key.get_or_insert_with(|| store.key(node.salt, above, &node.tokens))
    }

    /// A node was published; its page may have come from the store.
    pub(super) fn note(&mut self, at: usize, came: bool, now: Duration) {
        let node = self.nodes[at].as_mut().expect("an index of a node");
        if !self.dues.wanted || !node.is_full() {
            return;
        }
        match node.kept {
            Kept::Never if came => node.kept = Kept::Since(now),
            Kept::Never => {
                node.kept = Kept::Due;
                self.dues.queue.push_back(at);
            }
            Kept::Since(heard) if now.saturating_sub(heard) >= REMINDER => {
                node.kept = Kept::Since(now);
                self.dues.queue.push_back(at);
            }
            Kept::Due | Kept::Since(_) => {}
        }
    }

    /// A node goes.
    pub(super) fn missed(&mut self, kept: Kept) {
        self.dues.lost += u64::from(kept == Kept::Due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{PAGE, Pages, Table};
    use crate::request::Class;
    use crate::request::Salt;
    use crate::tree::Use;

    const TENANT: Salt = Salt(3);

    fn publish(tree: &mut Tree, pages: &mut Pages, tokens: &[u32], kept: usize, now: u64) {
        let mut table = Table::default();
        pages.grow(&mut table, tokens.len()).expect("room");
        let by = Use { class: Class::Normal, now: Duration::from_secs(now) };
        tree.publish(pages, (TENANT, tokens), &mut table, kept, (true, by));
        pages.release(table);
    }

    /// What is due, each said at once.
    fn said(tree: &mut Tree, now: u64) -> Vec<(usize, Due)> {
        let mut said = Vec::new();
        while let Some((at, due)) = tree.due() {
            said.push((tree.node(at).depth, due));
            tree.said(Duration::from_secs(now));
        }
        said
    }

    #[test]
    fn every_full_page_is_kept_once_and_reminded_of_now_and_then() {
        let (mut tree, mut pages) = (Tree::default(), Pages::new(16));
        let tokens: Vec<u32> = (0..300).collect();
        publish(&mut tree, &mut pages, &tokens[..100], 0, 0);
        assert_eq!(said(&mut tree, 0), [], "there is no store");
        tree.keep_pages();
        publish(&mut tree, &mut pages, &tokens[..250], 3 * PAGE, 1);
        assert_eq!(said(&mut tree, 1), [], "they came from the store, or stand there before such");
        publish(&mut tree, &mut pages, &tokens, 3 * PAGE, 2);
        let due = said(&mut tree, 2);
        assert!(matches!(due[..], [(192, Due::Page(_))]), "{due:?}");
        publish(&mut tree, &mut pages, &tokens, 0, 700);
        assert_eq!(said(&mut tree, 700), [0, 64, 128, 192].map(|depth| (depth, Due::Use)));
        publish(&mut tree, &mut pages, &tokens, 0, 701);
        assert_eq!((said(&mut tree, 701), tree.lost()), (vec![], 0));
    }

    #[test]
    fn pages_that_went_before_they_were_kept_are_counted() {
        let (mut tree, mut pages) = (Tree::default(), Pages::new(16));
        tree.keep_pages();
        let tokens: Vec<u32> = (0..128).collect();
        publish(&mut tree, &mut pages, &tokens, 0, 1);
        tree.said(Duration::from_secs(1));
        assert_eq!(tree.clear(&mut pages), 2);
        assert_eq!((tree.lost(), tree.due()), (1, None));
        publish(&mut tree, &mut pages, &tokens, 0, 2);
        assert_eq!(said(&mut tree, 2).len(), 2);
        tree.keep_again();
        publish(&mut tree, &mut pages, &tokens, 0, 3);
        assert_eq!(said(&mut tree, 3).len(), 2, "the store forgot them");
    }
}
