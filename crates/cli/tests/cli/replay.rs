//! `qwire serve --record` and `qwire replay`: the same bits again, or where they part.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::binary::qwire;
use crate::interrupt::kill;
use crate::model::{Folder, tiny_moe};
use crate::serve::Server;

fn trained() -> String {
    format!("{}/../../assets/qwire-box.gguf", env!("CARGO_MANIFEST_DIR"))
}

fn post(address: &str, body: &Value) -> String {
    let body = body.to_string();
    let mut socket = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// The capsules of these requests.
fn recorded(folder: &Folder, bodies: &[Value]) -> Vec<PathBuf> {
    let capsules = folder.path("capsules");
    let mut server = Server::of(&trained(), &["--record", &capsules, "--record-files", "8"]);
    let address = server.address();
    server.says("curl ");
    let mut found = Vec::new();
    for (no, body) in bodies.iter().enumerate() {
        post(&address, body);
        let patience = Instant::now() + Duration::from_secs(20);
        while found.len() <= no {
            assert!(Instant::now() < patience, "no capsule of {body}");
            thread::sleep(Duration::from_millis(20));
            let entries = fs::read_dir(&capsules).unwrap().map(|entry| entry.unwrap().path());
            let whole = |path: &PathBuf| path.to_string_lossy().ends_with(".capsule.json");
            found = entries.filter(whole).collect();
            found.sort();
        }
    }
    kill(&server.child, "-TERM");
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&capsules), mode(found[0].to_str().unwrap())), (0o700, 0o600));
    found
}

#[test]
fn what_was_recorded_comes_out_again_and_what_was_changed_is_named() {
    let folder = Folder::new("replay");
    let user = |text: &str| json!([{ "role": "user", "content": text }]);
    let tool = json!({ "type": "function", "function": { "name": "read_file", "parameters": {
        "type": "object", "properties": { "path": { "type": "string" } },
        "required": ["path"] } } });
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } },
        "required": ["n"], "additionalProperties": false });
    let form = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
    let capsules = recorded(
        &folder,
        &[
            json!({ "messages": user("What is qwire?"), "max_tokens": 24, "n": 2, "seed": 5,
                "temperature": 0.9, "logprobs": true, "logit_bias": { "7": -100 } }),
            json!({ "messages": user("Read a.txt"), "max_tokens": 60, "tools": [tool],
                "tool_choice": "required" }),
            json!({ "messages": user("A number"), "max_tokens": 30, "response_format": form }),
        ],
    );
    for (path, words) in
        capsules.iter().zip(["all 2 answers, log-prob", "the answer", "the answer"])
    {
        let outcome = qwire(&["replay", path.to_str().unwrap(), "--threads", "1"]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.text().starts_with("the same: ") && outcome.text().contains(words));
    }
    let text = fs::read_to_string(&capsules[0]).unwrap();
    let mut capsule: Value = serde_json::from_str(&text).unwrap();
    let token = capsule["choices"][1]["tokens"][3].as_u64().unwrap();
    capsule["choices"][1]["tokens"][3] = json!((token + 1) % 2000);
    let changed = folder.file("changed.json", capsule.to_string().as_bytes());
    let outcome = qwire(&["replay", &changed]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("was changed since it was written"), "{outcome:?}");
    let told = outcome.text();
    assert!(told.contains("answer 1 parts at token 3: recorded "), "{told}");
    assert!(told.contains("log-probability"), "{told}");
    let bits = capsule["choices"][0]["logprobs"][2].as_u64().unwrap();
    capsule["choices"][0]["logprobs"][2] = json!(bits ^ 1);
    let changed = folder.file("bits.json", capsule.to_string().as_bytes());
    let told = qwire(&["replay", &changed]).text();
    assert!(told.contains("parts at token"), "{told}");
}

#[test]
fn another_model_is_refused_by_name_and_so_is_no_capsule() {
    let folder = Folder::new("replay-other");
    let body = json!({ "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 4 });
    let capsules = recorded(&folder, &[body]);
    let path = capsules[0].to_str().unwrap();
    let other = qwire(&["replay", path, "--model", tiny_moe()]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stderr.contains("it was recorded with `"), "{other:?}");
    assert!(other.stderr.contains("name the capsule's model"), "{other:?}");
    let none = folder.file("none.json", b"{}");
    qwire(&["replay", &none]).fails(1, &["no capsule"]);
    let late = folder.file("late.json", b"{\"capsule\":99}");
    qwire(&["replay", &late]).fails(1, &["form 99", "reads 1"]);
}
