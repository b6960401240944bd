//! Vocabulary: the tokens of a model, checked once at load; afterwards nothing fails.
//!
//! The bytes of all tokens lie in one arena with offsets, so that a token's text is a slice.
//! What a hostile file could break is refused here, with the key, the find and what is accepted.

use std::collections::HashMap;

use qwire_gguf::Metadata;

use super::alphabet::{char_of, spell};
use super::merges::Merges;
use super::parts::{Parts, SpecialIds};
use super::specials::Specials;
use crate::error::{Error, excerpt};

/// Splitters by the names under which files ask for this one.
const SPLITTERS: [&str; 3] = ["qwen2", "deepseek-r1-qwen", "kormo"];

/// Control tokens that end a generation wherever a vocabulary has them, as models were trained
/// to emit them although many files name only one of them as `eos`.
const END_TEXTS: [&str; 12] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|return|>",
    "<end_of_turn>",
    "<EOT>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// What a token is, by its `token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1: a piece of text.
    Normal,
    /// 2: stands for what the vocabulary cannot express.
    Unknown,
    /// 3: structure, not text; written by the template only.
    Control,
    /// 4: a text of its own that is never split, such as `<think>`.
    UserDefined,
    /// 5: a row of the matrices without meaning.
    Unused,
    /// 6: a single byte.
    Byte,
}

impl Kind {
    fn from_type(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// Whether tokens that are not text are shown when ids become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controls {
    /// Control, unknown and unused tokens are empty.
    Hide,
    /// Every token is the text that the file gives it.
    Show,
}

/// The tokens of a model.
pub struct Vocabulary {
    arena: Vec<u8>,
    offsets: Vec<usize>, // [tokens + 1]
    kinds: Vec<Kind>,    // [tokens]
    pub(super) byte_ids: [u32; 256],
    pub(super) merges: Merges,
    pub(super) specials: Specials,
    /// Those of them that are structure or end an answer.
    pub(crate) controls: Specials,
    ids: SpecialIds,
    ends: Vec<u32>, // ascending
    add_bos: bool,
    ignored_merges: usize,
}

impl Vocabulary {
    /// Reads and checks the metadata of a file.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, Error> {
        Self::new(&Parts::from_gguf(metadata)?)
    }

    /// Checks the parts of a file and makes a vocabulary of them.
    pub fn new(parts: &Parts) -> Result<Self, Error> {
        check_names(parts)?;
        let kinds = kinds(parts)?;
        check_ids(parts)?;
        let mut index: HashMap<&str, u32> = HashMap::default();
        let mut arena = Vec::new();
        let mut offsets = vec![0];
        for ((token, kind), id) in parts.tokens.iter().zip(&kinds).zip(0..) {
            index.entry(token).or_insert(id);
            match kind {
                Kind::Normal | Kind::Byte => spell(token, &mut arena),
                _ => arena.extend_from_slice(token.as_bytes()),
            }
            offsets.push(arena.len());
        }
        let byte_ids = byte_ids(&index)?;
        let (merges, ignored_merges) = merges(parts, &index)?;
        let specials = Specials::new(parts.tokens.iter().zip(&kinds).zip(0..).filter_map(
            |((token, kind), id)| {
                matches!(kind, Kind::Control | Kind::UserDefined).then_some((*token, id))
            },
        ));
        let ending = END_TEXTS.iter().filter_map(|text| specials.id_of(text));
        let mut ends: Vec<u32> = parts
            .ids
            .ends()
            .chain(ending.filter(|&id| kinds[id as usize] == Kind::Control))
            .collect();
        ends.sort_unstable();
        ends.dedup();
        let is_control = |(_, id): &(&str, u32)| match kinds[*id as usize] {
            Kind::Control => true,
            kind => kind == Kind::UserDefined && ends.contains(id),
        };
        let controls = parts.tokens.iter().copied().zip(0..).filter(is_control);
        let controls = Specials::new(controls);
        let (ids, add_bos) = (parts.ids, parts.add_bos);
        Ok(Self {
            arena,
            offsets,
            kinds,
            byte_ids,
            merges,
            specials,
            controls,
            ids,
            ends,
            add_bos,
            ignored_merges,
        })
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Never true: an empty vocabulary is refused at load.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// What the token is; `None` beyond the vocabulary.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// The bytes of a token, perhaps half a character. Ids beyond the vocabulary, which a model
    /// with padded matrices can emit, are empty.
    pub fn token_bytes(&self, id: u32, controls: Controls) -> &[u8] {
        let at = id as usize;
        match self.kinds.get(at) {
            None => &[],
            Some(Kind::Control | Kind::Unknown | Kind::Unused) if controls == Controls::Hide => &[],
            Some(_) => &self.arena[self.offsets[at]..self.offsets[at + 1]],
        }
    }

    /// The control or user-defined token that is written `text`.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        self.specials.id_of(text)
    }

    /// The ids that the file names.
    pub fn special_ids(&self) -> &SpecialIds {
        &self.ids
    }

    /// Whether a generation ends with this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Every id that ends a generation, ascending.
    pub fn end_ids(&self) -> &[u32] {
        &self.ends
    }

    /// Whether a prompt starts with the `bos` token.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// How many merges can be applied.
    pub fn merges(&self) -> usize {
        self.merges.len()
    }

    /// How many merges were ignored: repeated, or of texts that are not in the vocabulary.
    pub fn ignored_merges(&self) -> usize {
        self.ignored_merges
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32], controls: Controls) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids, controls)).into_owned()
    }

    /// The bytes of `ids`.
    pub fn decode_bytes(&self, ids: &[u32], controls: Controls) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.token_bytes(id, controls)).copied().collect()
    }
}

fn refuse<T>(why: String) -> Result<T, Error> {
    Err(Error::Vocabulary(why))
}

fn check_names(parts: &Parts) -> Result<(), Error> {
    if parts.model != "gpt2" {
        let found = excerpt(parts.model, 40);
        return refuse(format!("tokenizer.ggml.model is \"{found}\"; accepted: \"gpt2\""));
    }
    match parts.pre {
        Some(name) if SPLITTERS.contains(&name) => Ok(()),
        found => {
            let found = found.map_or("missing".into(), |name| format!("\"{}\"", excerpt(name, 40)));
            refuse(format!("tokenizer.ggml.pre is {found}; accepted: {}", quoted(&SPLITTERS)))
        }
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn kinds(parts: &Parts) -> Result<Vec<Kind>, Error> {
    let count = parts.tokens.len();
    if count == 0 {
        return refuse("tokenizer.ggml.tokens is empty; accepted: one text per token".into());
    }
    if u32::try_from(count).is_err() {
        return refuse(format!(
            "tokenizer.ggml.tokens has {count} entries; accepted: at most {}",
            u32::MAX
        ));
    }
    let Some(types) = &parts.types else { return Ok(vec![Kind::Normal; count]) };
    if types.len() != count {
        return refuse(format!(
            "tokenizer.ggml.token_type has {} entries; accepted: {count}, one per token",
            types.len()
        ));
    }
    let kind = |(at, number): (usize, &i32)| {
        Kind::from_type(*number).ok_or_else(|| {
            Error::Vocabulary(format!(
                "tokenizer.ggml.token_type[{at}] is {number}; accepted: 1 to 6"
            ))
        })
    };
    types.iter().enumerate().map(kind).collect()
}

fn check_ids(parts: &Parts) -> Result<(), Error> {
    let count = parts.tokens.len();
    for (key, id) in parts.ids.by_key() {
        if let Some(id) = id.filter(|&id| id as usize >= count) {
            return refuse(format!("{key} is {id}; accepted: below {count}, the vocabulary"));
        }
    }
    if parts.add_bos && parts.ids.bos.is_none() {
        let why = "tokenizer.ggml.add_bos_token is true without tokenizer.ggml.bos_token_id";
        return refuse(format!("{why}; accepted: both or false"));
    }
    Ok(())
}

/// The tokens of single bytes. All are required, so that encoding cannot fail.
fn byte_ids(index: &HashMap<&str, u32>) -> Result<[u32; 256], Error> {
    let mut ids = [0; 256];
    for byte in 0..=255 {
        let spelled = char_of(byte);
        match index.get(spelled.encode_utf8(&mut [0; 4]) as &str) {
            Some(&id) => ids[usize::from(byte)] = id,
            None => {
                return refuse(format!(
                    "tokenizer.ggml.tokens has no \"{spelled}\" for byte {byte:#04x}; accepted: \
                     a byte-level vocabulary, which has a token for every byte"
                ));
            }
        }
    }
    Ok(ids)
}

/// The merges that can be applied, and how many cannot.
fn merges(parts: &Parts, index: &HashMap<&str, u32>) -> Result<(Merges, usize), Error> {
    let Some(texts) = &parts.merges else {
        return refuse("tokenizer.ggml.merges is missing; accepted: pairs by rank".into());
    };
    let (mut merges, mut ignored, mut joined) = (Merges::default(), 0, String::new());
    for (rank, text) in (0..).zip(texts) {
        let halves = text
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '));
        let Some((left, right)) = halves else {
            return refuse(format!(
                "tokenizer.ggml.merges[{rank}] is \"{}\"; accepted: two texts with one space \
                 between",
                excerpt(text, 40)
            ));
        };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let known = (index.get(left), index.get(right), index.get(joined.as_str()));
        let (Some(&left), Some(&right), Some(&result)) = known else {
            ignored += 1;
            continue;
        };
        if !merges.push(rank, (left, right), result) {
            ignored += 1;
        }
    }
    Ok((merges, ignored))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// 256 bytes in order, then some merges' results, then what `extra` adds.
    pub(crate) struct Small {
        pub(crate) tokens: Vec<String>,
        pub(crate) types: Vec<i32>,
        pub(crate) merges: Vec<String>,
    }

    impl Small {
        pub(crate) fn new(merges: &[&str], extra: &[(&str, i32)]) -> Self {
            let mut tokens: Vec<String> = (0..=255).map(|byte| char_of(byte).into()).collect();
            tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
            let mut types = vec![1; tokens.len()];
            tokens.extend(extra.iter().map(|(text, _)| (*text).into()));
            types.extend(extra.iter().map(|(_, kind)| kind));
            Self { tokens, types, merges: merges.iter().map(|&merge| merge.into()).collect() }
        }

        pub(crate) fn parts(&self) -> Parts<'_> {
            Parts {
                model: "gpt2",
                pre: Some("qwen2"),
                tokens: self.tokens.iter().map(String::as_str).collect(),
                types: Some(self.types.clone()),
                merges: Some(self.merges.iter().map(String::as_str).collect()),
                ..Parts::default()
            }
        }
    }

    fn small() -> Small {
        let extra = [("<|im_end|>", 3), ("<think>", 4), ("[PAD]", 5), ("<|endoftext|>", 3)];
        Small::new(&["t h", "th e", "Ġ the"], &extra)
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Parts), expected: &str) {
        let small = small();
        let mut parts = small.parts();
        change(&mut parts);
        let why = Vocabulary::new(&parts).err().expect("refused").to_string();
        assert!(why.contains(expected), "{why}");
        assert!(!why.contains('\n') && why.len() < 250, "{why}");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        refused(|p| p.model = "llama", "tokenizer.ggml.model is \"llama\"; accepted: \"gpt2\"");
        refused(|p| p.pre = None, "tokenizer.ggml.pre is missing; accepted: \"qwen2\"");
        refused(|p| p.pre = Some("qwen35"), "tokenizer.ggml.pre is \"qwen35\"");
        refused(|p| p.pre = Some("default\n"), "tokenizer.ggml.pre is \"default\\n\"");
        refused(|p| p.tokens.clear(), "tokenizer.ggml.tokens is empty");
        refused(|p| p.types = Some(vec![1; 10]), "token_type has 10 entries; accepted: 263");
        refused(|p| p.types = Some(vec![1; 300]), "token_type has 300 entries");
        refused(|p| p.types.as_mut().unwrap()[7] = 9, "token_type[7] is 9; accepted: 1 to 6");
        refused(|p| p.merges = None, "tokenizer.ggml.merges is missing");
        for text in ["th", "", "t ", " h", "t h e", "t  h"] {
            refused(|p| p.merges.as_mut().unwrap()[1] = text, "tokenizer.ggml.merges[1] is \"");
        }
        refused(|p| p.ids.eos = Some(263), "eos_token_id is 263; accepted: below 263");
        refused(|p| p.ids.fim_sep = Some(u32::MAX), "tokenizer.ggml.fim_sep_token_id is");
        refused(|p| p.add_bos = true, "tokenizer.ggml.add_bos_token is true without");
        refused(|p| p.tokens[255] = "x", "no \"ÿ\" for byte 0xff");
    }

    #[test]
    fn merges_of_unknown_texts_are_counted() {
        let small = small();
        let mut parts = small.parts();
        parts.merges = Some(vec!["t h", "q q", "t h", "th ee"]);
        let vocabulary = Vocabulary::new(&parts).unwrap();
        assert_eq!((vocabulary.merges(), vocabulary.ignored_merges()), (1, 3));
    }

    #[test]
    fn knows_its_tokens() {
        let small = small();
        let mut parts = small.parts();
        parts.ids.eos = Some(260);
        let vocabulary = Vocabulary::new(&parts).unwrap();
        assert_eq!(vocabulary.len(), 263);
        assert_eq!(vocabulary.end_ids(), [259, 260, 262]);
        assert!(vocabulary.is_end(262) && !vocabulary.is_end(261) && !vocabulary.is_end(9999));
        assert_eq!(vocabulary.special_id("<think>"), Some(260));
        assert_eq!(vocabulary.special_id("[PAD]"), None);
        assert_eq!(vocabulary.kind(261), Some(Kind::Unused));
        assert_eq!(vocabulary.kind(263), None);
        let ids = [258, 0xe4, 0xbd, 259, 260, 261, 999];
        assert_eq!(vocabulary.decode(&ids, Controls::Hide), " the\u{fffd}<think>");
        assert_eq!(vocabulary.decode(&ids, Controls::Show), " the\u{fffd}<|im_end|><think>[PAD]");
    }
}
