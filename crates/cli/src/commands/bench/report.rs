//! Report: what was measured, as a table to read, a table to paste, and rows of JSON.

use serde::Serialize;

use super::machine::Reach;
use super::profile::{self, Profile};
use super::trial::{Kind, Measured};
use crate::backend::Device;
use crate::quantity;

/// Everything measured.
pub struct Report {
    pub model: String,
    pub cpu: Option<String>,
    pub memory_bytes: Option<u64>,
    pub kv: &'static str,
    pub chunk: usize,
    pub parallel: usize,
    pub series: Vec<Series>,
}

/// What was measured on one device, or with one number of threads.
pub struct Series {
    pub device: Device,
    pub reach: Reach,
    pub measured: Vec<Measured>,
    pub profiles: Vec<Profile>,
}

impl Series {
    /// Threads and instruction set, of a CPU.
    fn cpu(&self) -> Option<(usize, &'static str)> {
        match &self.device {
            Device::Cpu { threads, isa, .. } => Some((*threads, isa.name())),
            Device::Cuda(_) | Device::Wgpu(_) | Device::Shared(_) | Device::Reference => None,
        }
    }

    /// What it ran on, in few words.
    pub fn place(&self) -> String {
        match self.cpu() {
            Some((1, _)) => "1 thread".into(),
            Some((threads, _)) => format!("{threads} threads"),
            None => self.device.to_string(),
        }
    }
}

/// An object of `--json`.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Object<'a> {
    Trial(Box<Row<'a>>),
    Profile(profile::Row),
}

/// One trial in `--json`.
#[derive(Serialize)]
pub struct Row<'a> {
    test: &'static str,
    n: usize,
    depth: usize,
    device: String,
    threads: Option<usize>,
    parallel: usize,
    samples: &'a [f64],
    median: f64,
    min: f64,
    max: f64,
    gb_s: f64,
    gop_s: f64,
    bytes_per_token: f64,
    read_gb_s: Option<f64>,
    dot_gop_s: Option<f64>,
    model: &'a str,
    cpu: Option<&'a str>,
    isa: Option<&'static str>,
    kv_type: &'static str,
    chunk: usize,
}

const HEAD: [&str; 10] =
    ["test", "depth", "threads", "tok/s", "min – max", "MB/token", "GB/s", "of", "Gop/s", "of"];

impl Report {
    /// Every trial of every series, in the order in which they ran, and then the profiles.
    pub fn rows(&self) -> Vec<Object<'_>> {
        let row = |(series, measured)| Object::Trial(Box::new(self.row(series, measured)));
        let profiles = self.profiles().map(|profile| Object::Profile(profile.row()));
        self.pairs().map(row).chain(profiles).collect()
    }

    fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.series.iter().flat_map(|series| &series.profiles)
    }

    fn row<'a>(&'a self, series: &Series, measured: &'a Measured) -> Row<'a> {
        Row {
            test: measured.trial.kind.name(),
            n: measured.trial.n,
            depth: measured.trial.depth,
            device: series.device.to_string(),
            threads: series.cpu().map(|cpu| cpu.0),
            parallel: self.parallel,
            samples: &measured.samples,
            median: measured.median(),
            min: measured.min(),
            max: measured.max(),
            gb_s: measured.gb_s(),
            gop_s: measured.gop_s(),
            bytes_per_token: measured.cost.bytes,
            read_gb_s: series.reach.read(),
            dot_gop_s: series.reach.dot(),
            model: &self.model,
            cpu: self.cpu.as_deref(),
            isa: series.cpu().map(|cpu| cpu.1),
            kv_type: self.kv,
            chunk: self.chunk,
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&Series, &Measured)> {
        self.series.iter().flat_map(|s| s.measured.iter().map(move |measured| (s, measured)))
    }

    /// The instruction set, or the device beside the CPU.
    pub fn device(&self) -> String {
        let name = |series: &Series| match series.cpu() {
            Some((_, isa)) => format!(" · {isa}"),
            None => format!(" · {}", series.device),
        };
        self.series.first().map_or_else(String::new, name)
    }

    /// The model and the machine, in one line.
    fn line(&self) -> String {
        let cpu = self.cpu.as_deref().unwrap_or("an unknown processor");
        let memory = self.memory_bytes.map(quantity::bytes);
        let memory = memory.map_or_else(String::new, |memory| format!(", {memory} of memory"));
        let (kv, chunk) = (self.kv, self.chunk);
        format!("{cpu}{memory}{} · {kv} cache · steps of {chunk}", self.device())
    }

    /// One line of limits per series.
    fn limits(&self) -> Vec<String> {
        let line = |series: &Series| {
            let reach = &series.reach;
            let figures = |values: &[f64], digits| {
                let values: Vec<_> = values.iter().map(|v| format!("{v:.digits$}")).collect();
                values.join(" and ")
            };
            if series.cpu().is_none() {
                let copy = reach.read()?;
                return Some(format!("Limit: a copy in the card's memory moves {copy:.1} GB/s"));
            }
            (!reach.read_gb_s.is_empty()).then(|| {
                let threads = series.place();
                let (read, dot) = (figures(&reach.read_gb_s, 1), figures(&reach.dot_gop_s, 0));
                let size = quantity::bytes(reach.stream_bytes as u64);
                let format = reach.format;
                format!(
                    "Limits, before and after, {threads}: read {read} GB/s ({size}), 8-bit \
                     products {dot} Gop/s (our {format} tile of 16 tokens, in cache)"
                )
            })
        };
        self.series.iter().filter_map(line).collect()
    }

    /// Samples too far apart to be trusted.
    fn warnings(&self) -> Vec<String> {
        let warning = |(series, measured): (&Series, &Measured)| {
            let ratio = measured.noise()?;
            let [test, depth, ..] = self.cells(series, measured);
            let threads = series.place();
            Some(format!("Noisy: {test} at depth {depth}, {threads}: max is {ratio:.2} × min"))
        };
        self.pairs().filter_map(warning).collect()
    }

    fn cells(&self, series: &Series, measured: &Measured) -> [String; 10] {
        let share = |value: f64, limit: Option<f64>| {
            limit.map_or_else(String::new, |limit| format!("{:.0} %", 100.0 * value / limit))
        };
        let figure = |value: f64| {
            if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
        };
        let trial = measured.trial;
        let together =
            if self.parallel > 1 { format!(" × {}", self.parallel) } else { String::new() };
        let prefill = trial.kind == Kind::Prefill;
        [
            format!("{} {}{together}", trial.kind.name(), trial.n),
            quantity::grouped(trial.depth as u64),
            series.cpu().map_or_else(String::new, |cpu| cpu.0.to_string()),
            figure(measured.median()),
            format!("{} – {}", figure(measured.min()), figure(measured.max())),
            figure(measured.cost.bytes / 1e6),
            figure(measured.gb_s()),
            share(measured.gb_s(), series.reach.read()),
            if prefill { figure(measured.gop_s()) } else { String::new() },
            if prefill { share(measured.gop_s(), series.reach.dot()) } else { String::new() },
        ]
    }

    /// A table for a terminal.
    pub fn table(&self) -> String {
        let mut rows = vec![HEAD.map(String::from)];
        rows.extend(self.pairs().map(|(series, measured)| self.cells(series, measured)));
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: [usize; 10] = std::array::from_fn(width);
        let mut lines = vec![crate::failure::one_line(&self.model), self.line()];
        lines.extend(self.limits());
        lines.push(String::new());
        for row in &rows {
            let first = format!("{:width$}", row[0], width = widths[0]);
            let rest = row.iter().zip(widths).skip(1);
            let cells = rest.map(|(cell, width)| format!("{cell:>width$}"));
            let cells: Vec<_> = [first].into_iter().chain(cells).collect();
            lines.push(cells.join("  ").trim_end().into());
        }
        lines.extend(self.warnings());
        lines.extend(self.profiles().map(|profile| format!("\n{}", profile.table().trim_end())));
        lines.join("\n") + "\n"
    }

    /// A table to paste.
    pub fn markdown(&self) -> String {
        let model = crate::failure::one_line(&self.model);
        let mut lines = vec![format!("`{model}` on {}.", self.line())];
        lines.extend(self.limits().iter().map(|line| format!("{line}.")));
        lines.push(String::new());
        let row = |cells: &[String]| format!("| {} |", cells.join(" | "));
        lines.push(row(&HEAD.map(String::from)));
        let rule = |at| if at == 0 { "---" } else { "---:" }.to_string();
        lines.push(row(&std::array::from_fn::<_, 10, _>(rule)));
        lines.extend(self.pairs().map(|(series, measured)| row(&self.cells(series, measured))));
        lines.extend(self.warnings().iter().map(|line| format!("\n{line}")));
        lines.extend(self.profiles().map(|profile| format!("\n```text\n{}```", profile.table())));
        lines.join("\n") + "\n"
    }
}
