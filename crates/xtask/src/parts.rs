//! Parts: what `tools/gpu-run.sh` has run, each with its outcome, its output and its log.
//!
//! ```text
//! NAME.outcome   a word, seconds, and why: `ok 12`, `failed 3 exit status 1: ..`, `late 60 ..`,
//!                `skipped 0 ..`
//! NAME.out       what it printed
//! NAME.log       what it said beside
//! ```

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Lines of a log that are kept.
const LOG_LINES: usize = 40;

/// One part.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// What it is called.
    pub name: String,
    /// How it ended, in a word.
    pub word: String,
    /// How long it took.
    pub seconds: u64,
    /// Why, where it did not end well.
    pub why: String,
    /// What it printed.
    pub out: String,
    /// The last of what it said beside.
    pub log: String,
}

impl Part {
    /// Reads one from its files.
    fn read(folder: &Path, name: &str) -> Self {
        let text = |ending: &str| {
            let bytes = fs::read(folder.join(format!("{name}.{ending}"))).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let outcome = text("outcome");
        let mut words = outcome.trim().splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_string();
        let (first, seconds, why) = (word(), word(), word());
        let log = text("log");
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        let seconds = seconds.parse().unwrap_or(0);
        Self { name: name.into(), word: first, seconds, why, out: text("out"), log }
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or(Value::Null)
    }

    /// Whether it ended well.
    pub fn is_ok(&self) -> bool {
        self.word == "ok"
    }

    /// All of it, as samples are kept.
    pub fn sample(&self) -> Value {
        let out = match self.json() {
            Value::Null => Value::from(self.out.as_str()),
            json => json,
        };
        let (seconds, log) = (self.seconds, &self.log);
        json!({ "outcome": self.word, "why": self.why, "seconds": seconds, "out": out, "log": log })
    }
}

/// All parts of a run, in the order in which they ended.
pub struct Parts(pub Vec<Part>);

impl Parts {
    /// Reads a folder; `order` lists the parts.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let order = folder.join("order");
        let names = fs::read_to_string(&order).map_err(|e| format!("{}: {e}", order.display()))?;
        Ok(Self(names.lines().map(|name| Part::read(folder, name)).collect()))
    }

    /// One part; one that never ran says so.
    pub fn get(&self, name: &str) -> Part {
        let found = self.0.iter().find(|part| part.name == name).cloned();
        found.unwrap_or_else(|| Part {
            name: name.into(),
            word: "skipped".into(),
            why: "it was not run".into(),
            ..Part::default()
        })
    }
}
