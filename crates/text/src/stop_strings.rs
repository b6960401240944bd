//! Stop strings: ends a text where one of several strings first appears, while it streams.
//!
//! Only the longest tail that may still become a stop string is held back. The first string to
//! be complete wins, the longest of those complete at once. One table per string says how much
//! of it still stands after a mismatch (Knuth, Morris, Pratt), so that no byte is read twice.

/// A matcher over the visible text of one generation.
#[derive(Debug, Clone)]
pub struct StopStrings {
    stops: Vec<Stop>,
    held: String,
    stopped: Option<usize>,
}

#[derive(Debug, Clone)]
struct Stop {
    text: Box<[u8]>,
    borders: Vec<usize>, // [i] the longest proper prefix of text that ends text[..=i]
    matched: usize,
}

/// What a piece of text leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visible {
    /// Text that is certainly before any stop string.
    pub text: String,
    /// The index of the stop string that ended the text.
    pub stopped: Option<usize>,
}

impl StopStrings {
    /// A matcher for these strings; empty ones never match.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Self {
        let stops = stops.iter().map(|stop| Stop::new(stop.as_ref())).collect();
        Self { stops, held: String::new(), stopped: None }
    }

    /// Takes the next piece of text. After a stop, every further piece is dropped.
    pub fn push(&mut self, text: &str) -> Visible {
        if self.stopped.is_some() {
            return Visible { text: String::new(), stopped: self.stopped };
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (at, byte) in text.bytes().enumerate() {
            let mut longest: Option<(usize, usize)> = None; // (length, index)
            for (index, stop) in self.stops.iter_mut().enumerate() {
                let len = stop.text.len();
                if stop.advance(byte) && longest.is_none_or(|(most, _)| len > most) {
                    longest = Some((len, index));
                }
            }
            if let Some((len, index)) = longest {
                self.stopped = Some(index);
                let mut text = std::mem::take(&mut self.held);
                text.truncate(before + at + 1 - len);
                return Visible { text, stopped: self.stopped };
            }
        }
        let keep = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - keep);
        Visible { text: std::mem::replace(&mut self.held, held), stopped: None }
    }

    /// The text that was held back, at the end of a generation that did not stop.
    pub fn finish(&mut self) -> String {
        for stop in &mut self.stops {
            stop.matched = 0;
        }
        std::mem::take(&mut self.held)
    }
}

impl Stop {
    fn new(text: &str) -> Self {
        let text: Box<[u8]> = text.as_bytes().into();
        let mut borders = vec![0; text.len()];
        let mut len = 0;
        for at in 1..text.len() {
            while len > 0 && text[len] != text[at] {
                len = borders[len - 1];
            }
            if text[len] == text[at] {
                len += 1;
            }
            borders[at] = len;
        }
        Self { text, borders, matched: 0 }
    }

    /// Takes one byte; true when the string is complete. Afterwards `matched` bytes of it stand.
    fn advance(&mut self, byte: u8) -> bool {
        if self.text.is_empty() {
            return false;
        }
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.borders[self.matched - 1];
        }
        if self.text[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: where the first stop string to be complete starts.
    fn whole(stops: &[String], text: &str) -> (String, Option<usize>) {
        let first = stops.iter().enumerate().filter(|(_, stop)| !stop.is_empty());
        let first = first.filter_map(|(index, stop)| {
            let start = text.find(stop.as_str())?;
            Some((start + stop.len(), start, index))
        });
        match first.min() {
            Some((_, start, index)) => (text[..start].into(), Some(index)),
            None => (text.into(), None),
        }
    }

    fn streamed(stops: &[String], pieces: &[String]) -> (String, Option<usize>) {
        let mut matcher = StopStrings::new(stops);
        let mut text = String::new();
        let mut stopped = None;
        for piece in pieces {
            let visible = matcher.push(piece);
            text.push_str(&visible.text);
            stopped = visible.stopped;
        }
        text.push_str(&matcher.finish());
        (text, stopped)
    }

    #[test]
    fn holds_back_only_what_may_become_a_stop() {
        let mut stops = StopStrings::new(&["</s>", "\n\nUser", ""]);
        let text = |text: &str| Visible { text: text.into(), stopped: None };
        assert_eq!(stops.push("a</"), text("a"));
        assert_eq!(stops.push("b<"), text("</b"));
        assert_eq!(stops.push("/s"), text(""));
        assert_eq!(stops.push("!\n"), text("</s!"));
        assert_eq!(stops.push("\n"), text(""));
        assert_eq!(stops.push("\nUse"), text("\n"));
        assert_eq!(stops.push("r x"), Visible { text: String::new(), stopped: Some(1) });
        assert_eq!(stops.push("y"), Visible { text: String::new(), stopped: Some(1) });
        assert_eq!(stops.finish(), "");
    }

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let mut stops = StopStrings::new(&["stop"]);
        assert_eq!(stops.push("I sto").text, "I ");
        assert_eq!(stops.finish(), "sto");
    }

    proptest! {
        #[test]
        fn streamed_is_whole(
            stops in prop::collection::vec("[abé]{0,4}", 0..4),
            pieces in prop::collection::vec("[abéc]{0,4}", 0..10),
        ) {
            prop_assert_eq!(streamed(&stops, &pieces), whole(&stops, &pieces.concat()));
        }
    }
}
