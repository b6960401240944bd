//! `qwire run`: prompts from everywhere, the same answer every time, and its JSON.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::binary::{command, finish, qwire, qwire_with};
use crate::model::{Copy, Folder, golden};

const MODEL: &str = "moe-q8_0.gguf";

/// Arguments of a short raw run that prints JSON, and more of them.
fn args(more: &[&str]) -> Vec<String> {
    let model = golden(MODEL);
    let base = ["run", &model, "--raw", "--json", "-n", "12"];
    base.iter().chain(more).map(ToString::to_string).collect()
}

fn run(more: &[&str]) -> Value {
    qwire(&args(more)).json()
}

#[test]
fn the_answer_is_the_same_every_time() {
    let first = run(&["--temp", "0", "the thing"]);
    let tokens = first["tokens"].as_array().unwrap();
    assert_eq!((tokens.len(), &first["finish_reason"]), (12, &json!("length")));
    assert_eq!(first["prompt_tokens"], first["timings"]["prompt_tokens"]);
    assert_eq!(first["timings"]["generated_tokens"], 12);
    for more in [
        &["--threads", "1"][..],
        &["--threads", "3", "--chunk", "1"],
        &["--isa", "scalar"],
        &["--ctx", "64"],
        &["--kv-memory", "1M"],
    ] {
        let args = [&["--temp", "0", "the thing"], more].concat();
        assert_eq!(run(&args)["tokens"], first["tokens"], "{more:?}");
    }
}

#[test]
fn seeds_decide_what_is_drawn() {
    let draw = |seed: &str| run(&["--temp", "1.5", "--seed", seed, "the thing"]);
    let (a, b) = (draw("7"), draw("8"));
    assert_eq!((&a["seed"], &a["tokens"]), (&json!(7), &draw("7")["tokens"]));
    assert_ne!(a["tokens"], b["tokens"]);
    let free = run(&["--temperature", "1.5", "the thing"]);
    let again = draw(&free["seed"].to_string());
    assert_eq!(free["tokens"], again["tokens"], "the printed seed gives the same answer");
}

#[test]
fn a_prompt_comes_from_anywhere() {
    let folder = Folder::new("prompt");
    let file = folder.file("p.txt", b"the thing");
    let expected = run(&["--temp", "0", "the thing"])["tokens"].clone();
    assert_eq!(run(&["--temp", "0", "-f", &file])["tokens"], expected);
    let piped = qwire_with(&args(&["--temp", "0"]), b"the thing").json();
    assert_eq!(piped["tokens"], expected);
    let dash = qwire_with(&args(&["--temp", "0", "-f", "-"]), b"the thing").json();
    assert_eq!(dash["tokens"], expected);
    let file = folder.file("q.txt", b"thing");
    let both = run(&["--temp", "0", "the", "-f", &file]);
    assert_eq!(both["tokens"], run(&["--temp", "0", "the\n\nthing"])["tokens"]);
    // With a prompt at hand nobody waits for a pipe that stays open.
    let args = args(&["--temp", "0", "the thing"]);
    let mut child = command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let pipe = child.stdin.take();
    assert_eq!(finish(child).json()["tokens"], expected);
    drop(pipe);
}

#[test]
fn text_streams_and_ends_with_its_line() {
    let model = golden(MODEL);
    let text = run(&["--temp", "0", "the thing"])["text"].as_str().unwrap().to_string();
    let args = ["run", &model, "--raw", "-n", "12", "--temp", "0", "the thing"];
    let outcome = qwire(&args);
    assert_eq!((outcome.code, outcome.text()), (Some(0), text + "\n"));
    assert_eq!(outcome.stderr.lines().count(), 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("context 4,096 tokens"), "{}", outcome.stderr);
    let quiet = qwire(&[&args[..], &["--quiet"]].concat());
    assert_eq!((quiet.stderr.as_str(), quiet.stdout), ("", outcome.stdout));
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let whole = run(&["--temp", "0", "the thing"]);
    let text = whole["text"].as_str().unwrap();
    let stop: String = text.chars().skip(3).take(2).collect();
    let found = text.find(&stop).unwrap();
    let cut = run(&["--temp", "0", "--stop", "absent", "--stop", &stop, "the thing"]);
    assert_eq!(cut["text"], text[..found]);
    assert_eq!(cut["finish_reason"], "stop");
    assert!(cut["tokens"].as_array().unwrap().len() < 12);
}

#[test]
fn logprobs_stand_beside_their_tokens() {
    let answer = run(&["--temp", "0", "--logprobs", "3", "the thing"]);
    let logprobs = answer["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 12);
    for (entry, token) in logprobs.iter().zip(answer["tokens"].as_array().unwrap()) {
        assert_eq!(entry["id"], *token);
        let top = entry["top"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["id"]), (3, token), "greedy takes the best");
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64());
        assert!(top[0].get("top").is_none());
    }
    assert!(run(&["x"]).get("logprobs").is_none());
}

#[test]
fn flags_reach_the_sampler() {
    let plain = run(&["--temp", "0", "the thing"]);
    let first = plain["tokens"][0].to_string();
    let banned = run(&["--temp", "0", "--logit-bias", &format!("{first}=-inf"), "the thing"]);
    assert_ne!(banned["tokens"][0], plain["tokens"][0]);
    let forced = run(&["--temp", "0", "--logit-bias", "65=1000", "-n", "3", "the thing"]);
    assert_eq!(forced["tokens"], json!([65, 65, 65]));
    let penalised = ["--frequency-penalty", "2000", "--temp", "0", "--logit-bias", "65=1000", "x"];
    assert_ne!(run(&penalised)["tokens"][1], 65);
    assert_eq!(run(&["--temp", "2", "--top-k", "1", "the thing"])["tokens"], plain["tokens"]);
    let tiny = run(&["--temp", "2", "--top-p", "0", "--seed", "3", "the thing"]);
    assert_eq!(tiny["tokens"], plain["tokens"]);
    assert_eq!(run(&["-n", "0", "x"])["tokens"], json!([]));
}

#[test]
fn chat_puts_the_prompt_into_the_template() {
    let model = golden(MODEL);
    let chat = |more: &[&str]| {
        let base = ["run", &model, "--json", "--temp", "0", "-n", "3"];
        qwire(&[&base, more].concat()).json()
    };
    let raw = "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n\
               <|im_start|>assistant\n";
    let expected = run(&["--temp", "0", "-n", "3", raw]);
    let found = chat(&["--system", "be", "hi"]);
    assert_eq!(found["prompt_tokens"], expected["prompt_tokens"]);
    assert_eq!(found["tokens"], expected["tokens"]);
}

#[test]
fn template_variables_are_passed_on() {
    let template = "{{ messages[0].content }}|{{ enable_thinking }}|{{ level + 1 }}|{{ who }}";
    let mut copy = Copy::of("moes-f32.gguf");
    copy.set("tokenizer.chat_template", template.to_string());
    let folder = Folder::new("template");
    let model = folder.file("m.gguf", &copy.bytes());
    let base = ["--json", "-n", "2", "--temp", "0"];
    let vars = ["--no-think", "--template-arg", "level=2", "--template-arg", "who=me"];
    let found = qwire(&[&["run", &model, "hi"], &base[..], &vars].concat()).json();
    let raw = qwire(&[&["run", &model, "--raw", "hi|False|3|me"], &base[..]].concat()).json();
    assert_eq!(found["prompt_tokens"], raw["prompt_tokens"]);
    assert_eq!(found["tokens"], raw["tokens"]);

    copy.set("tokenizer.chat_template", "{% for x in y %}".to_string());
    let model = folder.file("broken.gguf", &copy.bytes());
    qwire(&["run", &model, "hi"]).fails(1, &["chat template"]);
    assert_eq!(qwire(&["run", &model, "--raw", "hi", "-n", "1"]).code, Some(0));
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let model = golden(MODEL);
    let check = |more: &[&str], words: &[&str]| {
        qwire(&[&["run", &model], more].concat()).fails(2, words);
    };
    check(&["x", "--temp", "-1"], &["temperature is -1"]);
    check(&["x", "--top-p", "1.5"], &["top_p is 1.5"]);
    check(&["x", "--raw", "--system", "y"], &["--system"]);
    check(&["x", "--logprobs", "2"], &["--json"]);
    check(&["x", "--threads", "0"], &["--threads"]);
    check(&["x", "--kv-memory", "lots"], &["lots"]);
    check(&["x", "--logit-bias", "5"], &["ID=B"]);
    qwire(&["fly"]).fails(2, &["fly"]);
    let environment = command(&["run", &model, "x"]).env("QWIRE_THREADS", "many").spawn().unwrap();
    finish(environment).fails(2, &["QWIRE_THREADS is `many`"]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let model = golden(MODEL);
    let check = |more: &[&str], words: &[&str]| {
        qwire(&[&["run", &model], more].concat()).fails(1, words);
    };
    check(&[""], &["the prompt is empty"]);
    check(&["a long prompt indeed", "--ctx", "9"], &["the prompt has", "the context holds 9"]);
    check(&["x", "-f", "/no/such/file"], &["/no/such/file: no such file"]);
    check(&["x", "--kv-memory", "10"], &["--kv-memory holds no page"]);
    check(&["x", "--ctx", "4000", "--kv-memory", "1M"], &["more than --kv-memory"]);
    check(&["x", "--logit-bias", "999=1"], &["999"]);
    check(&["x", "--isa", "neon9"], &["neon9", "scalar"]);
    qwire_with(&["run", &model], b"\xff").fails(1, &["stdin is not UTF-8", "byte 0"]);
}

#[test]
fn a_word_alone_is_a_prompt_unless_it_looks_like_a_model() {
    let question = "Which option sets the temperature?";
    let found = qwire(&["run", question, "--temp", "0"]);
    let answer = "Pass `--temp T`; 0 always takes the best token.\n";
    assert_eq!((found.code, found.text().as_str()), (Some(0), answer), "{found:?}");
    assert!(found.stderr.starts_with("qwire-box: no MODEL was named"), "{}", found.stderr);
    let piped = qwire_with(&["run", "--quiet", "--temp", "0"], question.as_bytes());
    assert_eq!((piped.text().as_str(), piped.stderr.as_str()), (answer, ""));
    qwire(&["run", "typo.gguf"]).fails(1, &["typo.gguf: no such file"]);
    qwire(&["run", "typo.gguf", "x"]).fails(1, &["typo.gguf: no such file"]);
    qwire(&["run", "no such model", "x"]).fails(1, &["no such model: no such file"]);
    qwire(&["run", "--quiet"]).fails(1, &["the prompt is empty"]);
    assert_eq!(qwire(&["run", &golden(MODEL)]).code, Some(1), "it waits for a prompt on stdin");
}

#[test]
fn a_full_context_is_an_honest_length() {
    let answer = run(&["--temp", "0", "--ctx", "10", "--raw", "the thing", "-n", "99"]);
    let sum = answer["prompt_tokens"].as_u64().unwrap() as usize;
    let tokens = answer["tokens"].as_array().unwrap().len();
    assert_eq!((sum + tokens, &answer["finish_reason"]), (11, &json!("length")));
}

#[test]
fn help_and_version_are_there() {
    let bare = qwire::<&str>(&[]);
    assert_eq!(bare.code, Some(2));
    assert!(bare.stderr.contains("Examples:"), "{}", bare.stderr);
    for command in ["run", "chat", "inspect", "tokenize", "logits", "synth"] {
        let help = qwire(&[command, "--help"]);
        assert_eq!((help.code, help.text().contains("Examples:")), (Some(0), true), "{command}");
    }
    assert_eq!(qwire(&["--version"]).text(), format!("qwire {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    // More than a pipe holds, so that the writer is still there when the reader leaves.
    let ids: Vec<String> = (0..200).map(|id| id.to_string()).collect();
    let args = ["logits", &golden(MODEL), "--tokens", &ids.join(" "), "--npy", "-"];
    let mut child = command(&args).spawn().unwrap();
    drop(child.stdout.take());
    let outcome = finish(child);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(141), ""));
}

/// There is no way back to another device, whatever binary, driver or card is at hand.
#[test]
fn a_device_that_is_not_there_is_an_error() {
    let model = golden(MODEL);
    for name in ["wgpu:99", "cuda:99"] {
        let there_is_none = format!("there is no {name}: ");
        qwire(&["run", &model, "--device", name, "x"]).fails(1, &[&there_is_none]);
    }
}

/// A place on a card is refused where there is none, and the way out is named.
#[test]
fn experts_are_put_on_cards_alone() {
    let model = golden(MODEL);
    let told = ["--gpu-expert-layers puts experts on a card", "hint: name a card"];
    for layers in ["2", "auto"] {
        let args = ["run", &model, "--gpu-expert-layers", layers, "x"];
        qwire(&args).fails(2, &[told[0], "--device cpu has none", told[1]]);
    }
    let accepted = "accepted: auto, 0, 1, ..";
    qwire(&["run", &model, "--gpu-expert-layers", "all", "x"]).fails(2, &[accepted]);
}
