//! `qwire doctor` and `qwire launch`, as far as no agent is needed for it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use crate::binary::{command, finish, qwire};
use crate::interrupt::kill;
use crate::model::{Folder, tiny_moe};
use crate::serve::Server;

const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn without_a_server_it_is_said_what_to_start() {
    let outcome = qwire(&["doctor", "--agent", "codex", "--url", NOBODY]);
    outcome.fails(1, &["no server answers at http://127.0.0.1:9", "nobody listens"]);
    assert!(outcome.stderr.contains("qwire serve MODEL.gguf"), "{}", outcome.stderr);
    qwire(&["doctor", "--agent", "nobody"]).fails(2, &["claude-code", "aider", "qwen-code"]);
    qwire(&["doctor", "--agent", "codex", "--url", "ftp://a"]).fails(2, &["http://HOST:PORT"]);
}

#[test]
fn an_agent_is_played_and_its_settings_are_told() {
    let mut server = Server::of(tiny_moe(), &["--ctx", "4096", "--name", "tiny"]);
    let url = format!("http://{}", server.address());
    server.says("curl ");
    let args = ["doctor", "--agent", "aider", "--max-tokens", "16", "--url", &url];
    let page = qwire(&args);
    assert_eq!(page.code, Some(0), "{page:?}");
    for words in [
        "All 4 checks passed",
        "OPENAI_API_BASE=http://127.0.0.1",
        "aider --model openai/tiny",
        "qwire launch aider",
    ] {
        assert!(page.text().contains(words), "{words:?} is not in {}", page.text());
    }
    let report = qwire(&[&args[..], &["--json"]].concat()).json();
    assert_eq!((&report["passed"], &report["model"]), (&true.into(), &"tiny".into()));
    assert!(report["checks"].as_array().unwrap().len() == 4, "{report}");
    kill(&server.child, "-TERM");
}

#[test]
fn a_server_that_is_not_ready_for_an_agent_fails_its_checks() {
    let mut server = Server::of(tiny_moe(), &["--ctx", "256"]);
    let url = format!("http://{}", server.address());
    server.says("curl ");
    let outcome = qwire(&["doctor", "--agent", "aider", "--url", &url]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let text = outcome.text();
    assert!(text.contains("FAIL") && text.contains("the context holds 256"), "{text}");
    kill(&server.child, "-TERM");
}

#[test]
fn an_agent_is_launched_with_a_server_of_its_own() {
    let folder = Folder::new("launch");
    let script = "#!/bin/sh\nprintf '%s\\n' \"$QWIRE_KEY\" \"$@\" > \"$OUT\"\nexit 7\n";
    let agent = folder.file("codex", script.as_bytes());
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let args = ["launch", "codex", "--model", tiny_moe(), "--", "exec", "a b"];
    let mut launch = command(&args);
    launch.env("PATH", format!("{}:/usr/bin:/bin", folder.path("")));
    launch.env("OUT", folder.path("told")).env("QWIRE_CTX", "512").env("QWIRE_MEMORY", "512M");
    let outcome = finish(launch.spawn().unwrap());
    assert_eq!(outcome.code, Some(7), "{outcome:?}");
    let told = fs::read_to_string(folder.path("told")).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines[0], &lines[lines.len() - 2..]), ("none", &["exec", "a b"][..]), "{told}");
    assert!(told.contains("wire_api=\"responses\"") && told.contains("window=512"), "{told}");
    let (_, rest) = told.split_once("base_url=\"http://").expect("an address");
    let (address, _) = rest.split_once("/v1").expect("a path");
    assert!(TcpStream::connect(address).is_err(), "the server is still there");
}

#[test]
fn an_agent_that_is_not_there_is_named_with_what_brings_it() {
    let folder = Folder::new("absent");
    let mut launch = command(&["launch", "claude-code", "--url", NOBODY]);
    let outcome = finish(launch.env("PATH", folder.path("")).spawn().unwrap());
    outcome.fails(1, &["Claude Code is not installed", "`claude`"]);
    assert!(outcome.stderr.contains("npm install -g @anthropic-ai/claude-code"), "{outcome:?}");
}
