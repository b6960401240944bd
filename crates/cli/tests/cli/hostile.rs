//! Hostile files: a corpus of malformed models and seeded double faults, through the whole
//! program. No signal, no panic, no hang, no memory beyond what the file can need.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::binary::qwire;
use crate::model::{Folder, golden};

/// Runs every command on every file and tells how each ended, one JSON object a line.
const DRIVER: &str = r#"
import json, os, subprocess, sys, time
binary, folder = sys.argv[1:]
env = {k: v for k, v in os.environ.items() if not k.startswith("QWIRE_")}
for case in json.load(open(folder + "/manifest.json")):
    path = f"{folder}/{case['name']}.gguf"
    runs = {"check": ["inspect", "--check", path],
            "raw": ["run", path, "--raw", "--temp", "0", "-n", "2", "hi"],
            "chat": ["run", path, "--temp", "0", "-n", "2", "hi"]}
    for way, args in runs.items():
        with open(folder + "/err", "wb") as err:
            start = time.time()
            child = subprocess.Popen([binary] + args, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=err, env=env)
            _, status, usage = os.wait4(child.pid, 0)
        print(json.dumps({"name": case["name"], "expect": case["expect"], "way": way,
            "code": os.waitstatus_to_exitcode(status), "seconds": time.time() - start,
            "peak": usage.ru_maxrss * 1024, "size": os.path.getsize(path),
            "stderr": open(folder + "/err", errors="replace").read()}))
"#;

#[derive(Deserialize, Debug)]
struct Case {
    name: String,
    expect: String,
    way: String,
    code: i32,
    seconds: f64,
    peak: u64,
    size: u64,
    stderr: String,
}

impl Case {
    fn check(&self, base: u64) -> Result<(), String> {
        let errors: Vec<_> = self.stderr.lines().filter(|l| l.starts_with("error: ")).collect();
        let prove = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_string()) };
        prove((0..=1).contains(&self.code), "ends with a signal or another code")?;
        prove(!self.stderr.contains("panicked"), "panics")?;
        prove(self.seconds <= 5.0, "takes more than 5 s")?;
        prove(self.peak <= base + (64 << 20) + self.size, "takes too much memory")?;
        prove(errors.len() == usize::from(self.code == 1), "says not one line")?;
        // A broken template matters where it is used.
        let template_only = self.name == "j03_syntax" && self.way == "raw";
        match self.expect.as_str() {
            "accept" => prove(self.code == 0, "is refused")?,
            "reject" => prove(self.code == 1 || template_only, "is accepted")?,
            _ => {}
        }
        let places = ["key `", "tensor `", "byte", "tokenizer.", "template", "tensors"];
        let named = |line: &&str| places.iter().any(|place| line.contains(place));
        let compute = ["not finite", "-inf"];
        let told = |line: &&str| named(line) || compute.iter().any(|word| line.contains(word));
        prove(errors.iter().all(told), "does not name its place")
    }
}

#[test]
fn every_file_of_the_corpus_ends_well() {
    let generator = "../../../shared/checks/malformed_gguf.py";
    let generator = Path::new(env!("CARGO_MANIFEST_DIR")).join(generator);
    let folder = Folder::new("hostile");
    if !generator.exists() {
        println!("skipped: {} is absent", generator.display());
        return;
    }
    let made = Command::new("python3").arg(&generator).arg(folder.path("")).output();
    if !made.as_ref().is_ok_and(|made| made.status.success()) {
        println!("skipped: python3 with numpy is needed: {made:?}");
        return;
    }
    let driven = Command::new("python3")
        .args(["-c", DRIVER, env!("CARGO_BIN_EXE_qwire"), &folder.path("")])
        .output()
        .expect("python3 was there before");
    let lines = String::from_utf8(driven.stdout).unwrap();
    let cases: Vec<Case> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a case")).collect();
    assert!(cases.len() >= 3 * 141, "{} cases: {:?}", cases.len(), driven.stderr);
    let mut wrong = Vec::new();
    for case in &cases {
        let valid = cases.iter().find(|c| c.name == "000_valid" && c.way == case.way).unwrap();
        if let Err(what) = case.check(valid.peak) {
            wrong.push(format!("{} ({}) {what}: {case:?}", case.name, case.way));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Two changes each in the header, metadata or directory of a small file.
#[test]
fn double_faults_end_well() {
    let folder = Folder::new("faults");
    let bytes = fs::read(golden("moes-f32.gguf")).unwrap();
    let head = bytes.windows(15).rposition(|w| w == b"ffn_norm.weight").expect("a tensor") + 60;
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    for n in 0..100 {
        let mut mutant = bytes.clone();
        for _ in 0..2 {
            // Half of the faults hit the first kilobytes, where sizes and shapes are.
            let at = if random() % 2 == 0 { random() % 1200 } else { random() % head };
            match random() % 4 {
                0 => mutant[at] ^= 1 << (random() % 8),
                1 => mutant[at] = random() as u8,
                2 => mutant[at..at + 4].copy_from_slice(&(random() as u32).to_le_bytes()),
                _ => mutant[at..at + 8].fill([0, 255][random() % 2]),
            }
        }
        let path = folder.file("m.gguf", &mutant);
        for args in [&["inspect", &path, "--check"][..], &["run", &path, "-n", "2", "hi"]] {
            let outcome = qwire(args);
            let fine = outcome.code.is_some_and(|code| code == 0 || code == 1);
            let panics = outcome.stderr.contains("panicked");
            assert!(fine && !panics, "mutant {n}, {args:?}: {outcome:?}");
        }
    }
}
