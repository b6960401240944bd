//! Every rule of STYLE.md on the repository itself.

use qwire_tidy::Source;
use qwire_tidy::rules::{
    Rule, boundaries, budget, docs, form, leftovers, unsafety, vocabulary, workspace,
};
use std::path::Path;
use std::sync::LazyLock;

static SOURCE: LazyLock<Source> =
    LazyLock::new(|| Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")));

fn check(rule: Rule) {
    let findings = rule(&SOURCE);
    let report: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} found:\n{}\n", findings.len(), report.join("\n"));
}

/// One test per rule, under the rule's own name.
macro_rules! rules {
    ($($file:ident: $($rule:ident)+;)+) => {
        const RULES: &[&str] = &[$($(stringify!($rule)),+),+];

        $($(
            #[test]
            fn $rule() {
                check($file::$rule);
            }
        )+)+
    };
}

rules! {
    form: files_say_what_they_are lines_are_narrow functions_fit_a_page files_are_one_noun
        folders_are_small;
    vocabulary: modules_are_nouns types_are_nouns nothing_is_tied_to_one_machine;
    unsafety: unsafe_is_in_known_files unsafe_has_its_reason;
    boundaries: imports_follow_the_drawing features_are_asked_in_one_file
        the_environment_is_read_in_one_file wire_formats_are_derived_at_the_wire;
    leftovers: code_is_finished comments_hold_no_notes no_code_is_commented_out;
    workspace: lints_are_inherited dependencies_are_known dependencies_are_on_the_map
        panics_unwind;
    docs: documents_exist links_resolve the_map_is_true;
}

#[test]
fn style_names_every_rule() {
    let style = SOURCE.file("STYLE.md").expect("STYLE.md exists");
    for rule in RULES {
        assert!(style.text.contains(&format!("| `{rule}` |")), "STYLE.md: add a row for `{rule}`");
    }
}

/// Shown by `cargo test -p qwire-tidy -- --nocapture`.
#[test]
fn what_is_worth_seeing() {
    let lines = budget::lines_per_crate(&SOURCE);
    println!("lines of source without tests and blanks:");
    for (name, count) in &lines {
        println!("{count:>8}  {name}");
    }
    println!("{:>8}  in all", lines.values().sum::<usize>());
    println!("may hold unsafe, does not exist: {:?}", unsafety::unused_permissions(&SOURCE));
    println!("imported by tests only: {:?}", boundaries::test_imports(&SOURCE));
    assert!(lines.contains_key("tidy"), "the walk found the crates");
}
