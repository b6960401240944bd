//! The rules: each is a function from the repository to what breaks it, named after what holds
//! when it finds nothing.

pub mod boundaries;
pub mod budget;
pub mod docs;
pub mod form;
pub mod leftovers;
pub mod unsafety;
pub mod vocabulary;
pub mod workspace;

use crate::{Finding, Source};

/// What every rule is.
pub type Rule = fn(&Source) -> Vec<Finding>;

/// Lines at which a rule finds something in a sample; how its tests see it fail.
#[cfg(test)]
fn lines(rule: Rule, files: &[(&str, &str)]) -> Vec<usize> {
    rule(&Source::of(files)).iter().map(|finding| finding.line).collect()
}
