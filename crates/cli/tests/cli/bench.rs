//! `qwire bench`: rows for every test at every depth, limits, and what cannot be measured.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::{Outcome, command, finish, qwire};
use crate::model::{Folder, golden, tiny_moe};

fn bench(more: &[&str]) -> Outcome {
    let model = golden("moes-f32.gguf");
    qwire(&[&["bench", &model, "--no-limits", "--threads", "2"], more].concat())
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} is no number: {row}"))
}

#[test]
fn every_test_is_measured_at_every_depth() {
    let args = ["-p", "20,3", "-n", "2", "-d", "0,100,64", "-r", "3", "--json", "--chunk", "16"];
    let rows = bench(&args).json();
    let rows = rows.as_array().unwrap();
    let found: Vec<_> = rows.iter().map(|row| (&row["test"], &row["n"], &row["depth"])).collect();
    let expected = [("pp", 20), ("pp", 3), ("tg", 2)].map(|(test, n)| {
        [0, 100, 64].map(|depth| (Value::from(test), Value::from(n), Value::from(depth)))
    });
    assert_eq!(found, expected.iter().flatten().map(|(a, b, c)| (a, b, c)).collect::<Vec<_>>());
    for row in rows {
        let samples = row["samples"].as_array().unwrap();
        assert_eq!((samples.len(), &row["threads"], &row["parallel"]), (3, &2.into(), &1.into()));
        let [min, median, max] = ["min", "median", "max"].map(|key| number(row, key));
        assert!(0.0 < min && min <= median && median <= max, "{row}");
        assert!(samples.iter().any(|sample| sample.as_f64() == Some(median)), "{row}");
        assert!(number(row, "gb_s") > 0.0 && number(row, "gop_s") > 0.0, "{row}");
        assert!(row["read_gb_s"].is_null(), "not asked for");
    }
    let bytes = |at: usize| number(&rows[at], "bytes_per_token");
    assert!(bytes(6) < bytes(8) && bytes(8) < bytes(7), "deeper reads more");
    let facts = qwire(&["inspect", &golden("moes-f32.gguf"), "--json"]).json();
    let weights = number(&facts["weights"], "active_bytes_per_token");
    let kv = number(&facts["memory"], "kv_bytes_per_token_f16");
    assert!((bytes(6) - weights - 1.5 * kv).abs() < 1.0, "{} {weights} {kv}", bytes(6));
}

#[test]
fn limits_stand_beside_the_speeds() {
    let model = golden("moes-f32.gguf");
    let args = ["bench", &model, "-p", "4", "-n", "1", "-r", "1", "--threads", "1,2", "--json"];
    let rows = qwire(&args).json();
    let rows = rows.as_array().unwrap();
    let threads: Vec<_> = rows.iter().map(|row| row["threads"].as_u64().unwrap()).collect();
    assert_eq!(threads, [1, 1, 2, 2]);
    for row in rows {
        assert!(number(row, "read_gb_s") > 0.1 && number(row, "dot_gop_s") > 0.0, "{row}");
    }
}

#[test]
fn sequences_are_measured_together() {
    let args = ["-p", "40", "-n", "3", "-d", "0,70", "-r", "1", "--parallel", "3", "--chunk", "32"];
    let rows = bench(&[args.as_slice(), &["--json"]].concat()).json();
    for row in rows.as_array().unwrap() {
        assert_eq!(row["parallel"], 3, "{row}");
    }
    assert!(bench(&args).text().contains("tg 3 × 3"));
}

#[test]
fn results_are_printed_and_drawn() {
    let folder = Folder::new("bench");
    let plot = folder.path("speed.svg");
    let args = ["-p", "8", "-n", "2", "-d", "0,64", "-r", "2", "--plot", &plot];
    let page = bench(&args);
    assert_eq!(page.code, Some(0), "{page:?}");
    assert!(page.text().contains("tok/s") && page.text().contains("pp 8 "), "{page:?}");
    let svg = fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!((svg.matches("<circle").count(), svg.matches("NaN").count()), (4, 0), "{svg}");
    assert_eq!(folder.names(), ["speed.svg"]);
    let pasted = bench(&["-p", "0", "-n", "2", "-r", "1", "--markdown"]).text();
    assert!(pasted.starts_with("`moes-f32.gguf` on "), "{pasted}");
    let table: Vec<_> = pasted.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(table.len(), 3, "{pasted}");
    assert!(table.iter().all(|line| line.matches('|').count() == 11), "{pasted}");
}

#[test]
fn bits_are_the_same_in_every_way() {
    let args = ["--bits", "-p", "70", "-n", "3"];
    let hashes = bench(&[args.as_slice(), &["--json"]].concat()).json();
    let hashes = hashes.as_array().unwrap();
    let names: Vec<_> = hashes.iter().map(|hash| hash["name"].as_str().unwrap()).collect();
    // Graphs are a card's.
    assert_eq!(names, ["alone", "again", "once more", "prompt in chunks", "beside others"]);
    for hash in hashes {
        assert_eq!((&hash["sha256"], &hash["rows"]), (&hashes[0]["sha256"], &4.into()), "{hash}");
    }
    let other = bench(&[args.as_slice(), &["--seed", "2", "--json"]].concat()).json();
    assert_ne!(other[0]["sha256"], hashes[0]["sha256"]);
    assert!(bench(&args).text().ends_with("all the same bits\n"));
    bench(&["--bits", "-p", "4000", "-n", "100"]).fails(1, &["context is 4,096"]);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    bench(&["-r", "0"]).fails(2, &["0", "--repetitions"]);
    bench(&["-p", "x"]).fails(2, &["x"]);
    bench(&["-p", "0", "-n", "0"]).fails(2, &["nothing to measure"]);
    bench(&["--json", "--markdown"]).fails(2, &["--markdown"]);
    bench(&["--bits", "--profile"]).fails(2, &["--profile"]);
    for flag in ["--profile", "--no-graphs"] {
        bench(&[flag]).fails(2, &[flag, "needs a CUDA card"]);
    }
    bench(&["--device", "cuda:99"]).fails(1, &["there is no cuda:99"]);
    bench(&["--gpu-expert-layers", "1"]).fails(2, &["--gpu-expert-layers puts experts on a card"]);
    bench(&["-p", "512", "-d", "0,4000"]).fails(1, &["depth of 4,000", "4,512", "4,096"]);
    bench(&["--isa", "neon9"]).fails(1, &["neon9"]);
    bench(&["--plot", "/no/such/folder/x.svg"]).fails(1, &["cannot create"]);
    let huge = ["-p", "0", "-n", "1", "-d", "4000", "--parallel", "1024"];
    let outcome = qwire(&[&["bench", tiny_moe(), "--kv-type", "f32"], huge.as_slice()].concat());
    outcome.fails(1, &["the cache takes", "are left beside the weights"]);
    qwire(&["bench", "/no/such.gguf"]).fails(1, &["/no/such.gguf"]);
}

/// Where wgpu knows a device, such as Mesa's lavapipe.
#[test]
fn a_device_shares_the_experts_with_the_cpu() {
    let model = golden("moes-f32.gguf");
    let run = |more: &[&str]| {
        let device = ["bench", &model, "--device", "wgpu", "--no-limits"];
        qwire(&[device.as_slice(), more].concat())
    };
    let measured = ["--gpu-expert-layers", "1", "--threads", "2", "-r", "1", "-n", "2", "--json"];
    let outcome = run(&measured);
    if outcome.stderr.contains("there is no wgpu:0") {
        println!("skipped: {}", outcome.stderr);
        return;
    }
    let rows = outcome.json();
    let told = rows[0]["device"].as_str().unwrap();
    assert!(told.contains("experts of 1 of ") && told.contains("2 threads"), "{told}");
    let bits = ["--gpu-expert-layers", "0", "--bits", "-p", "70", "-n", "3"];
    assert_eq!(run(&bits).code, Some(0));
    let alone = ["--gpu-expert-layers", "auto", "--threads", "2", "-r", "1"];
    run(&alone).fails(2, &["--threads are the CPU's"]);
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let model = golden("moes-f32.gguf");
    let args = ["bench", &model, "-p", "0", "-n", "1", "-r", "10000", "--no-limits", "--json"];
    let child = command(&[args.as_slice(), &["-n", "512"]].concat()).spawn().unwrap();
    thread::sleep(Duration::from_millis(700));
    let asked = Instant::now();
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill exists").success());
    let outcome = finish(child);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    let rows: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert!(rows.as_array().unwrap().iter().all(|row| number(row, "median") > 0.0), "{rows}");
}
