//! Signals: an interrupt leaves a valid answer, and a file that shrinks is no crash.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::binary::{command, finish, qwire};
use crate::model::{Folder, tiny_moe};

/// A run that would take long: nothing ends it before its context is full.
fn long_run(model: &str, more: &[&str]) -> Child {
    let ends = ["4070", "4072", "4089", "4090", "4091"].map(|id| format!("{id}=-inf"));
    let mut args = vec!["run", model, "--raw", "--temp", "0"];
    for end in &ends {
        args.extend(["--logit-bias", end]);
    }
    args.extend(more);
    command(&args).spawn().expect("the binary starts")
}

/// Waits for the line that says that the model is loaded, and a little more.
fn await_start(child: &mut Child) {
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with("cpu "), "{line}");
    thread::sleep(Duration::from_millis(300));
    // Nobody reads the rest; it must not block the child either.
    thread::spawn(move || lines.read_to_string(&mut String::new()));
}

pub fn kill(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.expect("kill exists").success());
}

#[test]
fn an_interrupt_leaves_a_valid_answer() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = long_run(tiny_moe(), &["--json", "hello"]);
        await_start(&mut child);
        let asked = Instant::now();
        kill(&child, signal);
        let outcome = finish(child);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        let answer: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
        assert_eq!(answer["finish_reason"], "interrupted");
        assert!(!answer["tokens"].as_array().unwrap().is_empty());
    }
}

#[test]
fn an_interrupt_reaches_into_a_prompt() {
    let prompt = "hello there ".repeat(300);
    let mut child = long_run(tiny_moe(), &["--json", "--chunk", "8", "--threads", "1", &prompt]);
    await_start(&mut child);
    kill(&child, "-INT");
    let outcome = finish(child);
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    let answer: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(answer["finish_reason"], "interrupted");
}

#[test]
fn the_text_so_far_stays_and_the_second_interrupt_kills() {
    let mut child = long_run(tiny_moe(), &["hello"]);
    await_start(&mut child);
    kill(&child, "-INT");
    // It may be gone already.
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).output();
    let outcome = finish(child);
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    assert!(!outcome.stdout.is_empty());
}

#[test]
fn an_interrupted_file_leaves_nothing() {
    let folder = Folder::new("interrupted");
    let path = folder.path("big.gguf");
    let child = command(&["synth", "qwen3-0.6b", "-o", &path]).spawn().unwrap();
    let started = Instant::now();
    while folder.names().is_empty() && started.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(5));
    }
    kill(&child, "-INT");
    let outcome = finish(child);
    assert_eq!((outcome.code, folder.names()), (Some(130), vec![]), "{outcome:?}");
}

#[test]
fn a_sidecar_truncated_in_use_ends_the_run_in_one_line() {
    let folder = Folder::new("sidecar-cut");
    let model = folder.path("m.gguf");
    fs::copy(tiny_moe(), &model).unwrap();
    assert_eq!(qwire(&["pack", &model]).code, Some(0));
    let child = long_run(&model, &["hello", "--quiet"]);
    thread::sleep(Duration::from_millis(400));
    let sidecar = fs::File::options().write(true).open(folder.path("m.gguf.qwire")).unwrap();
    sidecar.set_len(100_000).unwrap();
    let outcome = finish(child);
    assert_eq!((outcome.code, outcome.signal), (Some(1), None), "{outcome:?}");
    let lines: Vec<_> = outcome.stderr.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() == 1 && lines[0].contains("sidecar, was truncated"), "{lines:?}");
}

#[test]
fn a_model_truncated_in_use_is_an_error_and_never_garbage() {
    let folder = Folder::new("truncated");
    let model = folder.path("m.gguf");
    fs::copy(tiny_moe(), &model).unwrap();
    let args = ["hello", "-n", "150", "--quiet"];
    let expected = finish(long_run(&model, &args));
    assert_eq!(expected.code, Some(0), "{expected:?}");
    let child = long_run(&model, &args);
    thread::sleep(Duration::from_millis(200));
    fs::File::options().write(true).open(&model).unwrap().set_len(100_000).unwrap();
    let outcome = finish(child);
    if outcome.code == Some(0) {
        assert_eq!(outcome.stdout, expected.stdout, "the model was in memory already");
        return;
    }
    assert_eq!((outcome.code, outcome.signal), (Some(1), None), "{outcome:?}");
    let lines: Vec<_> = outcome.stderr.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() == 1 && lines[0].contains("truncated"), "{lines:?}");
    assert!(expected.text().starts_with(outcome.text().trim_end()), "what came was right");
    qwire(&["run", &model, "x"]).fails(1, &["m.gguf"]);
}
