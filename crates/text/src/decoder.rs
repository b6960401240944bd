//! Decoder: bytes of tokens to text, without ever emitting half a character.
//!
//! Tokens end in the middle of characters. The decoder holds back at most three bytes until
//! they are complete, or proven wrong, which makes them U+FFFD. Whatever the cuts, the pieces
//! together are what decoding all bytes at once gives.

/// Up to three bytes of a character that has begun.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    pending: [u8; 3],
    len: usize,
}

impl Decoder {
    /// A decoder at the start of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes of the next token and returns the text that is now complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let joined = [&self.pending[..self.len], bytes].concat();
        self.len = 0;
        let mut text = String::with_capacity(joined.len());
        let mut chunks = joined.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let wrong = chunk.invalid();
            if wrong.is_empty() {
                continue;
            }
            if chunks.peek().is_none() && is_unfinished(wrong) {
                self.len = wrong.len();
                self.pending[..self.len].copy_from_slice(wrong);
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// What is left at the end: nothing, or U+FFFD for a character that never became complete.
    pub fn finish(&mut self) -> String {
        let left = std::mem::take(&mut self.len);
        String::from_utf8_lossy(&self.pending[..left]).into_owned()
    }
}

/// Whether more bytes could make a character of these.
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pushes: &[(&[u8], &str)], rest: &str) {
        let mut decoder = Decoder::new();
        for (bytes, expected) in pushes {
            assert_eq!(decoder.push(bytes), *expected);
        }
        assert_eq!(decoder.finish(), rest);
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn holds_back_half_characters() {
        check(&[(b"a\xe4", "a"), (b"", ""), (b"\xbd", ""), (b"\xa0b", "你b")], "");
        check(&[(b"\xf0\x9f\x98", ""), (b"\x80\xf0", "😀"), (b"\x9f", "")], "\u{fffd}");
        check(&[(b"\xe4", ""), (b"a", "\u{fffd}a")], "");
        check(&[(b"\xff", "\u{fffd}"), (b"\x80", "\u{fffd}"), (b"\xc0", "\u{fffd}")], "");
        check(&[(b"\xed", ""), (b"\xa0", "\u{fffd}\u{fffd}")], "");
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole(
            pieces in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![any::<u8>(), 0x80..0xc0u8, Just(0xe4), Just(0xf0), Just(0x9f)],
                    0..4,
                ),
                0..20,
            ),
        ) {
            let mut decoder = Decoder::new();
            let mut text: String = pieces.iter().map(|piece| decoder.push(piece)).collect();
            text.push_str(&decoder.finish());
            let whole = pieces.concat();
            prop_assert_eq!(text, String::from_utf8_lossy(&whole));
        }
    }
}
