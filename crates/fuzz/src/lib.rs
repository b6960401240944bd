//! Fuzz targets: every reader of bytes that others may have written, as a function that panics
//! where a promise about them is broken.
//!
//! ```text
//! seeds/NAME/*  ── tests/seeds.rs ──► target NAME      with every `cargo test`, and cut and bent
//!               └─ fuzz/target.rs ──► target NAME      libFuzzer goes on from them:
//!
//! cd crates/fuzz && cargo +nightly fuzz run NAME ../../target/corpus seeds/NAME
//! ```
//! A folder of its own, `fuzz`, keeps nightly and libFuzzer out of the workspace. What a fuzzer
//! finds becomes a seed once it is mended.

mod files;
mod text;
mod verdicts;
mod wires;

// The model of the server's own tests.
#[path = "../../server/tests/toy/mod.rs"]
mod toy;

/// A reader, and what is always true of it.
pub type Target = fn(&[u8]);

/// All of them: the name of each is that of its seeds' folder.
pub const TARGETS: [(&str, Target); 16] = [
    ("model", files::model),
    ("sidecar", files::sidecar),
    ("cache", files::cache),
    ("turns", files::turns),
    ("capsule", files::capsule),
    ("template", text::template),
    ("encode", text::encode),
    ("answer", text::answer),
    ("schema", text::schema),
    ("grammar", text::grammar),
    ("request", wires::request),
    ("gate", wires::gate),
    ("contract", verdicts::contract),
    ("evidence", verdicts::evidence),
    ("options", verdicts::options),
    ("array", verdicts::array),
];

/// The target of a name.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no target `{name}`")).1
}
