//! Specials: finds the tokens that are written as such in a text, such as `<|im_end|>`.
//!
//! Leftmost first, the longest of those that start there, before anything else touches the
//! text. A sorted list is narrowed byte by byte, which costs as much as the longest match.

/// The texts that stand for one token each.
#[derive(Default)]
pub(crate) struct Specials {
    sorted: Vec<(Box<str>, u32)>,
    starts: Box<[bool]>, // [256] does any text start with this byte?
}

/// A special token in a text.
pub(crate) struct Found {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) id: u32,
}

impl Specials {
    /// Of equal texts the first one wins; empty texts are left out.
    pub(crate) fn new<'t>(tokens: impl Iterator<Item = (&'t str, u32)>) -> Self {
        let mut sorted: Vec<(Box<str>, u32)> =
            tokens.filter(|(text, _)| !text.is_empty()).map(|(t, id)| (t.into(), id)).collect();
        sorted.sort_unstable();
        sorted.dedup_by(|next, first| next.0 == first.0);
        let mut starts = vec![false; 256].into_boxed_slice();
        for (text, _) in &sorted {
            starts[usize::from(text.as_bytes()[0])] = true;
        }
        Self { sorted, starts }
    }

    /// The token that is written `text`.
    pub(crate) fn id_of(&self, text: &str) -> Option<u32> {
        let at = self.sorted.binary_search_by(|(token, _)| (**token).cmp(text)).ok()?;
        Some(self.sorted[at].1)
    }

    /// Whether a token begins with this text and is longer.
    pub(crate) fn begin_with(&self, text: &str) -> bool {
        let at = self.sorted.partition_point(|(token, _)| **token <= *text);
        self.sorted.get(at).is_some_and(|(token, _)| token.starts_with(text))
    }

    /// Whether this text starts with the rest of a token, or stands within it, after its start.
    pub(crate) fn go_on_with(&self, text: &str) -> bool {
        self.sorted.iter().any(|(token, _)| {
            let rests = token.char_indices().skip(1).map(|(at, _)| &token[at..]);
            rests.into_iter().any(|rest| text.starts_with(rest) || rest.starts_with(text))
        })
    }

    /// Bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.sorted.iter().map(|(token, _)| token.len()).max().unwrap_or(0)
    }

    /// The first special token at or after `from`.
    pub(crate) fn find(&self, text: &str, from: usize) -> Option<Found> {
        let bytes = text.as_bytes();
        (from..bytes.len()).filter(|&at| self.starts[usize::from(bytes[at])]).find_map(|start| {
            self.longest_at(&bytes[start..]).map(|(len, id)| Found { start, end: start + len, id })
        })
    }

    /// Length and id of the longest token that `bytes` starts with.
    fn longest_at(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let mut candidates = &self.sorted[..];
        let mut longest = None;
        for (at, byte) in bytes.iter().enumerate() {
            let key = |token: &(Box<str>, u32)| token.0.as_bytes().get(at).copied();
            let low = candidates.partition_point(|token| key(token) < Some(*byte));
            let high = candidates.partition_point(|token| key(token) <= Some(*byte));
            candidates = &candidates[low..high];
            let Some((text, id)) = candidates.first() else { break };
            if text.len() == at + 1 {
                longest = Some((text.len(), *id));
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftmost_then_longest() {
        let texts = ["<a", "<a>", "b", "<a>", "", "é<"];
        let specials = Specials::new(texts.into_iter().zip(0..));
        let mut ids = Vec::new();
        let (text, mut from) = ("x<a<a><é<a>b<", 0);
        while let Some(found) = specials.find(text, from) {
            ids.push((found.start, found.id));
            from = found.end;
        }
        assert_eq!(ids, [(1, 0), (3, 1), (7, 5), (12, 2)]);
        assert_eq!(specials.id_of("<a>"), Some(1));
        assert_eq!(specials.id_of("<"), None);
        assert!(["<", "<a", "é"].iter().all(|text| specials.begin_with(text)));
        assert!(["<a>", "b", "x", "a"].iter().all(|text| !specials.begin_with(text)));
        assert!(["a", "a>", ">", "a>b", "> x", "<"].iter().all(|text| specials.go_on_with(text)));
        assert!(["b", "x", "é<", "xa>"].iter().all(|text| !specials.go_on_with(text)));
        assert!(Specials::new(std::iter::empty()).find("abc", 0).is_none());
    }
}
