//! `qwire verify`: contracts hold on the model in the box, fail under their faults, and leave
//! evidence that can be judged again and not be bent; the README says what the evidence says.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::binary::qwire;
use crate::model::{Folder, golden};
use crate::serve::Server;

fn root(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    path.to_str().expect("the path is text").to_string()
}

#[test]
fn what_takes_seconds_holds_and_can_be_judged_again() {
    let folder = Folder::new("evidence");
    let proof = folder.path("proof");
    let all = qwire(&["verify", "--quick", "--json", "--evidence", &proof]).json();
    let records = all["contracts"].as_array().expect("a list");
    assert!(records.len() >= 15, "{all}");
    assert!(records.iter().all(|record| record["status"] == "pass"), "{all}");
    let seconds: f64 = records.iter().filter_map(|record| record["seconds"].as_f64()).sum();
    println!("{} contracts in {seconds:.1} s", records.len());
    let sum = "f8d56ccd0a0e7976a8af33f4174151fe0e504fbb03e7a6ef365b41c592feabc7";
    assert_eq!(all["facts"]["model"]["sha256"][0], sum);

    let again = qwire(&["verify", "--check", &proof]);
    assert_eq!(again.code, Some(0), "{again:?}");
    let kept = format!("{} kept, 0 broken, 0 skipped", records.len());
    assert!(again.text().contains(&kept), "{}", again.text());

    let (manifest, record) = (format!("{proof}/manifest.json"), format!("{proof}/kv-cache.json"));
    let (whole, good) = (fs::read_to_string(&manifest).unwrap(), fs::read(&record).unwrap());
    let bent = String::from_utf8(good.clone()).unwrap().replacen("520.0", "52.0", 1);
    fs::write(&record, &bent).unwrap();
    let refused = |words: &[&str]| qwire(&["verify", "--check", &proof]).fails(1, words);
    refused(&["kv-cache.json", "changed after it was written"]);
    // Somebody who mends the sum is told by the samples.
    let digest = |bytes: &[u8]| {
        use sha2::{Digest, Sha256};
        let digits: Vec<_> =
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        digits.concat()
    };
    let mended = whole.replace(&digest(&good), &digest(bent.as_bytes()));
    fs::write(&manifest, mended).unwrap();
    refused(&["it says pass, and its samples do not hold `least prompt tokens ≥ 512`"]);
    fs::write(&manifest, &whole).unwrap();
    fs::remove_file(&record).unwrap();
    refused(&["kv-cache.json", "refused"]);
    fs::write(&record, &good).unwrap();
    let short: Value = serde_json::from_str(&whole).unwrap();
    let mut short = short;
    short["records"].as_object_mut().unwrap().remove("kv-cache");
    fs::write(&manifest, short.to_string()).unwrap();
    refused(&["it lacks the contract `kv-cache`"]);
}

#[test]
fn contracts_fail_under_their_faults() {
    let names = ["kv-cache", "rollback", "router-sum", "tokenizer", "template", "gpu-repeat"];
    let mut args = vec!["verify", "--falsify", "--json"];
    names.iter().for_each(|name| args.extend(["--contract", name]));
    let rows = qwire(&args).json()["falsified"].clone();
    let verdict = |name: &&str| {
        let rows = rows.as_array().expect("a list");
        let row = rows.iter().find(|row| row["contract"] == **name).expect("it was asked for");
        row["verdict"].as_str().expect("a word").to_string()
    };
    let verdicts: Vec<_> = names.iter().map(verdict).collect();
    assert_eq!(verdicts[..5], ["fails"; 5], "{rows}");
    assert!(["skip", "fails"].contains(&verdicts[5].as_str()), "{rows}");
}

#[test]
fn logits_from_elsewhere_are_a_contract() {
    let (model, logits) = (golden("moes-f32.gguf"), golden("moes-f32.npy"));
    let tokens = golden("moes.tokens.json");
    let args = ["verify", &model, "--contract", "transformers", "--logits", &logits];
    let args = [&args[..], &["--tokens-file", &tokens]].concat();
    let held = qwire(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(held["contracts"][0]["status"], "pass", "{held}");
    let broken = qwire(&[&args[..], &["--falsify"]].concat());
    assert_eq!(broken.code, Some(0), "{broken:?}");
    assert!(broken.text().contains("1 fail under their faults"), "{}", broken.text());
    let without = qwire(&args[..4]).text();
    assert!(without.contains("0 kept, 0 broken, 1 skipped"), "a skip is no pass: {without}");
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let check = |code, args: &[&str], words: &[&str]| {
        qwire(&[&["verify"], args].concat()).fails(code, words);
    };
    check(2, &["--contract", "no-such"], &["there is no contract `no-such`"]);
    check(1, &["--check", "/no/such"], &["/no/such", "evidence is refused"]);
    check(2, &["--logits", "a.npy"], &["--tokens-file"]);
    check(1, &["/no/such.gguf"], &["/no/such.gguf"]);
}

/// What a document says between its marks is what the evidence says.
fn evidence_in(document: &str, name: &str) -> String {
    let folder = root(&format!("benchmarks/evidence/{name}"));
    let told = qwire(&["verify", "--check", &folder, "--markdown"]);
    assert_eq!(told.code, Some(0), "{told:?}; measure again: qwire verify --full --evidence DIR");
    let text = fs::read_to_string(root(document)).expect("it is there");
    let first = format!("<!-- evidence of {name} -->\n");
    let (_, rest) = text.split_once(&first).expect("its first mark");
    let (table, _) = rest.split_once("<!-- end of evidence -->").expect("its last mark");
    assert_eq!(table.trim(), told.text().trim(), "{document}: put this table between the marks");
    table.to_owned()
}

#[test]
fn documents_say_what_the_evidence_says() {
    evidence_in("BENCHMARKS.md", "moe30");
    let table = evidence_in("README.md", "box");
    for entry in fs::read_dir(root("contracts")).expect("the contracts") {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(id) = name.strip_suffix(".toml") else { continue };
        assert!(table.contains(&format!("| `{id}` |")), "README.md lacks the contract `{id}`");
    }
}

#[test]
fn a_server_proves_itself_at_the_start() {
    let mut server = Server::of(&root("assets/qwire-box.gguf"), &["--self-check", "--ctx", "512"]);
    for contract in ["kernels", "tensors", "canary"] {
        let line = server.says("self-check");
        assert!(line.contains(contract), "{line}");
    }
    server.says("ready");
    server.child.kill().expect("it runs");
}
