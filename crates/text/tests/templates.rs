//! Templates: published chat templates against what Python's jinja2 renders from them, with
//! data that lies beside the repository. Skipped, and said so, where it is absent.

use std::path::Path;

use qwire_text::ChatTemplate;
use serde_json::{Map, Value};

#[test]
fn published_templates_render_as_in_python() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/templates");
    let Ok(cases) = std::fs::read(folder.join("expected.json")) else {
        eprintln!("skipped: expected.json is not beside the repository");
        return;
    };
    let cases: Vec<Value> = serde_json::from_slice(&cases).expect("cases");
    assert!(cases.len() >= 18);
    for case in &cases {
        let name = case["template"].as_str().expect("a name");
        let source = std::fs::read_to_string(folder.join(name)).expect("a template");
        let mut input = case["input"].as_object().expect("an input").clone();
        let messages = input.remove("messages").expect("messages");
        let tools = input.remove("tools");
        let prompt = input.remove("add_generation_prompt").is_none_or(|prompt| prompt == true);
        let extra: Map<String, Value> = input;
        let template = ChatTemplate::new(&source).expect("a template");
        let rendered = template.render(&messages, tools.as_ref(), prompt, &extra);
        let expected = case["expected"].as_str().expect("a text");
        assert_eq!(rendered.as_deref(), Ok(expected), "{name}: {}", case["case"]);
    }
}
