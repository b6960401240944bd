//! `qwire pack` and `--pack`: the same answer from a sidecar, and none from one that does not fit.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::binary::{Outcome, command, finish, qwire};
use crate::interrupt::kill;
use crate::model::{Copy, Folder, golden, tiny_moe};

/// A model in a folder of its own.
fn model(name: &str) -> (Folder, String, String) {
    let folder = Folder::new(name);
    let model = folder.path("m.gguf");
    fs::copy(golden("moe-q4_k_m.gguf"), &model).expect("a copy");
    let sidecar = folder.path("m.gguf.qwire");
    (folder, model, sidecar)
}

fn run(model: &str, pack: &str) -> Outcome {
    qwire(&["run", model, "--raw", "-n", "12", "--temp", "0", "--pack", pack, "Hello"])
}

/// Proves that a run takes its panels from disk, or does not, and answers the same either way.
#[track_caller]
fn answers(model: &str, pack: &str, from_disk: bool) -> Outcome {
    let (outcome, expected) = (run(model, pack), run(model, "never"));
    assert_eq!((outcome.code, expected.code), (Some(0), Some(0)), "{outcome:?}");
    assert_eq!(outcome.stdout, expected.stdout);
    assert_eq!(outcome.stderr.contains("from disk"), from_disk, "{outcome:?}");
    assert!(!expected.stderr.contains("from disk"), "never does not look");
    outcome
}

fn flip(path: &str, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Where wgpu knows a device, such as Mesa's lavapipe: what its host computes with.
#[test]
fn the_host_of_a_card_takes_its_experts_from_disk() {
    let (_folder, model, _) = model("pack-host");
    let bits = |pack: &str| {
        let device = ["bench", &model, "--device", "wgpu", "--gpu-expert-layers", "1"];
        let bits = ["--pack", pack, "--bits", "-p", "20", "-n", "2", "--json"];
        qwire(&[device.as_slice(), &bits].concat())
    };
    let expected = bits("never");
    if expected.stderr.contains("there is no wgpu:0") {
        println!("skipped: {}", expected.stderr);
        return;
    }
    let packed = bits("always");
    let told = |outcome: &Outcome| outcome.stderr.contains("packed weights from disk");
    assert!(told(&packed) && !told(&expected), "{packed:?} {expected:?}");
    let (packed, expected) = (packed.json(), expected.json());
    assert!(packed[0]["sha256"].is_string() && packed[0]["sha256"] == expected[0]["sha256"]);
}

#[test]
fn a_sidecar_is_written_when_asked_and_used_where_it_is() {
    let (folder, model, sidecar) = model("pack-fresh");
    answers(&model, "auto", false);
    assert_eq!(folder.names(), ["m.gguf"], "nothing was asked for");
    qwire(&["pack", &model, "--check"]).fails(1, &["m.gguf: it has no sidecar"]);
    let page = qwire(&["inspect", &model]).text();
    assert!(page.contains("sidecar        none; `qwire pack` writes one of"), "{page}");

    let packed = qwire(&["pack", &model]);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    assert!(packed.stderr.contains("m.gguf.qwire: ") && packed.stderr.contains("written in"));
    assert_eq!(folder.names(), ["m.gguf", "m.gguf.qwire"]);
    answers(&model, "auto", true);
    let bytes = fs::read(&sidecar).unwrap();
    assert!(qwire(&["pack", &model]).stderr.contains("up to date"));
    assert!(qwire(&["pack", &model, "--force", "--threads", "3"]).stderr.contains("written in"));
    assert!(bytes == fs::read(&sidecar).unwrap(), "always the same bytes");
    assert!(qwire(&["pack", &model, "--check"]).stderr.contains("whole"));
    assert_eq!(qwire(&["pack", &model, "-q"]).stderr, "");
    let facts = qwire(&["inspect", &model, "--json"]).json();
    assert_eq!(facts["sidecar"]["bytes"], bytes.len());
    assert_eq!(facts["sidecar"]["problem"], serde_json::Value::Null);

    fs::remove_file(&sidecar).unwrap();
    answers(&model, "always", true);
    assert!(bytes == fs::read(&sidecar).unwrap(), "--pack always writes the same");
}

#[test]
fn logits_and_bench_take_it_too() {
    let (_folder, model, _) = model("pack-commands");
    let logits = |pack| qwire(&["logits", &model, "--tokens", "1,2,3", "--json", "--pack", pack]);
    let expected = logits("never").json();
    assert_eq!(logits("always").json(), expected);
    assert_eq!(logits("auto").json(), expected);
    let bench = qwire(&["bench", &model, "-p", "4", "-n", "2", "-r", "1", "--no-limits"]);
    assert!(bench.code == Some(0) && bench.stderr.contains("from disk"), "{bench:?}");
}

/// The model changed, with the same name and size; the sidecar changed; or it is another file.
#[test]
fn what_does_not_fit_is_never_used_and_packed_anew() {
    let (_folder, model, sidecar) = model("pack-stale");
    assert_eq!(qwire(&["pack", &model]).code, Some(0));
    let good = fs::read(&sidecar).unwrap();
    let renewed = |words: &str| {
        qwire(&["pack", &model, "--check"]).fails(1, &["m.gguf.qwire", words]);
        let page = qwire(&["inspect", &model]).text();
        assert!(page.contains("is not used: ") && page.contains(words), "{page}");
        for pack in ["auto", "always"] {
            let before = fs::read(&sidecar).ok();
            let outcome = answers(&model, pack, true);
            assert!(outcome.stderr.contains("packing anew"), "{outcome:?}");
            assert!(qwire(&["pack", &model, "--check"]).code == Some(0));
            fs::write(&sidecar, before.unwrap()).unwrap();
        }
        assert!(qwire(&["pack", &model]).stderr.contains("written in"));
        answers(&model, "auto", true);
    };
    fs::write(&sidecar, &good[..good.len() / 2]).unwrap();
    renewed("bytes instead of");
    fs::write(&sidecar, "no sidecar at all").unwrap();
    renewed("it is not a sidecar");
    flip(&sidecar, 8);
    renewed("layout version");
    flip(&sidecar, 300);
    renewed("its head is damaged");
    assert!(fs::read(&sidecar).unwrap() == good);

    // One byte at the end of the head of one tensor.
    let bytes = fs::read(&model).unwrap();
    let norm = Copy::of("moe-q4_k_m.gguf").tensor("blk.1.attn_q.weight").bytes[..64].to_vec();
    let at = bytes.windows(64).position(|window| window == norm).expect("it is in the file");
    flip(&model, at + 4000);
    renewed("it belongs to another model");
    assert!(fs::read(&sidecar).unwrap() != good);
}

#[test]
fn a_flipped_bit_is_found_by_a_check() {
    let (_folder, model, sidecar) = model("pack-flip");
    assert_eq!(qwire(&["pack", &model]).code, Some(0));
    let len = fs::metadata(&sidecar).unwrap().len() as usize;
    flip(&sidecar, len - 100);
    let outcome = qwire(&["pack", &model, "--check"]);
    outcome.fails(1, &["m.gguf.qwire", "tensor `output.weight`", "not what was written"]);
    assert!(qwire(&["pack", &model, "--force"]).stderr.contains("written in"));
    assert_eq!(qwire(&["pack", &model, "--check"]).code, Some(0));
}

#[test]
fn a_split_model_has_one_sidecar() {
    let folder = Folder::new("pack-split");
    let mut first = Copy::of("moe-q4_k_m.gguf");
    let rest = first.tensors.split_off(first.tensors.len() / 2);
    let mut second = Copy { metadata: Vec::new(), tensors: rest };
    first.set("split.no", 0u32).set("split.count", 2u32);
    second.set("split.no", 1u32).set("split.count", 2u32);
    let model = folder.file("m-00001-of-00002.gguf", &first.bytes());
    let other = folder.file("m-00002-of-00002.gguf", &second.bytes());
    assert_eq!(qwire(&["pack", &model]).code, Some(0));
    assert!(folder.names().contains(&"m-00001-of-00002.gguf.qwire".to_string()));
    let outcome = answers(&model, "auto", true);
    assert_eq!(outcome.stdout, run(&golden("moe-q4_k_m.gguf"), "never").stdout);
    let len = fs::metadata(&other).unwrap().len() as usize;
    flip(&other, len - 10);
    qwire(&["pack", &model, "--check"]).fails(1, &["belongs to another model"]);
}

/// Starts `qwire pack` and stops it as soon as its draft is there.
fn stopped(folder: &Folder, model: &str) -> std::process::Child {
    for _ in 0..50 {
        let child = command(&["pack", model, "--force", "--threads", "1"]).spawn().unwrap();
        let started = Instant::now();
        let drafted = || folder.names().iter().any(|name| name.contains(".part"));
        while !drafted() && started.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        kill(&child, "-STOP");
        if drafted() {
            return child;
        }
        kill(&child, "-CONT");
        finish(child);
    }
    panic!("packing is too quick to be stopped");
}

#[test]
fn an_interrupt_leaves_nothing_and_debris_is_swept() {
    let folder = Folder::new("pack-end");
    let model = folder.path("m.gguf");
    fs::copy(tiny_moe(), &model).unwrap();
    let child = stopped(&folder, &model);
    kill(&child, "-INT");
    kill(&child, "-CONT");
    let outcome = finish(child);
    // It may have come after the last piece.
    let complete = outcome.code == Some(0);
    assert!(complete || outcome.code == Some(130), "{outcome:?}");
    assert_eq!(folder.names().len(), 1 + usize::from(complete), "{:?}", folder.names());

    let mut child = stopped(&folder, &model);
    // Somebody else's work is left alone.
    answers(&model, "auto", complete);
    assert!(folder.names().contains(&"m.gguf.qwire.part".into()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(folder.names().contains(&"m.gguf.qwire.part".into()));
    answers(&model, "auto", complete);
    assert_eq!(folder.names().len(), 1 + usize::from(complete), "{:?}", folder.names());
}

#[test]
fn whenever_a_writer_is_killed_no_wrong_sidecar_is_left() {
    let folder = Folder::new("pack-kill");
    let model = folder.path("m.gguf");
    fs::copy(tiny_moe(), &model).unwrap();
    for delay_ms in (0..80).step_by(4) {
        let mut child = command(&["pack", &model, "--force"]).spawn().unwrap();
        thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let checked = qwire(&["pack", &model, "--check"]);
        if checked.code != Some(0) {
            checked.fails(1, &["it has no sidecar"]);
        }
    }
    let complete = folder.names().contains(&"m.gguf.qwire".into());
    answers(&model, "auto", complete);
    assert_eq!(folder.names().len(), 1 + usize::from(complete), "{:?}", folder.names());
}

#[test]
fn several_may_pack_at_once() {
    let folder = Folder::new("pack-both");
    let model = folder.path("m.gguf");
    fs::copy(tiny_moe(), &model).unwrap();
    let pack = || command(&["pack", &model, "--force"]).spawn().unwrap();
    let children: Vec<_> = (0..4).map(|_| pack()).collect();
    for child in children {
        let outcome = finish(child);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
    assert_eq!(folder.names(), ["m.gguf", "m.gguf.qwire"]);
    assert_eq!(qwire(&["pack", &model, "--check"]).code, Some(0));
}

/// A line of shell in a mount namespace of its own; none where this user may not have one.
fn mounted(folder: &Folder, script: &str) -> Option<Outcome> {
    let folder = folder.path("");
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script, env!("CARGO_BIN_EXE_qwire")]);
        command.env("FOLDER", &folder).env("CACHE", format!("{folder}cache"));
        command.env_remove("HOME").env_remove("XDG_CACHE_HOME").output()
    };
    if !unshare("mount -t tmpfs none \"$FOLDER\"").is_ok_and(|output| output.status.success()) {
        println!("skipped: no mount namespace");
        return None;
    }
    Some(unshare(script).expect("it has just worked").into())
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    let (folder, model, sidecar) = model("pack-full");
    // A limit on the size of files, which any user may set.
    let limited = |args: &str| -> Outcome {
        let script = format!("trap '' XFSZ; ulimit -f 2000; exec \"$0\" {args}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_qwire"), &model]);
        shell.env_remove("HOME").output().expect("there is a shell").into()
    };
    let words = ["m.gguf.qwire: takes 3.", " MB, but ", "free on its disk (File too large"];
    limited("pack \"$1\"").fails(1, &words);
    limited("run \"$1\" --raw -n 2 --pack always hi").fails(1, &words);
    assert_eq!(folder.names(), ["m.gguf"]);
    File::create(&sidecar).unwrap();
    let outcome = limited("run \"$1\" --raw -n 2 --temp 0 hi");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("warning: running without a sidecar: "), "{outcome:?}");
    assert_eq!(folder.names(), ["m.gguf", "m.gguf.qwire"]);

    // A disk that is too small for both.
    let disk = |script: &str| {
        let small = "mount -t tmpfs -o size=5m none \"$FOLDER\"; cp \"$MODEL\" \"$FOLDER/m.gguf\"";
        let script = format!("MODEL='{}'; {small}; {script}", golden("moe-q4_k_m.gguf"));
        mounted(&folder, &script)
    };
    let Some(outcome) = disk("exec \"$0\" pack \"$FOLDER/m.gguf\"") else { return };
    outcome.fails(1, &["m.gguf.qwire: takes 3.", " MB, but 1.", " MB are free on its disk"]);
    let run = "\"$0\" run \"$FOLDER/m.gguf\" --raw -n 2 --temp 0 hi; ls \"$FOLDER\"";
    let outcome = disk(&format!("echo > \"$FOLDER/m.gguf.qwire\"; {run}")).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("m.gguf.qwire is not used: it is not"), "{outcome:?}");
    assert!(outcome.text().ends_with("m.gguf\nm.gguf.qwire\n"), "{outcome:?}");
}

#[test]
fn where_the_folder_cannot_be_written_the_cache_folder_serves() {
    let folder = Folder::new("pack-readonly");
    // In what is mounted over the folder nothing can be written but in `cache`.
    let disk = |script: &str| {
        let mount = "mount -t tmpfs none \"$FOLDER\"; cp \"$MODEL\" \"$FOLDER/m.gguf\"; \
                     mkdir \"$CACHE\"; mount -t tmpfs none \"$CACHE\"; \
                     mount -o remount,ro \"$FOLDER\"";
        let script = format!("MODEL='{}'; {mount}; {script}", golden("moe-q4_k_m.gguf"));
        mounted(&folder, &script)
    };
    let Some(outcome) = disk("exec \"$0\" pack \"$FOLDER/m.gguf\"") else { return };
    outcome.fails(1, &["m.gguf.qwire.part: cannot create it: Read-only file system"]);
    let script = "export XDG_CACHE_HOME=\"$CACHE\"; \"$0\" pack \"$FOLDER/m.gguf\"; \
                  ls \"$CACHE/qwire\"; \"$0\" pack --check \"$FOLDER/m.gguf\"; \
                  \"$0\" run \"$FOLDER/m.gguf\" --raw -n 2 hi";
    let outcome = disk(script).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.text().starts_with("m.gguf-"), "{outcome:?}");
    let told = &outcome.stderr;
    assert!(["written", "whole", "from disk"].iter().all(|w| told.contains(w)), "{told}");
}

#[test]
fn a_sidecar_that_cannot_be_read_is_no_reason_to_fail() {
    let (_folder, model, sidecar) = model("pack-odd");
    fs::create_dir(&sidecar).unwrap();
    let outcome = answers(&model, "auto", false);
    assert!(outcome.stderr.contains("it is no regular file"), "{outcome:?}");
    assert!(Path::new(&sidecar).is_dir());
    qwire(&["pack", &model, "--check"]).fails(1, &["m.gguf.qwire: it is no regular file"]);
    qwire(&["pack", &model]).fails(1, &["m.gguf.qwire: it is no regular file"]);
}

#[test]
fn a_sidecar_may_be_a_link_to_another_disk() {
    let (folder, model, sidecar) = model("pack-link");
    std::os::unix::fs::symlink(folder.path("elsewhere"), &sidecar).unwrap();
    fs::write(folder.path("elsewhere"), "old").unwrap();
    assert_eq!(qwire(&["pack", &model]).code, Some(0));
    assert_eq!(folder.names(), ["elsewhere", "m.gguf", "m.gguf.qwire"]);
    assert!(fs::symlink_metadata(&sidecar).unwrap().is_symlink());
    answers(&model, "auto", true);
}
