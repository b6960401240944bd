//! `assets/qwire-box.gguf`: it is the file of its card, answers, copies, calls tools and ends.

use std::fs;
use std::path::Path;

use crate::binary::{qwire, qwire_with};

const MOST_BYTES: u64 = 8_000_000;

fn asset(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets").join(name);
    path.to_str().expect("the path is text").to_string()
}

#[test]
fn the_card_names_the_file() {
    let model = asset("qwire-box.gguf");
    let facts = qwire(&["inspect", &model, "--check", "--json"]).json();
    let hash = facts["check"]["sha256"][0]["sha256"].as_str().unwrap();
    assert!(fs::read_to_string(asset("README.md")).unwrap().contains(hash), "the card has {hash}");
    assert!(fs::metadata(&model).unwrap().len() <= MOST_BYTES);
    assert_eq!(facts["runs"]["here"], true);
}

#[test]
fn the_binary_has_the_same() {
    let (given, own) = (qwire(&["inspect", &asset("qwire-box.gguf"), "--json"]).json(), {
        let own = qwire(&["inspect", "--json"]);
        assert!(own.stderr.is_empty(), "{}", own.stderr);
        own.json()
    });
    for part in ["file", "model", "weights", "tokenizer", "template"] {
        assert_eq!(own[part], given[part], "{part}");
    }
    assert!(own["sidecar"].is_null());
    let ids = qwire_with(&["tokenize"], b"qwire serve");
    assert_eq!(
        ids.stdout,
        qwire_with(&["tokenize", &asset("qwire-box.gguf")], b"qwire serve").stdout
    );
    assert!(ids.stderr.starts_with("qwire-box: "), "{}", ids.stderr);
}

#[test]
fn the_best_tokens_answer_and_end() {
    let check = |prompt: &str, expected: &str| {
        let answer =
            qwire(&["run", &asset("qwire-box.gguf"), prompt, "--json", "--temp", "0"]).json();
        assert_eq!((&answer["text"], &answer["finish_reason"]), (&expected.into(), &"stop".into()));
    };
    check(
        "How do I start the server?",
        "`qwire serve MODEL` starts a server with OpenAI's API on 127.0.0.1:8080.",
    );
    check("Which option sets the temperature?", "Pass `--temp T`; 0 always takes the best token.");
    check("JSON with name=kestrel, size=47", r#"{"name": "kestrel", "size": 47}"#);
    check("Hello!", "Hello! Ask me about qwire, or give me a small task.");
}
