//! Account: what a request is called, and what its line in the log says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;

/// Where a request's name is read and written.
pub const HEADER: &str = "x-request-id";

/// Where Anthropic's clients read it.
pub const ANTHROPIC_HEADER: &str = "request-id";

/// The longest name that is taken over.
const LONGEST: usize = 128;

/// What the client calls the request, or else what we call it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct RequestId(pub String);

/// Whose answer it is, and what an endpoint adds to its request's line in the log.
#[derive(Clone, Default, Debug)]
pub struct Account {
    /// What the request is called.
    pub id: RequestId,
    figures: Arc<Mutex<Figures>>,
}

/// The figures of an answer.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Figures {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Those that were in the cache.
    pub cached: usize,
    /// Those of the first choice, once it has left the queue.
    pub hit: Option<usize>,
    /// Tokens of the answer.
    pub tokens: usize,
    /// From the request to the first token.
    pub first: Option<Duration>,
    /// How the answer ended.
    pub finish: Option<&'static str>,
}

impl RequestId {
    /// The name that came with a request, if it can stand in a log and a header; else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let sane = |id: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            (1..=LONGEST).contains(&id.len()) && id.bytes().all(plain)
        };
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok()).filter(sane);
        given.map_or_else(Self::unique, |id| Self(id.into()))
    }

    fn unique() -> Self {
        let mut bytes = [0; 12];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        Self(bytes.iter().fold("req_".into(), |id, byte| format!("{id}{byte:02x}")))
    }
}

impl Account {
    /// The account of a request.
    pub fn of(id: &RequestId) -> Self {
        Self { id: id.clone(), figures: Arc::default() }
    }

    /// Writes figures down.
    pub fn note(&self, write: impl FnOnce(&mut Figures)) {
        write(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The figures so far.
    pub fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_over_if_it_forges_nothing() {
        let long = "a".repeat(129);
        for (given, taken) in [
            ("abc-1_2.3:4", true),
            ("", false),
            ("a b", false),
            ("a\u{e9}", false),
            ("\t", false),
            (long.as_str(), false),
            (&long[..128], true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, given.parse().unwrap());
            let RequestId(id) = RequestId::of(&headers);
            assert_eq!(id == given, taken, "{given:?}");
            assert!(taken || id.len() == 28, "{id}");
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }
}
