//! Seeds: every target takes its own, each also cut short and bent, with no fuzzer at hand.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use qwire_fuzz::{TARGETS, target};

/// Seeds that a target has at least.
const FEWEST: usize = 3;
/// Ways in which each seed is cut, and in which it is bent.
const WAYS: usize = 24;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Its beginnings, and itself with a few bytes changed.
fn variants(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut state = seed.len() as u64 + 1;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
        (state >> 33) as usize
    };
    let cut = (1..WAYS).map(|way| seed[..seed.len() * way / WAYS].to_vec());
    let bent = (0..WAYS).map(move |way| {
        let mut bytes = seed.to_vec();
        for _ in 0..=way % 3 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes
    });
    cut.chain(bent)
}

/// One after the other: what a template may use of memory is measured by its process.
#[test]
fn every_target_takes_its_seeds() {
    for (name, run) in TARGETS {
        let folder = here("seeds").join(name);
        let seeds = names(&folder);
        assert!(seeds.len() >= FEWEST, "{name} has {} seeds", seeds.len());
        for seed in &seeds {
            let whole = fs::read(folder.join(seed)).unwrap();
            for bytes in [whole.clone(), Vec::new()].into_iter().chain(variants(&whole)) {
                let taken = catch_unwind(AssertUnwindSafe(|| run(&bytes)));
                let shown = String::from_utf8_lossy(&bytes);
                assert!(taken.is_ok(), "{name} of a variant of {seed}: {shown:?}");
            }
        }
    }
}

/// A target without seeds or without its line for libFuzzer is found, and so are their remains.
#[test]
fn every_target_is_known_everywhere() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).into()).collect();
    assert_eq!(names(&here("seeds")), targets);
    let manifest = fs::read_to_string(here("fuzz/Cargo.toml")).unwrap();
    let lines = manifest.lines().filter_map(|line| line.strip_prefix("name = \""));
    let binaries = lines.filter_map(|line| line.strip_suffix('"')).skip(1);
    assert_eq!(binaries.map(String::from).collect::<BTreeSet<_>>(), targets);
    assert!(catch_unwind(|| target("stranger")).is_err());
}
