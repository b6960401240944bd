//! Paths: one answer on its way through several grammars at once; it leaves those that it no longer
//! fits.

use super::compiler::Ground;
use super::walk::Walk;

/// The ways that are open, each with whether it is closed before tokens run out.
#[derive(Clone)]
pub(super) struct Paths(Vec<(Walk, bool)>);

impl Paths {
    /// One way, which is closed in time.
    pub(super) fn of(walk: Walk) -> Self {
        Self(vec![(walk, true)])
    }

    /// These ways or those; what goes one of those is cut where tokens run out.
    pub(super) fn or(mut self, others: Self) -> Self {
        self.0.extend(others.0.into_iter().map(|(walk, _)| (walk, false)));
        self
    }

    pub(super) fn may_end(&self) -> bool {
        self.0.iter().any(|(walk, _)| walk.may_end())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.iter().all(|(walk, _)| walk.is_over())
    }

    /// Writes the tokens that may come next on any way.
    pub(super) fn mask(
        &mut self,
        ground: &Ground,
        words: &mut [u32],
        left: usize,
    ) -> Result<(), String> {
        let of = |closes: bool| if closes { left } else { usize::MAX };
        let mut ways = self.0.iter_mut();
        let Some((walk, closes)) = ways.next() else { return Err("no way is open".into()) };
        walk.mask(ground, words, of(*closes))?;
        let mut more = Vec::new();
        for (walk, closes) in ways {
            more.resize(words.len(), 0);
            walk.mask(ground, &mut more, of(*closes))?;
            words.iter_mut().zip(&more).for_each(|(word, more)| *word |= more);
        }
        Ok(())
    }

    /// Bytes that must come next, where one way is left.
    pub(super) fn forced(&self) -> Vec<u8> {
        if let [(walk, _)] = self.0.as_slice() { walk.forced() } else { Vec::new() }
    }

    /// Goes on by bytes, a token's or those of one that straddled the start.
    pub(super) fn push(&mut self, bytes: &[u8], token: u32) -> Result<(), String> {
        let mut fault = None;
        self.0.retain_mut(|(walk, _)| {
            walk.push(bytes, token).inspect_err(|why| fault = Some(why.clone())).is_ok()
        });
        match fault.filter(|_| self.0.is_empty()) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}
