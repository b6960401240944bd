//! Look: whether a text begins with something, does not, or is too short to tell.

/// The answer; `Yes` says how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    No,
    Wait,
    Yes(usize),
}

impl Look {
    /// Whether `rest` begins with this marker.
    pub(super) fn at(rest: &str, marker: &str) -> Self {
        match (rest.starts_with(marker), marker.starts_with(rest)) {
            (true, _) => Self::Yes(marker.len()),
            (_, true) => Self::Wait,
            _ => Self::No,
        }
    }

    /// The better of two: of different markers at most one is there.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes(_), _) | (Self::Wait, Self::No) => self,
            _ => other,
        }
    }

    /// What holds once no more text comes.
    pub(super) fn settled(self, ended: bool) -> Self {
        if ended && self == Self::Wait { Self::No } else { self }
    }

    /// The same answer about a longer text.
    pub(super) fn after(self, len: usize) -> Self {
        match self {
            Self::Yes(more) => Self::Yes(len + more),
            other => other,
        }
    }
}

/// How much blank a text begins with.
pub(super) fn blank(rest: &str) -> usize {
    rest.len() - rest.trim_ascii_start().len()
}
