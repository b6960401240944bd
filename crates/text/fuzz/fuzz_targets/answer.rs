//! Fuzz target: an answer means the same however it is cut, in every dialect, and every call that
//! ended has arguments that are JSON.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use qwire_text::tools::{Dialect, Ending, Part, Reader, Rules, Thinking, Tool};
use serde_json::{Value, json};

/// Texts and arguments, each as a whole.
fn read(dialect: &'static Dialect, pieces: &mut dyn Iterator<Item = &str>) -> Vec<String> {
    let parameters = json!({ "type": "object", "properties": {
        "path": { "type": "string" }, "n": { "type": "integer" }, "o": { "type": "object" } } });
    let tools: Arc<[Tool]> = Arc::from([Tool { name: "f".into(), parameters }]);
    let mut reader =
        Reader::new(dialect, tools, Rules { thinking: Thinking::Maybe, parallel: true });
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

fuzz_target!(|text: &str| {
    for name in Dialect::names() {
        let dialect = Dialect::named(name).expect("its name is known");
        let whole = read(dialect, &mut std::iter::once(text));
        let single = read(dialect, &mut text.split_inclusive(|_| true));
        assert_eq!(whole, single, "{name}");
    }
});
