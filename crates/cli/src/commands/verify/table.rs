//! The table: every contract with its claim, what was measured, what was demanded, and the verdict;
//! for people, and as Markdown for documents.

use std::fmt::{self, Write};

use super::contract::{Contract, Reading, judge, shown};
use super::evidence::{Facts, Record, Status};
use crate::failure::one_line;
use crate::quantity;

/// Records beside their contracts.
pub struct Table<'a> {
    pub contracts: &'a [Contract],
    pub records: &'a [Record],
}

/// The counts of a run: a skip is no pass.
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    seconds: f64,
}

impl Summary {
    /// Counts.
    pub fn of(records: &[Record]) -> Self {
        let count = |status| records.iter().filter(|record| record.status == status).count();
        Self {
            passed: count(Status::Pass),
            failed: count(Status::Fail),
            skipped: count(Status::Skip),
            seconds: records.iter().map(|record| record.seconds).sum(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, seconds } = self;
        write!(f, "{passed} kept, {failed} broken, {skipped} skipped, in {seconds:.1} s")
    }
}

impl Table<'_> {
    fn rows(&self) -> impl Iterator<Item = (&Contract, &Record)> {
        self.records.iter().filter_map(|record| {
            let contract = self.contracts.iter().find(|c| c.id == record.contract)?;
            Some((contract, record))
        })
    }

    /// The same for a document.
    pub fn markdown(&self, facts: &Facts) -> String {
        let mut text = String::new();
        let (machine, model) = (&facts.machine, &facts.model);
        let cpu = machine.cpu.as_deref().unwrap_or("an unknown processor");
        let size = quantity::bytes(model.bytes);
        let name = &model.name;
        let date = facts.date.split('T').next().unwrap_or_default();
        // A String takes everything.
        let _ = writeln!(text, "`{name}` ({size}) on {cpu}, {}, {date}:\n", machine.device);
        let _ = writeln!(text, "| contract | claim | measured | verdict |\n|---|---|---|---|");
        for (contract, record) in self.rows() {
            let (id, claim) = (&contract.id, &contract.claim);
            let measured = said(contract, record).replace('|', "\\|");
            let _ = writeln!(text, "| `{id}` | {claim} | {measured} | {} |", word(record.status));
        }
        let _ =
            writeln!(text, "\n{}.", Summary { seconds: 0.0, ..Summary::of(self.records) }.counts());
        text
    }
}

impl Summary {
    fn counts(&self) -> String {
        format!("{} kept, {} broken, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (contract, record) in self.rows() {
            line(f, contract, record)?;
        }
        write!(f, "{}", Summary::of(self.records))
    }
}

/// One contract, in two lines.
pub fn line(f: &mut dyn Write, contract: &Contract, record: &Record) -> fmt::Result {
    let (status, seconds) = (word(record.status), record.seconds);
    writeln!(f, "{status:<6} {:<15} {seconds:>6.2} s  {}", contract.id, contract.claim)?;
    writeln!(f, "{:<33}{}", "", said(contract, record))
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Pass => "pass",
        Status::Fail => "FAIL",
        Status::Skip => "skip",
    }
}

/// What was measured beside what was demanded, what is broken first; or why nothing was.
pub fn said(contract: &Contract, record: &Record) -> String {
    if let Some(reason) = &record.reason {
        return one_line(reason);
    }
    let mut readings = judge(&contract.thresholds, &record.samples);
    readings.sort_by_key(|reading| reading.holds);
    readings.iter().map(reading_text).collect::<Vec<_>>().join(" · ")
}

/// Such as `least cosine ≥ 0.99, aim 0.999: 0.99998`.
fn reading_text(reading: &Reading<'_>) -> String {
    let broken = if reading.holds { "" } else { " (broken)" };
    format!("{}: {}{broken}", reading.threshold, shown(reading.value))
}
