//! Fuzz target: any template is refused, or renders a conversation or gives an error, within its
//! bounds of time and memory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qwire_text::ChatTemplate;
use serde_json::{Map, json};

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::new(source) else { return };
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let _ = template.render(&messages, None, true, &Map::new());
});
