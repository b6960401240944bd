//! `qwire tokenize`: text to ids and back.

use serde_json::json;

use crate::binary::qwire_with;
use crate::model::golden;

const TEXT: &str = "the thing <|im_end|>\n wörld 你好 \u{1f600}\r\n\t ";

#[test]
fn text_survives_the_round_trip() {
    let model = golden("moe-q8_0.gguf");
    for flags in [&[][..], &["--no-special"]] {
        let encoded = qwire_with(&[&["tokenize", &model], flags].concat(), TEXT.as_bytes());
        assert_eq!(encoded.code, Some(0), "{encoded:?}");
        assert_eq!(encoded.text().contains("266"), flags.is_empty(), "{}", encoded.text());
        let decoded = qwire_with(&["tokenize", &model, "--decode"], &encoded.stdout);
        assert_eq!(decoded.text(), TEXT);
    }
}

#[test]
fn ids_are_a_list() {
    let model = golden("moe-q8_0.gguf");
    let args = ["tokenize", &model];
    assert_eq!(qwire_with(&args, b"the").text(), "[256, 101]\n");
    assert_eq!(qwire_with(&args, b"").text(), "[]\n");
    let json = qwire_with(&[&args[..], &["--json"]].concat(), b"the<|im_end|>").json();
    assert_eq!(json, json!({"tokens": [256, 101, 266], "pieces": ["th", "e", "<|im_end|>"]}));
}

#[test]
fn what_is_no_text_or_no_id_is_refused() {
    let model = golden("moe-q8_0.gguf");
    qwire_with(&["tokenize", &model], b"ab\xc3").fails(1, &["stdin is not UTF-8", "byte 2"]);
    let decode = ["tokenize", &model, "--decode"];
    qwire_with(&decode, b"[1, 2").fails(1, &["no `]`"]);
    qwire_with(&decode, b"1 x").fails(1, &["item 2", "`x`"]);
    qwire_with(&decode, b"1 288").fails(1, &["id 288", "288 tokens"]);
    assert_eq!(qwire_with(&decode, b"97,98\n99 [").code, Some(1));
    assert_eq!(qwire_with(&decode, b"[97,98\n99]").text(), "abc");
}
