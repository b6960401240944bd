//! The edge, over raw sockets.

mod toy;

use qwire_server::Settings;
use qwire_text::Special;
use serde_json::json;

#[test]
fn the_toy_reads_and_writes() {
    let app = toy::app(Settings::default());
    let model = app.model().unwrap();
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi <b>"},
        {"role": "assistant", "content": "",
         "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "42"},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let render = |tools| {
        let template = model.template.as_ref().unwrap();
        template.render(&messages, tools, true, &serde_json::Map::new()).unwrap()
    };
    let plain = render(None);
    assert_eq!(
        plain,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n\
         <|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n\
         </tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n42\n</tool_response>\
         <|im_end|>\n<|im_start|>assistant\n"
    );
    assert!(
        render(Some(&tools)).starts_with("<|im_start|>system\nBe brief.\n\n# Tools\n<tools>\n{")
    );
    assert_eq!(model.vocabulary.encode_prompt("<|im_start|>a", Special::Parse).len(), 2);
}
