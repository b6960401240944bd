//! Encode: text to ids, in the order of the official tokenizer.
//!
//! Special tokens are cut out of the raw text first; what lies between them is brought to
//! Unicode normal form C, split into words, and each word's bytes are merged.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::merges::Bench;
use super::splitter::words;
use super::vocabulary::Vocabulary;
use crate::template::unmarked;

/// What the texts of special tokens mean when they occur in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// They become their token: for the output of a template.
    Parse,
    /// They stay text, so that no user can write structure: for anything else.
    AsText,
    /// They become their token where the template wrote them, not where they stood in a
    /// conversation: for the output of a template with marks ([`crate::ChatTemplate::prompt`]).
    Guarded,
}

impl Vocabulary {
    /// The ids of `text`.
    pub fn encode(&self, text: &str, special: Special) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, special, &mut ids);
        ids
    }

    /// The ids of a whole prompt: `text` after the `bos` token where the model wants one.
    pub fn encode_prompt(&self, text: &str, special: Special) -> Vec<u32> {
        let mut ids = Vec::with_capacity(1 + text.len() / 3);
        ids.extend(self.special_ids().bos.filter(|_| self.add_bos()));
        self.encode_into(text, special, &mut ids);
        ids
    }

    fn encode_into(&self, text: &str, special: Special, ids: &mut Vec<u32>) {
        let mut bench = Bench::default();
        let mut from = 0;
        let mut encode = |text: &str, ids: &mut Vec<u32>| match special {
            Special::Guarded => self.encode_piece(&unmarked(text), &mut bench, ids),
            Special::Parse | Special::AsText => self.encode_piece(text, &mut bench, ids),
        };
        if special != Special::AsText {
            while let Some(found) = self.specials.find(text, from) {
                encode(&text[from..found.start], ids);
                ids.push(found.id);
                from = found.end;
            }
        }
        encode(&text[from..], ids);
    }

    /// Encodes a text without special tokens.
    fn encode_piece(&self, text: &str, bench: &mut Bench, ids: &mut Vec<u32>) {
        for word in words(&nfc(text)) {
            let symbols = word.bytes().map(|byte| self.byte_ids[usize::from(byte)]);
            self.merges.join(symbols, bench, ids);
        }
    }
}

/// Normal form C, without a copy where the text is in it already.
fn nfc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::tests::Small;
    use super::super::{Controls, Parts};
    use super::*;
    use proptest::prelude::*;

    const MERGES: [&str; 6] = ["t h", "Ġ t", "th e", "Ġt he", "Ã ©", "h e"];
    const THE: u32 = 258;

    fn vocabulary(change: impl FnOnce(&mut Parts)) -> Vocabulary {
        let small = Small::new(&MERGES, &[("<|x|>", 3), ("<t>", 4), ("<|x|>>", 3)]);
        let mut parts = small.parts();
        change(&mut parts);
        Vocabulary::new(&parts).unwrap()
    }

    fn bytes(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn merges_inside_words_only() {
        let vocabulary = vocabulary(|_| ());
        let encode = |text| vocabulary.encode(text, Special::AsText);
        assert!(encode("").is_empty());
        assert_eq!(encode("the"), [THE]);
        assert_eq!(encode("t he"), [116, 32, 261]);
        assert_eq!(encode(" the"), [32, THE]);
        assert_eq!(encode("e\u{301}"), [260]);
        assert_eq!(encode("<|x|>"), bytes("<|x|>"));
        assert_eq!(encode("<t>"), bytes("<t>"));
    }

    #[test]
    fn specials_split_before_everything() {
        let vocabulary = vocabulary(|_| ());
        let encode = |text| vocabulary.encode(text, Special::Parse);
        assert_eq!(encode("th<|x|>e<|x|>><t>the"), [256, 262, 101, 264, 263, THE]);
        assert_eq!(encode("e<t>\u{301}"), [101, 263, 0xcc, 0x81]);
        assert_eq!(encode("<|x|"), bytes("<|x|"));
    }

    #[test]
    fn a_prompt_starts_with_bos_where_wanted() {
        let with = vocabulary(|parts| (parts.ids.bos, parts.add_bos) = (Some(262), true));
        assert_eq!(with.encode_prompt("the", Special::Parse), [262, THE]);
        assert_eq!(with.encode("the", Special::Parse), [THE]);
        let without = vocabulary(|parts| parts.ids.bos = Some(262));
        assert_eq!(without.encode_prompt("the", Special::Parse), [THE]);
    }

    #[test]
    fn long_words_are_not_quadratic() {
        let vocabulary = vocabulary(|parts| parts.merges.as_mut().unwrap().push("Ġ Ġ"));
        for text in ["a", " ", "the", "\u{301}", "。", "<|x"] {
            let text = text.repeat((1 << 20) / text.len());
            let start = std::time::Instant::now();
            let ids = vocabulary.encode(&text, Special::Parse);
            assert_eq!(vocabulary.decode(&ids, Controls::Show), text);
            assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
        }
    }

    proptest! {
        #[test]
        fn decoding_gives_the_text_back(text in "(\\PC|[ \r\n\te\u{301}the']|<t>|<\\|x\\|>)*") {
            let vocabulary = vocabulary(|_| ());
            let as_text = vocabulary.encode(&text, Special::AsText);
            let nfc = nfc(&text);
            prop_assert_eq!(vocabulary.decode(&as_text, Controls::Hide), &*nfc);
            prop_assert!(as_text.iter().all(|&id| id < 262));
            let parsed = vocabulary.encode(&text, Special::Parse);
            let normal: String = vocabulary.decode(&parsed, Controls::Show).nfc().collect();
            prop_assert_eq!(normal, nfc);
        }
    }
}
