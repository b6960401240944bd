//! The pool of pages: who uses which, and what must be copied before it is written.
//!
//! A table lists the pages of one sequence. Full pages are shared by forks, and by the prefix tree,
//! which keeps pages beyond the life of a sequence; a page that somebody else uses too is copied
//! before it is written. Slots past a table's length hold anything.

pub mod store;

use qwire_model::PageId;

/// Positions in a page.
pub const PAGE: usize = 64;

/// The pages of one sequence.
#[derive(Debug, Default)]
pub struct Table {
    pages: Vec<PageId>,
    len: usize,
}

impl Table {
    /// Positions that are computed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is computed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last page, if it is filled in part.
    pub fn tail(&self) -> Option<PageId> {
        self.pages.get(self.len / PAGE).copied()
    }

    /// The pages, in order.
    pub fn pages(&self) -> &[PageId] {
        &self.pages
    }
}

/// The pool has no page left; the sequence cannot grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Which pages are free, and how many tables and nodes of the tree use each of the others.
#[derive(Debug)]
pub struct Pages {
    uses: Vec<u32>,
    free: Vec<PageId>,
    /// Which node of the tree keeps a page.
    nodes: Vec<Option<usize>>,
    idle: usize,
}

impl Pages {
    /// A pool of unused pages.
    pub fn new(pages: usize) -> Self {
        let free = (0..pages as u32).rev().map(PageId).collect();
        Self { uses: vec![0; pages], free, nodes: vec![None; pages], idle: 0 }
    }

    /// Pages nobody uses.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages that the tree keeps and nobody else uses.
    pub fn idle(&self) -> usize {
        self.idle
    }

    /// Pages in all.
    pub fn total(&self) -> usize {
        self.uses.len()
    }

    /// Makes positions len..len + more writable. A shared page among them is replaced by an own
    /// one, and (from, to) is returned to be copied. On `Full` nothing has changed.
    pub fn grow(
        &mut self,
        table: &mut Table,
        more: usize,
    ) -> Result<Option<(PageId, PageId)>, Full> {
        let shared = self.shared_tail(table).filter(|_| more > 0);
        if self.wanted(table, more) > self.free.len() {
            return Err(Full);
        }
        let wanted = (table.len + more).div_ceil(PAGE).saturating_sub(table.pages.len());
        let copy = shared.map(|at| {
            let from = table.pages[at];
            let to = self.take();
            self.drop_use(from);
            table.pages[at] = to;
            (from, to)
        });
        for _ in 0..wanted {
            let page = self.take();
            table.pages.push(page);
        }
        table.len += more;
        Ok(copy)
    }

    /// The place of the partly filled last page, if another table uses it too.
    fn shared_tail(&self, table: &Table) -> Option<usize> {
        (self.uses(table.tail()?) > 1).then_some(table.len / PAGE)
    }

    /// A table of the first `len` positions, on the same pages.
    pub fn fork(&mut self, table: &Table, len: usize) -> Table {
        assert!(len <= table.len, "only computed positions can be shared");
        self.share(table.pages[..len.div_ceil(PAGE)].to_vec(), len)
    }

    /// A table of `len` positions on pages that somebody holds.
    pub fn share(&mut self, pages: Vec<PageId>, len: usize) -> Table {
        assert_eq!(pages.len(), len.div_ceil(PAGE), "pages of so many positions");
        pages.iter().for_each(|page| self.hold(*page));
        Table { pages, len }
    }

    /// Uses a page that is in use once more.
    fn hold(&mut self, page: PageId) {
        let at = page.0 as usize;
        assert!(self.uses[at] > 0, "a free page holds nothing");
        self.idle -= usize::from(self.is_idle(at));
        self.uses[at] += 1;
    }

    /// A node of the tree uses a page too.
    pub fn keep(&mut self, page: PageId, node: usize) {
        self.hold(page);
        let before = self.nodes[page.0 as usize].replace(node);
        assert!(before.is_none(), "two nodes keep one page");
    }

    /// Takes back a [`Pages::keep`].
    pub fn let_go(&mut self, page: PageId) {
        let at = page.0 as usize;
        self.idle -= usize::from(self.is_idle(at));
        self.nodes[at] = None;
        self.drop_use(page);
    }

    /// The node that keeps a page.
    pub fn node(&self, page: PageId) -> Option<usize> {
        self.nodes[page.0 as usize]
    }

    /// Whether nobody but the tree uses a page.
    fn is_idle(&self, at: usize) -> bool {
        self.uses[at] == 1 && self.nodes[at].is_some()
    }

    /// How many use a page.
    pub fn uses(&self, page: PageId) -> usize {
        self.uses[page.0 as usize] as usize
    }

    /// Puts a page that holds the same in the place of a table's own.
    pub fn replace(&mut self, table: &mut Table, at: usize, page: PageId) {
        self.hold(page);
        self.drop_use(std::mem::replace(&mut table.pages[at], page));
    }

    /// Pages that [`Pages::grow`] would take.
    pub fn wanted(&self, table: &Table, more: usize) -> usize {
        let pages = (table.len + more).div_ceil(PAGE).saturating_sub(table.pages.len());
        pages + usize::from(more > 0 && self.shared_tail(table).is_some())
    }

    /// Forgets every position from `len` on.
    pub fn truncate(&mut self, table: &mut Table, len: usize) {
        assert!(len <= table.len, "a table is cut, not grown");
        for page in table.pages.split_off(len.div_ceil(PAGE)) {
            self.drop_use(page);
        }
        table.len = len;
    }

    /// Gives back every page.
    pub fn release(&mut self, mut table: Table) {
        self.truncate(&mut table, 0);
    }

    fn take(&mut self) -> PageId {
        let page = self.free.pop().expect("the caller counted the free pages");
        self.uses[page.0 as usize] = 1;
        page
    }

    fn drop_use(&mut self, page: PageId) {
        let uses = &mut self.uses[page.0 as usize];
        assert!(*uses > 0, "a free page is used by nobody");
        *uses -= 1;
        if *uses == 0 {
            self.free.push(page);
        }
        self.idle += usize::from(self.is_idle(page.0 as usize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forks_share_until_one_of_them_writes() {
        let mut pool = Pages::new(4);
        let mut a = Table::default();
        assert_eq!(pool.grow(&mut a, 100), Ok(None));
        let mut b = pool.fork(&a, 80);
        assert_eq!((pool.free(), b.pages()), (2, a.pages()));
        let (from, to) = pool.grow(&mut b, 1).unwrap().expect("the second page is shared");
        assert_eq!((from, to), (a.pages()[1], b.pages()[1]));
        assert_eq!(pool.grow(&mut a, 1), Ok(None), "now it is a's alone");
        assert_eq!(pool.grow(&mut a, 64 * 9), Err(Full));
        assert_eq!((a.len(), b.len()), (101, 81));
        pool.release(a);
        pool.release(b);
        assert_eq!(pool.free(), 4);
    }

    #[test]
    fn a_fork_at_a_page_boundary_copies_nothing() {
        let mut pool = Pages::new(4);
        let mut a = Table::default();
        pool.grow(&mut a, 128).unwrap();
        let mut b = pool.fork(&a, 64);
        assert_eq!(pool.grow(&mut b, 1), Ok(None));
        assert_eq!(b.pages()[0], a.pages()[0]);
        assert_ne!(b.pages()[1], a.pages()[1]);
    }

    proptest! {
        /// Whatever is done, each page is used as often as tables list it, or free; and a page that
        /// is about to be written is listed once.
        #[test]
        fn pages_are_conserved(
            steps in prop::collection::vec((0_u8..4, 0_usize..8, 0_usize..200), 1..200)
        ) {
            let mut pool = Pages::new(24);
            let mut tables: Vec<Table> = vec![Table::default()];
            for (what, which, amount) in steps {
                let which = which % tables.len();
                match what {
                    0 => {
                        let before = tables[which].len();
                        if pool.grow(&mut tables[which], amount).is_ok() && amount > 0 {
                            let table = &tables[which];
                            for page in &table.pages()[before / PAGE..] {
                                let listed = tables.iter().filter(|t| t.pages().contains(page));
                                prop_assert_eq!(listed.count(), 1);
                            }
                        }
                    }
                    1 => {
                        let len = amount.min(tables[which].len());
                        let fork = pool.fork(&tables[which], len);
                        tables.push(fork);
                    }
                    2 => {
                        let len = amount.min(tables[which].len());
                        pool.truncate(&mut tables[which], len);
                    }
                    _ if tables.len() > 1 => pool.release(tables.swap_remove(which)),
                    _ => {}
                }
                let mut uses = vec![0; 24];
                tables.iter().flat_map(Table::pages).for_each(|page| uses[page.0 as usize] += 1);
                prop_assert_eq!(&uses, &pool.uses);
                prop_assert_eq!(pool.free(), uses.iter().filter(|uses| **uses == 0).count());
            }
        }
    }
}
