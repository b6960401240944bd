//! Vocabulary: byte-level tokens with merges in the form of Qwen's, generated or another file's.
//!
//! ```text
//! 256 bytes │ merges, one token each │ Qwen's special tokens │ [PAD…] up to the model's rows
//! ```
//! The generated merges make words such as ` kanetoli`: a syllable is a consonant and a vowel, a
//! foot is a hard syllable and a soft one, a word is two feet. What may join what never overlaps,
//! so that every token is what its own text encodes to. The merges of a small vocabulary are the
//! first ones of a large one.

use std::collections::HashSet;

use qwire_gguf::{Error, Metadata};

/// Qwen's special tokens in the order of their ids, from 151643 on where the vocabulary is Qwen's.
pub const SPECIALS: [&str; 26] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
];

/// Bytes and merges of Qwen's own vocabulary.
const QWEN_BASE: usize = 151_643;
const PADDING: &str = "[PAD";

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

const HARD: &str = "bcdfghjkpstvz";
const SOFT: &str = "lmnrwy";
const VOWELS: &str = "aeiou";

/// What a file says about its tokens.
pub struct Vocabulary {
    /// The kind of tokenizer.
    pub model: String,
    /// The splitter.
    pub pre: String,
    /// In the byte alphabet of GPT-2.
    pub tokens: Vec<String>,
    /// The kind of each token.
    pub types: Vec<i32>,
    /// Two tokens with a space between, by rank.
    pub merges: Vec<String>,
}

impl Vocabulary {
    /// A vocabulary of `size` tokens.
    pub fn generate(size: usize) -> Self {
        let base = QWEN_BASE.min(size - SPECIALS.len());
        let mut tokens = alphabet();
        let pairs = pairs().take(base - tokens.len());
        let merges: Vec<String> = pairs.map(|(left, right)| format!("{left} {right}")).collect();
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        assert_eq!(tokens.len(), base, "there are merges for {size} tokens");
        let types = vec![NORMAL; tokens.len()];
        let mut vocabulary =
            Self { model: "gpt2".into(), pre: "qwen2".into(), tokens, types, merges };
        vocabulary.complete(size);
        vocabulary
    }

    /// The vocabulary of another file, with the special tokens that it lacks and padding to `size`.
    pub fn borrow(metadata: &Metadata, size: usize) -> Result<Self, Error> {
        let key = "tokenizer.ggml.tokens";
        let strings = |strings: qwire_gguf::Strings<'_>| strings.map(String::from).collect();
        let mut tokens: Vec<String> = strings(metadata.require_strings(key)?);
        let model = metadata.require_str("tokenizer.ggml.model")?.to_string();
        let pre = metadata.str("tokenizer.ggml.pre")?.unwrap_or("default").to_string();
        let merges = strings(metadata.require_strings("tokenizer.ggml.merges")?);
        let types_key = "tokenizer.ggml.token_type";
        let mut types = metadata.i32s(types_key)?.unwrap_or_else(|| vec![NORMAL; tokens.len()]);
        if types.len() != tokens.len() {
            let problem = format!("has {} entries for {} tokens", types.len(), tokens.len());
            return Err(metadata.invalid(types_key, problem));
        }
        let own =
            tokens.iter().rposition(|token| !token.starts_with(PADDING)).map_or(0, |at| at + 1);
        tokens.truncate(own);
        types.truncate(own);
        let mut vocabulary = Self { model, pre, tokens, types, merges };
        vocabulary.complete(size);
        if vocabulary.tokens.len() > size {
            let problem = format!(
                "has {own} tokens, {} with Qwen's special ones; the shape has rows for {size}",
                vocabulary.tokens.len()
            );
            return Err(metadata.invalid(key, problem));
        }
        Ok(vocabulary)
    }

    /// The id of a token that is there.
    pub fn id(&self, text: &str) -> u32 {
        let at = self.tokens.iter().rposition(|token| token == text);
        at.expect("special tokens were added") as u32
    }

    /// Adds the special tokens that are not there, and padding.
    fn complete(&mut self, size: usize) {
        let known: HashSet<&str> = self.tokens.iter().map(String::as_str).collect();
        let missing: Vec<&str> =
            SPECIALS.into_iter().filter(|special| !known.contains(special)).collect();
        for special in missing {
            self.tokens.push(special.into());
            self.types.push(if special.starts_with("<|") { CONTROL } else { USER_DEFINED });
        }
        for id in self.tokens.len()..size {
            self.tokens.push(format!("{PADDING}{id}]"));
            self.types.push(UNUSED);
        }
    }
}

/// The bytes as GPT-2 writes them: those that print as themselves, then the others.
fn alphabet() -> Vec<String> {
    let printed = ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}');
    let moved = '\u{100}'..='\u{143}';
    printed.chain(moved).map(String::from).collect()
}

/// All merges by rank: indents, syllables, feet, both after a space, words.
fn pairs() -> impl Iterator<Item = (String, String)> {
    let indents = [("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("ĠĠĠĠ", "ĠĠĠĠ"), ("Ċ", "Ċ"), ("ĉ", "ĉ")];
    let (hard, soft) = (product(&letters(HARD), &letters(VOWELS)), letters(SOFT));
    let soft = product(&soft, &letters(VOWELS));
    let feet = product(&joined(&hard), &joined(&soft));
    let spaced: Vec<_> = [&hard, &soft, &feet]
        .into_iter()
        .flat_map(|pairs| joined(pairs))
        .map(|text| ("Ġ".to_string(), text))
        .collect();
    let words = words(joined(&feet));
    let owned = |(left, right): (&str, &str)| (left.to_string(), right.to_string());
    indents.map(owned).into_iter().chain(hard).chain(soft).chain(feet).chain(spaced).chain(words)
}

fn letters(text: &str) -> Vec<String> {
    text.chars().map(String::from).collect()
}

fn product(lefts: &[String], rights: &[String]) -> Vec<(String, String)> {
    let with = |left: &String| rights.iter().map(|right| (left.clone(), right.clone())).collect();
    lefts.iter().flat_map(|left| -> Vec<_> { with(left) }).collect()
}

fn joined(pairs: &[(String, String)]) -> Vec<String> {
    pairs.iter().map(|(left, right)| format!("{left}{right}")).collect()
}

/// Words of two feet, each inside of a word and after a space. Each foot begins one word in each
/// turn, and goes on with another foot every time.
fn words(feet: Vec<String>) -> impl Iterator<Item = (String, String)> {
    // A prime that does not divide the number of feet, so that no turn repeats another's words.
    const STRIDE: usize = 1009;
    let count = feet.len();
    (0..count * count).flat_map(move |at| {
        let (turn, first) = (at / count, at % count);
        let (first, last) = (&feet[first], &feet[(first + (turn + 1) * STRIDE) % count]);
        [first.clone(), format!("Ġ{first}")].map(|first| (first, last.clone()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use qwire_gguf::{File, OwnedArray, Writer};

    use super::*;

    /// Joins the characters of a text by rank, as slowly as the definition reads.
    fn encode(text: &str, ranks: &HashMap<&str, usize>) -> Vec<String> {
        let mut parts = letters(text);
        loop {
            let rank = |at: &usize| ranks.get(&*format!("{} {}", parts[*at], parts[*at + 1]));
            let joins = (0..parts.len() - 1).filter_map(|at| Some((*rank(&at)?, at)));
            let Some((_, at)) = joins.min() else { return parts };
            let right = parts.remove(at + 1);
            parts[at] += &right;
        }
    }

    #[test]
    fn every_token_is_unique_and_what_its_text_encodes_to() {
        for size in [4096, 151_936, 152_064] {
            let vocabulary = Vocabulary::generate(size);
            assert_eq!((vocabulary.tokens.len(), vocabulary.types.len()), (size, size));
            let tokens: HashSet<&str> = vocabulary.tokens.iter().map(String::as_str).collect();
            assert_eq!(tokens.len(), size, "tokens are unique");
            let merges = vocabulary.merges.iter().map(String::as_str);
            let ranks: HashMap<_, _> = merges.zip(0..).collect();
            assert_eq!(ranks.len(), vocabulary.merges.len(), "merges are unique");
            for merge in &vocabulary.merges {
                let (left, right) = merge.split_once(' ').unwrap();
                assert!(tokens.contains(left) && tokens.contains(right), "{merge}");
            }
            let base = 256 + vocabulary.merges.len();
            for token in vocabulary.tokens[..base].iter().step_by(size / 4096) {
                assert_eq!(encode(token, &ranks), std::slice::from_ref(token));
            }
        }
    }

    #[test]
    fn ids_are_those_of_qwen() {
        let large = Vocabulary::generate(151_936);
        let check = |id: u32, text: &str, kind| {
            assert_eq!((large.id(text), large.types[id as usize]), (id, kind), "{text}");
        };
        check(0, "!", NORMAL);
        check(93, "~", NORMAL);
        check(187, "ÿ", NORMAL);
        check(198, "Ċ", NORMAL);
        check(220, "Ġ", NORMAL);
        check(255, "Ń", NORMAL);
        check(151_643, "<|endoftext|>", CONTROL);
        check(151_645, "<|im_end|>", CONTROL);
        check(151_657, "<tool_call>", USER_DEFINED);
        check(151_668, "</think>", USER_DEFINED);
        check(151_669, "[PAD151669]", UNUSED);
        let small = Vocabulary::generate(4096);
        assert_eq!(small.merges, large.merges[..small.merges.len()]);
        assert_eq!(small.id("</think>"), 4095);
    }

    fn file_with(tokens: &[&str], types: &[i32]) -> File {
        let mut writer = Writer::default();
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        writer.metadata(&key("model"), "gpt2").unwrap();
        writer.metadata(&key("pre"), "qwen2").unwrap();
        writer.metadata(&key("tokens"), OwnedArray::strings(tokens)).unwrap();
        writer.metadata(&key("token_type"), types).unwrap();
        writer.metadata(&key("merges"), OwnedArray::strings(["a b"])).unwrap();
        File::from_bytes(writer.begin(Vec::new()).unwrap().finish().unwrap()).unwrap()
    }

    #[test]
    fn a_borrowed_vocabulary_is_completed() {
        let file = file_with(&["a", "b", "ab", "<think>", "[PAD4]"], &[1, 1, 1, 3, 5]);
        let vocabulary = Vocabulary::borrow(file.metadata(), 32).unwrap();
        assert_eq!((vocabulary.tokens.len(), vocabulary.types.len()), (32, 32));
        assert_eq!(vocabulary.tokens[..5], ["a", "b", "ab", "<think>", "<|endoftext|>"]);
        assert_eq!(vocabulary.types[..5], [1, 1, 1, 3, 3]);
        assert_eq!(vocabulary.tokens[28..], ["</think>", "[PAD29]", "[PAD30]", "[PAD31]"]);
        assert_eq!(vocabulary.merges, ["a b"]);
    }

    #[test]
    fn a_vocabulary_that_does_not_fit_is_refused() {
        let check = |types: &[i32], size, words: &str| {
            let file = file_with(&["a", "b", "ab"], types);
            let error = Vocabulary::borrow(file.metadata(), size).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        };
        check(&[1; 3], 28, "has 3 tokens, 29 with Qwen's special ones; the shape has rows for 28");
        check(&[1; 2], 64, "has 2 entries for 3 tokens");
    }
}
