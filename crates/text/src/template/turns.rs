//! Turns: a rendered conversation to tokens, with the very tokens that were sampled where it shows
//! what the model once said.
//!
//! ```text
//! ..<|im_end|>\n │ <|im_start|>assistant\n │ what was said │ <|im_end|>\n..
//!         before │ opener                 │ turn          │ an end
//! ```
//! A text has many spellings in tokens and a model does not always choose the tokenizer's own; a
//! client may trim what was said, or write the arguments of a call in another order. Whoever
//! remembers what was sampled behind the same tokens is asked at each turn. What nobody remembers
//! is encoded from the text.

use super::guard::unmarked;
use crate::tokenizer::{Special, Vocabulary};

/// The longest opener that is remembered, in bytes.
const MAX_OPENER_BYTES: usize = 256;

/// Who remembers what was sampled.
pub trait Recall {
    /// The texts with which turns have opened, the longest first.
    fn openers(&self) -> Vec<String>;

    /// The tokens that were sampled behind `before` and the opener's tokens, if what was said
    /// then is what this turn shows. `before` never shrinks from one call to the next.
    fn turn(&mut self, before: &[u32], opener: (&str, &[u32]), turn: &str) -> Option<Vec<u32>>;
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Oblivion;

impl Recall for Oblivion {
    fn openers(&self) -> Vec<String> {
        Vec::new()
    }

    fn turn(&mut self, _: &[u32], _: (&str, &[u32]), _: &str) -> Option<Vec<u32>> {
        None
    }
}

/// The tokens of a rendering with marks.
pub(super) fn encoded(vocabulary: &Vocabulary, text: &str, recall: &mut dyn Recall) -> Vec<u32> {
    let mut ids = Vec::with_capacity(1 + text.len() / 3);
    ids.extend(vocabulary.special_ids().bos.filter(|_| vocabulary.add_bos()));
    let encode = |text: &str| vocabulary.encode(text, Special::Guarded);
    let openers = recall.openers();
    let (mut from, mut at) = (0, 0);
    while let Some(found) = vocabulary.controls.find(text, at).filter(|_| !openers.is_empty()) {
        at = found.end;
        for opener in openers.iter().filter(|opener| text[found.start..].starts_with(*opener)) {
            let start = found.start + opener.len();
            let Some(end) = end_of_turn(vocabulary, text, start) else { continue };
            ids.extend(encode(&text[from..found.start]));
            from = found.start;
            let begun = encode(opener);
            let turn = unmarked(&text[start..end]);
            if let Some(sampled) = recall.turn(&ids, (opener, &begun), &turn) {
                ids.extend(begun.into_iter().chain(sampled));
                (from, at) = (end, end);
                break;
            }
        }
    }
    ids.extend(encode(&text[from..]));
    ids
}

/// Where the template closes the turn that starts here.
fn end_of_turn(vocabulary: &Vocabulary, text: &str, start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let found = vocabulary.controls.find(text, at)?;
        if vocabulary.is_end(found.id) {
            return Some(found.start);
        }
        at = found.end;
    }
}

/// What a prompt ends with: its last control token and all that follows.
pub(super) fn opener(vocabulary: &Vocabulary, text: &str) -> Option<String> {
    // A control token within these bytes is the last one's start.
    let tail = text.ceil_char_boundary(text.len().saturating_sub(MAX_OPENER_BYTES));
    let (mut at, mut last) = (tail, None);
    while let Some(found) = vocabulary.controls.find(text, at) {
        (at, last) = (found.end, Some(found.start));
    }
    last.map(|start| text[start..].to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::tokenizer::{Controls, Small};
    use crate::{ChatTemplate, Opening};

    const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + \
        message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}\
        {{ '<|im_start|>assistant\n' }}{% endif %}";

    fn vocabulary() -> Vocabulary {
        let small = Small::new(&["a b", "Ċ Ċ"], &[("<|im_start|>", 3), ("<|im_end|>", 3)]);
        let mut parts = small.parts();
        parts.ids.eos = Some(parts.tokens.len() as u32 - 1);
        Vocabulary::new(&parts).expect("a vocabulary")
    }

    /// Remembers one answer.
    struct One {
        before: Vec<u32>,
        turn: String,
        sampled: Vec<u32>,
        asked: Vec<usize>,
    }

    impl Recall for One {
        fn openers(&self) -> Vec<String> {
            vec!["<|im_start|>assistant\n".into()]
        }

        fn turn(&mut self, before: &[u32], opener: (&str, &[u32]), turn: &str) -> Option<Vec<u32>> {
            assert!(self.asked.last().is_none_or(|last| *last <= before.len()));
            self.asked.push(before.len());
            let same = [before, opener.1].concat() == self.before && turn.trim() == self.turn;
            same.then(|| self.sampled.clone())
        }
    }

    fn prompt(vocabulary: &Vocabulary, messages: &Value, recall: &mut dyn Recall) -> crate::Prompt {
        let template = ChatTemplate::new(TEMPLATE).unwrap();
        let (fresh, more) = (Opening::Fresh, Map::new());
        template.prompt(vocabulary, messages, None, fresh, &more, recall).unwrap()
    }

    #[test]
    fn a_turn_that_was_sampled_here_has_its_own_tokens() {
        let vocabulary = vocabulary();
        let user = |text: &str| json!({ "role": "user", "content": text });
        let said = |text: &str| json!({ "role": "assistant", "content": text });
        let first = prompt(&vocabulary, &json!([user("x")]), &mut Oblivion);
        assert_eq!(first.opener.as_deref(), Some("<|im_start|>assistant\n"));
        // Spelt letter by letter, where the tokenizer would write one token.
        let spelt = |text: &str| {
            let letters = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
            letters.flat_map(|c| vocabulary.encode(c, Special::AsText)).collect::<Vec<_>>()
        };
        let (before, sampled) = (first.ids.clone(), spelt("ab\n\n"));
        let mut one = One { before, turn: "ab".into(), sampled, asked: Vec::new() };
        let messages = json!([user("x"), said("ab"), user("y"), said("ab"), user("z")]);
        let found = prompt(&vocabulary, &messages, &mut one);
        let plain = prompt(&vocabulary, &messages, &mut Oblivion);
        assert_eq!(found.text, plain.text);
        let begun = [&first.ids[..], &one.sampled].concat();
        assert!(found.ids.starts_with(&begun));
        assert_eq!(one.asked.len(), 2);
        let shown = vocabulary.decode(&found.ids, Controls::Show);
        assert_eq!(shown, plain.text.replacen("ab<", "ab\n\n<", 1));
        assert_eq!(found.ids.len(), plain.ids.len() + one.sampled.len() - 1);
    }

    #[test]
    fn what_nobody_remembers_is_encoded_as_a_whole() {
        let vocabulary = vocabulary();
        let said = |text: &str| json!([{ "role": "assistant", "content": text }]);
        // The opener's line break and the turn's are one token.
        let mut one = One { before: vec![1], turn: "a".into(), sampled: vec![], asked: Vec::new() };
        let found = prompt(&vocabulary, &said("\na"), &mut one);
        assert_eq!(found.ids, prompt(&vocabulary, &said("\na"), &mut Oblivion).ids);
        assert_eq!(one.asked.len(), 1, "the begun turn has no end");
    }
}
