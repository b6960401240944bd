//! Fork: where a prompt parts from the last one of its conversation, and in what.
//!
//! A prompt that goes on where the last one ended finds all of it cached. One that parts from it
//! early computes the rest again, and nobody sees why: so the two texts at the fork are told, in
//! the log, in a header, and by `/v1/cache/explain`. Two prompts are of one conversation if they
//! have the same first question, or the same first answer.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderName, HeaderValue};
use qwire_engine::Salt;
use qwire_text::{Controls, Vocabulary};
use serde_json::Value;

use super::conversation::volatile;
use super::name::hash_of;

/// Tokens of all prompts that are remembered.
const MOST_TOKENS: usize = 4 << 20;
/// Prompts that are remembered.
const MOST_PROMPTS: usize = 256;
/// What a turn may lose without a word: the end of a page.
const SLACK: usize = 64;
/// Tokens that are shown before and after a fork.
const AROUND: usize = 32;

/// Where an answer says it.
pub const HEADER: HeaderName = HeaderName::from_static("x-prefix-cache");

/// The latest prompts.
#[derive(Default)]
pub struct Trail(Mutex<VecDeque<Step>>);

struct Step {
    salt: Salt,
    marks: Marks,
    ids: Arc<[u32]>,
}

/// What tells a conversation from others: its first question and its first answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks([Option<u64>; 2]);

/// How a prompt lies to the last one of its conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fork {
    /// Tokens that both begin with.
    pub common: usize,
    /// Tokens of the last one.
    pub before: usize,
    /// What they part in, if it is known.
    pub span: Option<&'static str>,
    /// The text before the fork, and what follows in this prompt and in the last one.
    pub texts: [String; 3],
    /// Hashes of what follows.
    pub hashes: [String; 2],
}

impl Marks {
    /// Of messages.
    pub fn of(messages: &[Value]) -> Self {
        let first = |role: &str| {
            let message = messages.iter().find(|message| message["role"] == role)?;
            let mut hash = DefaultHasher::new();
            message["content"].as_str().unwrap_or_default().trim().hash(&mut hash);
            let calls = message["tool_calls"].as_array().into_iter().flatten();
            calls.for_each(|call| call["function"]["name"].as_str().hash(&mut hash));
            Some(hash.finish())
        };
        Self(["user", "assistant"].map(first))
    }

    fn meet(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(one, other)| one.is_some() && one == other)
    }
}

impl Trail {
    /// The fork of a prompt from the last one of its conversation.
    pub fn fork(
        &self,
        (salt, marks): (Salt, Marks),
        ids: &[u32],
        vocabulary: &Vocabulary,
    ) -> Option<Fork> {
        let last = {
            let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |step: &&Step| step.salt == salt && step.marks.meet(&marks);
            // Of several branches it goes on with the one it shares most with.
            let reach = |step: &&Step| common(&step.ids, ids);
            steps.iter().filter(same).max_by_key(reach).map(|step| step.ids.clone())
        }?;
        Some(Fork::of(ids, &last, vocabulary))
    }

    /// A prompt was asked for.
    pub fn note(&self, (salt, marks): (Salt, Marks), ids: &[u32]) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A prompt that goes on replaces the one that it begins with.
        steps.retain(|step| step.salt != salt || !ids.starts_with(&step.ids));
        steps.push_back(Step { salt, marks, ids: ids.into() });
        let mut tokens: usize = steps.iter().map(|step| step.ids.len()).sum();
        while steps.len() > MOST_PROMPTS || tokens > MOST_TOKENS {
            tokens -= steps.pop_front().map_or(tokens, |step| step.ids.len());
        }
    }
}

impl Fork {
    fn of(ids: &[u32], last: &[u32], vocabulary: &Vocabulary) -> Self {
        let common = common(ids, last);
        let text = |ids: &[u32]| vocabulary.decode(ids, Controls::Show);
        let after = |ids: &[u32]| text(&ids[common..ids.len().min(common + AROUND)]);
        let head = text(&ids[common.saturating_sub(AROUND)..common]);
        let (asked, cached) = (after(ids), after(last));
        let line = |after: &str| {
            let start = head.rsplit('\n').next().unwrap_or_default();
            start.to_owned() + after.split('\n').next().unwrap_or_default()
        };
        let parted = common < last.len() && common < ids.len();
        let span = parted.then(|| volatile::name_of([&line(&asked), &line(&cached)])).flatten();
        let rest = |ids: &[u32]| hash_of(&ids[common..ids.len().min(common + AROUND)]);
        let hashes = [rest(ids), rest(last)];
        Self { common, before: last.len(), span, texts: [head, asked, cached], hashes }
    }

    /// Whether so much of the last prompt is lost that somebody should hear of it.
    pub fn is_early(&self) -> bool {
        self.common + SLACK < self.before
    }

    /// One line in the log, without a text unless texts may stand there.
    pub fn tell(&self, total: usize, with_texts: bool) {
        let Self { common, before, span, texts: [head, asked, cached], hashes } = self;
        let [asked_hash, cached_hash] = hashes;
        let lost = before - common;
        let shown = |text| with_texts.then_some(text);
        let (head, asked, cached) = (shown(head), shown(asked), shown(cached));
        tracing::warn!(
            at = common,
            before,
            total,
            lost,
            span,
            asked_hash,
            cached_hash,
            ?head,
            ?asked,
            ?cached,
            "a prompt parts early from the last one of its conversation"
        );
    }
}

/// `hit=4032, total=4100, why=extends`: what was cached of a prompt, how many tokens it has, and
/// why it was not more.
pub fn header(hit: Option<usize>, total: usize, fork: Option<&Fork>) -> HeaderValue {
    let hit_text = hit.map_or("?".into(), |hit| hit.to_string());
    let mut text = format!("hit={hit_text}, total={total}");
    let Some(fork) = fork else {
        return HeaderValue::from_str(&text).expect("figures and names");
    };
    let reusable = fork.common.min(total.saturating_sub(1));
    let gone = hit.is_some_and(|hit| hit + SLACK < reusable);
    text += match (fork.common < fork.before, gone) {
        (_, true) => ", why=evicted",
        (true, false) => ", why=parted",
        (false, false) => ", why=extends",
    };
    if fork.common < fork.before {
        let span = fork.span.map_or_else(String::new, |span| format!(", span={span}"));
        text = format!("{text}, at={}{span}", fork.common);
    }
    HeaderValue::from_str(&text).expect("figures and names")
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prompts_of_one_conversation_meet() {
        let of = |user: &str, answer: Option<&str>| {
            let mut messages = vec![json!({ "role": "user", "content": user })];
            messages.extend(answer.map(|text| json!({ "role": "assistant", "content": text })));
            Marks::of(&messages)
        };
        assert!(of("a", None).meet(&of("a ", Some("b"))));
        assert!(of("x", Some("b")).meet(&of("a", Some("b"))));
        assert!(!of("a", None).meet(&of("b", None)));
        assert!(!Marks::of(&[]).meet(&Marks::of(&[])));
    }

    #[test]
    fn a_header_says_why() {
        let fork = |common, span| Fork {
            common,
            before: 100,
            span,
            texts: Default::default(),
            hashes: Default::default(),
        };
        let check = |hit, fork: Option<Fork>, expected: &str| {
            assert_eq!(header(hit, 300, fork.as_ref()), expected);
        };
        check(Some(0), None, "hit=0, total=300");
        check(None, None, "hit=?, total=300");
        check(Some(100), Some(fork(100, None)), "hit=100, total=300, why=extends");
        check(Some(7), Some(fork(100, None)), "hit=7, total=300, why=evicted");
        let date = Some("date");
        check(Some(9), Some(fork(9, date)), "hit=9, total=300, why=parted, at=9, span=date");
    }

    #[test]
    fn memory_is_bounded() {
        let trail = Trail::default();
        let marks = Marks([Some(1), None]);
        for n in 0..1000 {
            trail.note((Salt(0), marks), &[n; 10]);
        }
        trail.note((Salt(0), marks), &vec![5; MOST_TOKENS / 2]);
        trail.note((Salt(0), marks), &vec![6; MOST_TOKENS / 2]);
        let steps = trail.0.lock().unwrap();
        assert_eq!(steps.len(), 2);
    }
}
