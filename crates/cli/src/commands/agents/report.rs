//! Report: what was checked, and what came of it, for people or as JSON.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde_json::{Value, json};

/// A thing that was checked.
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What was seen.
    pub seen: String,
    /// What is wrong; nothing if it is well.
    pub faults: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Check {
    /// Whether nothing is wrong.
    pub fn passed(&self) -> bool {
        self.faults.is_empty()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "check": self.name,
            "passed": self.passed(),
            "seen": self.seen,
            "faults": self.faults,
            "seconds": (self.took.as_secs_f64() * 1e3).round() / 1e3,
        })
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok" } else { "FAIL" };
        let seconds = self.took.as_secs_f64();
        write!(f, "  {verdict:4}  {:14} {seconds:7.2} s  {}", self.name, self.seen)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n        {fault}"))
    }
}
