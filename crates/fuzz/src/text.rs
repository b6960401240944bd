//! Text: templates, tokens, answers and grammars.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use qwire_gguf::File;
use qwire_text::tools::{Dialect, Ending, Part, Reader, Rules, Thinking, Tool};
use qwire_text::{ChatTemplate, Controls, Grammar, Grammars, Refused, Special, Vocabulary};
use serde_json::{Map, Value, json};

/// Tokens of an answer that a grammar is asked for.
const STEPS: usize = 16;

/// The vocabulary of the model in the box.
static VOCABULARY: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| {
    let bytes: &'static [u8] = include_bytes!("../../../assets/qwire-box.gguf");
    let file = File::from_bytes(bytes).expect("the box model");
    Arc::new(Vocabulary::from_gguf(file.metadata()).expect("its vocabulary"))
});

static GRAMMARS: LazyLock<Grammars> =
    LazyLock::new(|| Grammars::new(&VOCABULARY).expect("masks over its vocabulary"));

/// A template is refused, or renders, or says in one line why not: within its bounds.
pub fn template(bytes: &[u8]) {
    let Ok(source) = str::from_utf8(bytes) else { return };
    let told = |why: String| assert!(!why.contains('\n'), "{why}");
    let template = match ChatTemplate::new(source) {
        Ok(template) => template,
        Err(why) => return told(why.to_string()),
    };
    let function = json!({ "name": "f", "parameters": { "type": "object" } });
    let tools = json!([{ "type": "function", "function": function }]);
    let call = json!({ "function": { "name": "f", "arguments": { "a": [1, "<b>"] } } });
    let messages = json!([
        { "role": "system", "content": "s" }, { "role": "user", "content": "hello" },
        { "role": "assistant", "content": "", "tool_calls": [call] },
        { "role": "tool", "content": "{}" },
    ]);
    for tools in [None, Some(&tools)] {
        if let Err(why) = template.render(&messages, tools, true, &Map::new()) {
            told(why.to_string());
        }
    }
}

/// A text has ids of the vocabulary, and comes back, normalised at most: what is encoded again is
/// the same.
pub fn encode(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let ids = VOCABULARY.encode(text, Special::AsText);
    assert!(ids.iter().all(|id| (*id as usize) < VOCABULARY.len()));
    let back = VOCABULARY.decode(&ids, Controls::Show);
    assert_eq!(VOCABULARY.encode(&back, Special::AsText), ids, "{text:?}");
    let ids = VOCABULARY.encode(text, Special::Parse);
    assert!(ids.iter().all(|id| (*id as usize) < VOCABULARY.len()));
}

/// An answer means the same however it is cut, in every dialect, and the arguments of a call that
/// ended are JSON.
pub fn answer(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for name in Dialect::names() {
        let dialect = Dialect::named(name).expect("its name is known");
        let whole = read(dialect, &mut std::iter::once(text));
        let single = read(dialect, &mut text.split_inclusive(|_| true));
        assert_eq!(whole, single, "{name}");
    }
}

/// Texts and arguments, each as a whole.
fn read(dialect: &'static Dialect, pieces: &mut dyn Iterator<Item = &str>) -> Vec<String> {
    let parameters = json!({ "type": "object", "properties": {
        "path": { "type": "string" }, "n": { "type": "integer" }, "o": { "type": "object" } } });
    let tools: Arc<[Tool]> = Arc::from([Tool { name: "f".into(), parameters }]);
    let rules = Rules { thinking: Thinking::Maybe, parallel: true };
    let mut reader = Reader::new(dialect, tools, rules);
    let mut parts: Vec<Part> = pieces.flat_map(|piece| reader.push(piece)).collect();
    parts.extend(reader.finish(Ending::Natural));
    let (mut told, mut arguments) = (Vec::new(), BTreeMap::<usize, String>::new());
    for part in parts {
        match part {
            Part::CallArguments { index, fragment } => {
                *arguments.entry(index).or_default() += &fragment;
            }
            Part::CallEnd { index } => {
                let json = arguments.remove(&index).unwrap_or_default();
                assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json:?}");
                told.push(json);
            }
            Part::CallStart { name, .. } => told.push(format!("call {name}")),
            Part::Text(text) | Part::Reasoning(text) => match told.last_mut() {
                Some(last) if last.starts_with("text ") => *last += &text,
                _ => told.push(format!("text {text}")),
            },
        }
    }
    told
}

/// A JSON schema becomes a grammar, or is refused in one line.
pub fn schema(bytes: &[u8]) {
    let Ok(schema) = serde_json::from_slice(bytes) else { return };
    walk(GRAMMARS.json_schema(&schema));
}

/// So does a grammar; its language stands in the first line.
pub fn grammar(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some((language, text)) = text.split_once('\n') else { return };
    walk(match language {
        "lark" => GRAMMARS.lark(text),
        "gbnf" => GRAMMARS.gbnf(text),
        "regex" => GRAMMARS.regex(text),
        _ => return,
    });
}

/// Some tokens that the masks allow are accepted.
fn walk(grammar: Result<Grammar, Refused>) {
    let mut grammar = match grammar {
        Ok(grammar) => grammar,
        Err(refused) => return assert!(!refused.message.contains('\n'), "{refused}"),
    };
    let mut words = vec![0; VOCABULARY.len().div_ceil(32)];
    for step in 0..STEPS {
        words.fill(0);
        if grammar.is_over() || grammar.mask(&mut words, 1000).is_err() {
            return;
        }
        let allowed = |id: &u32| words[*id as usize / 32] >> (id % 32) & 1 == 1;
        let mut allowed = (0..VOCABULARY.len() as u32).filter(allowed);
        // Not always the first, which is often a space.
        let Some(token) = allowed.nth(step).or_else(|| allowed.next()) else { return };
        if grammar.accept(token).is_err() {
            return;
        }
    }
}
