//! Table: what a run of `tools/gpu-run.sh` found. Its rows are known before anything has run: what
//! failed, was late or was left out says so in its own row.

use std::fmt::Write;

use serde_json::Value;

use crate::counters::{self, Counted};
use crate::parts::{Part, Parts};

/// The cosine to the CPU's logits that is expected at full shape.
const COSINE: f64 = 0.999;
/// Contracts that the small model is put to; other parts do as much as the rest at full shape.
const CONTRACTS: [&str; 3] = ["gpu-device", "gpu-forward", "gpu-memory"];
/// Ways of computing, and what their hashes say.
const WAYS: [&str; 5] =
    ["again", "once more", "prompt in chunks", "beside others", "without graphs"];
/// An RTX 4090: 10⁹ bytes a second, what share of them was ever seen, and what others measured for
/// each node of a graph.
const BANDWIDTH_GB_S: f64 = 1008.0;
const SHARE: f64 = 0.91;
const NODE_SECONDS: f64 = 1.3e-6;
/// What a device is called that is none.
const STAND_IN: &str = "in place of a card";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Order {
    pub depths: Vec<u64>,
    pub prompts: Vec<u64>,
    /// Whether the machine has no card, and nothing here is a measurement.
    pub rehearsed: bool,
}

/// One row.
#[derive(Debug, PartialEq)]
pub struct Row {
    pub what: String,
    pub found: String,
    pub verdict: &'static str,
}

impl Row {
    fn of(what: impl Into<String>, found: impl Into<String>, verdict: &'static str) -> Self {
        Self { what: what.into(), found: found.into(), verdict }
    }

    /// A row that has what a part found, or why there is nothing.
    fn from(what: impl Into<String>, part: &Part, found: Option<(String, &'static str)>) -> Self {
        let (what, why) = (what.into(), part.why.as_str());
        match (found, part.word.as_str()) {
            (Some((found, verdict)), _) => Self::of(what, found, verdict),
            (None, "ok") => Self::of(what, "nothing was said of it", "FAILED"),
            (None, "failed") => Self::of(what, why, "FAILED"),
            (None, "late") => Self::of(what, why, "late"),
            (None, _) => Self::of(what, why, "skipped"),
        }
    }
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key)?.as_f64()
}

/// The object of a list that has these values.
fn find<'a>(list: &'a Value, wanted: &[(&str, Value)]) -> Option<&'a Value> {
    let fits = |object: &&Value| wanted.iter().all(|(key, value)| object.get(key) == Some(value));
    list.as_array()?.iter().find(fits)
}

fn verdict(holds: bool) -> &'static str {
    if holds { "ok" } else { "FAILED" }
}

/// Everything that a run found.
pub struct Table<'a> {
    pub parts: &'a Parts,
    pub order: Order,
}

impl Table<'_> {
    /// Whether it is a rehearsal, by its flag or by the device's own name.
    pub fn is_rehearsed(&self) -> bool {
        self.order.rehearsed || self.device().0.contains(STAND_IN)
    }

    /// The device in its own words, and a copy's speed in its memory.
    fn device(&self) -> (String, Option<f64>) {
        let rows = self.parts.get("device").json();
        let text = rows[0]["device"].as_str().unwrap_or("no device").to_string();
        (text, number(&rows[0], "read_gb_s"))
    }

    /// All rows.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = self.start();
        rows.extend(self.contracts());
        for tool in ["memcheck", "racecheck"] {
            let part = self.parts.get(tool);
            let found = part.is_ok().then(|| ("no fault".into(), "ok"));
            rows.push(Row::from(format!("compute-sanitizer {tool}"), &part, found));
        }
        rows.push(self.cosine());
        rows.extend(self.bits());
        rows.extend(self.speeds());
        rows.push(self.nodes());
        rows.extend(self.counters());
        rows.extend(self.peers());
        rows.extend(self.projections());
        rows
    }

    fn start(&self) -> Vec<Row> {
        let part = self.parts.get("device");
        let (device, copy) = self.device();
        let device = part.is_ok().then_some((device, "ok"));
        let copy = copy.map(|copy| (format!("{copy:.1} GB/s read and written"), "measured"));
        let model = self.parts.get("model");
        let written = model.is_ok().then(|| {
            let bytes = model.out.trim().parse().unwrap_or(0.0_f64);
            (format!("{:.2} GB in {} s", bytes / 1e9, model.seconds), "ok")
        });
        vec![
            Row::from("device", &part, device),
            Row::from("copy in its memory", &part, copy),
            Row::from("synthetic model", &model, written),
        ]
    }

    /// A small model against the definition in f64.
    fn contracts(&self) -> Vec<Row> {
        let part = self.parts.get("contracts");
        let row = |id: &&str| {
            let mut lines = part.out.lines();
            let line = lines.find(|line| line.split_whitespace().nth(1) == Some(id));
            let said = lines.next().map(|said| said.trim().to_string());
            let found = line.and_then(|line| Some((said?, line.split_whitespace().next()?)));
            let found = found.map(|(said, word)| match word {
                "pass" => (said, "ok"),
                "skip" => (said, "skipped"),
                _ => (said, "FAILED"),
            });
            Row::from(format!("small model, {id}"), &part, found)
        };
        CONTRACTS.iter().map(row).collect()
    }

    /// The full shape against the CPU.
    fn cosine(&self) -> Row {
        let part = self.parts.get("cosine");
        let found = cosine(&part.out).map(|least| {
            (format!("{least:.8} at the least of 64 positions"), verdict(least >= COSINE))
        });
        let what = format!("full shape, cosine to the CPU's logits, at least {COSINE}");
        Row::from(what, &part, found)
    }

    /// Hashes of all logits.
    fn bits(&self) -> Vec<Row> {
        let part = self.parts.get("bits");
        let hashes = part.json();
        let hash = |name: &str| find(&hashes, &[("name", name.into())])?["sha256"].as_str();
        let first = hash("alone");
        let row = |way: &&str| {
            let found = first.zip(hash(way)).map(|(first, other)| {
                let (a, b) = (&first[..12], &other[..12]);
                (format!("{a} and {b}"), verdict(first == other))
            });
            Row::from(format!("bits, alone and {way}"), &part, found)
        };
        WAYS.iter().map(row).collect()
    }

    fn trial(&self, test: &str, n: Option<u64>, depth: u64) -> (Part, Option<Value>) {
        let prefill = test == "pp";
        let name = if prefill { "prefill".into() } else { format!("decode-{depth}") };
        let part = self.parts.get(&name);
        let mut wanted = vec![("test", test.into()), ("depth", depth.into())];
        wanted.extend(n.map(|n| ("n", n.into())));
        let row = find(&part.json(), &wanted).cloned();
        (part, row)
    }

    fn speeds(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let shown = |row: &Value| {
            let [median, min, max] = ["median", "min", "max"].map(|key| number(row, key));
            let (gb_s, copy) = (number(row, "gb_s")?, number(row, "read_gb_s"));
            let share = copy.map_or_else(String::new, |copy| {
                format!(", {gb_s:.0} GB/s, {:.0} % of a copy", 100.0 * gb_s / copy)
            });
            let text = format!("{:.1} tok/s ({:.1} – {:.1}){share}", median?, min?, max?);
            Some((text, "measured"))
        };
        for depth in &self.order.depths {
            let (part, row) = self.trial("tg", None, *depth);
            let found = row.as_ref().and_then(shown);
            rows.push(Row::from(format!("decode at depth {depth}"), &part, found));
        }
        for n in &self.order.prompts {
            let (part, row) = self.trial("pp", Some(*n), 0);
            let found = row.as_ref().and_then(shown);
            rows.push(Row::from(format!("prefill of {n}"), &part, found));
        }
        rows
    }

    /// The profile of decoding at some depth.
    fn profile(&self, depth: u64) -> Option<Value> {
        self.trial("profile", None, depth).1
    }

    fn nodes(&self) -> Row {
        let first = self.order.depths.first().copied().unwrap_or(0);
        let (part, profile) = self.trial("profile", None, first);
        // The first depth has its part under the name of decoding.
        let found = profile.as_ref().and_then(|profile| {
            let (layer, step) =
                (number(profile, "nodes_per_layer")?, number(profile, "launches_per_step")?);
            Some((format!("{layer:.1}, {step:.0} a token"), "measured"))
        });
        Row::from("nodes a layer", &part, found)
    }

    /// What Nsight Compute counted of the slowest kernels.
    fn counters(&self) -> Vec<Row> {
        let part = self.parts.get("ncu");
        let counted = counters::counted(&part.out);
        let row = |at: usize| {
            let found = counted.get(at).map(|Counted { kernel, launches, values }| {
                let [memory, arithmetic, nanoseconds] = values;
                let times = format!("{:.1} µs each of {launches}", nanoseconds / 1e3);
                let shares =
                    format!("{memory:.0} % of memory's peak, {arithmetic:.0} % of arithmetic's");
                (format!("{kernel}: {shares}, {times}"), "measured")
            });
            Row::from(format!("ncu, the slowest kernels: {}", at + 1), &part, found)
        };
        (0..counters::KERNELS).map(row).collect()
    }

    /// llama.cpp, the same file.
    fn peers(&self) -> Vec<Row> {
        let part = self.parts.get("llama");
        let list = part.json();
        let shown = |row: &Value, ours: Option<Value>| {
            let theirs = number(row, "avg_ts")?;
            let ours = ours.and_then(|row| number(&row, "median"));
            let ratio =
                ours.map_or_else(String::new, |ours| format!(", ours {:.2} of it", ours / theirs));
            Some((format!("{theirs:.1} tok/s{ratio}"), "measured"))
        };
        let mut rows = Vec::new();
        for depth in &self.order.depths {
            let found = find(&list, &[("n_prompt", 0.into()), ("n_depth", (*depth).into())]);
            let found = found.and_then(|row| shown(row, self.trial("tg", None, *depth).1));
            rows.push(Row::from(format!("llama.cpp, decode at depth {depth}"), &part, found));
        }
        for n in &self.order.prompts {
            let found = find(&list, &[("n_prompt", (*n).into()), ("n_depth", 0.into())]);
            let found = found.and_then(|row| shown(row, self.trial("pp", Some(*n), 0).1));
            rows.push(Row::from(format!("llama.cpp, prefill of {n}"), &part, found));
        }
        rows
    }

    /// What an RTX 4090 would do with as many bytes and nodes.
    fn projections(&self) -> Vec<Row> {
        let row = |depth: &u64| {
            let (part, trial) = self.trial("tg", None, *depth);
            let found = trial.zip(self.profile(*depth)).and_then(|(trial, profile)| {
                let bytes = number(&trial, "bytes_per_token")?;
                let nodes = number(&profile, "launches_per_step")?;
                let seconds = projected(bytes, nodes);
                let text = format!(
                    "{:.0} tok/s from {:.3} GB and {nodes:.0} nodes",
                    1.0 / seconds,
                    bytes / 1e9
                );
                Some((text, "projected, not measured"))
            });
            Row::from(format!("RTX 4090, decode at depth {depth}"), &part, found)
        };
        self.order.depths.iter().map(row).collect()
    }

    /// Every kernel of every profile.
    fn kernels(&self) -> String {
        let mut text = String::new();
        let decode = self.order.depths.iter().map(|depth| format!("decode-{depth}"));
        for name in decode.chain(["prefill".into()]) {
            let part = self.parts.get(&name);
            let list = part.json();
            let rows = list.as_array().into_iter().flatten();
            for profile in rows.filter(|row| row["test"] == "profile") {
                let (of, n) = (profile["of"].as_str().unwrap_or(""), &profile["n"]);
                let (depth, steps) = (&profile["depth"], number(profile, "steps").unwrap_or(1.0));
                let copy = number(profile, "copy_gb_s").unwrap_or(f64::NAN);
                // A String takes everything.
                let _ = writeln!(
                    text,
                    "\nKernels of {of} {n} at depth {depth}, beside a copy of {copy:.1} GB/s:\n"
                );
                let _ =
                    writeln!(text, "| kernel | a step | µs each | KB each | GB/s | of the copy |");
                let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|");
                for kernel in profile["kernels"].as_array().into_iter().flatten() {
                    let value = |key| number(kernel, key).unwrap_or(f64::NAN);
                    let (calls, gb_s) = (value("calls"), value("gb_s"));
                    let _ = writeln!(
                        text,
                        "| {} | {:.1} | {:.2} | {:.1} | {gb_s:.1} | {:.0} % |",
                        kernel["kernel"].as_str().unwrap_or("?"),
                        calls / steps,
                        value("seconds") / calls * 1e6,
                        value("bytes") / calls / 1e3,
                        100.0 * gb_s / copy
                    );
                }
            }
        }
        text
    }

    /// The page.
    pub fn page(&self, date: &str) -> String {
        let rehearsed = self.is_rehearsed();
        let title = if rehearsed { "Rehearsal" } else { "Measured" };
        let mut text = format!("# {title} on {}, {date}\n\n", self.device().0);
        if rehearsed {
            text += "**A rehearsal: the kernels ran on the CPU. No number on this page says \
                     anything of a card; all it shows is that the script runs.**\n\n";
        }
        text += "| what | found | verdict |\n|---|---|---|\n";
        for Row { what, found, verdict } in self.rows() {
            let found = found.replace('|', "\\|");
            let verdict = match verdict {
                "measured" if rehearsed => "rehearsed",
                "projected, not measured" if rehearsed => "rehearsed, projected",
                verdict => verdict,
            };
            let _ = writeln!(text, "| {what} | {found} | {verdict} |");
        }
        text + &self.kernels()
    }

    /// How many rows failed.
    pub fn failures(&self) -> usize {
        self.rows().iter().filter(|row| row.verdict == "FAILED").count()
    }
}

/// Seconds of a token on an RTX 4090.
fn projected(bytes: f64, nodes: f64) -> f64 {
    bytes / (SHARE * BANDWIDTH_GB_S * 1e9) + nodes * NODE_SECONDS
}

/// The least cosine that `qwire verify` printed.
fn cosine(printed: &str) -> Option<f64> {
    let (_, rest) = printed.split_once("least cosine ")?;
    let (_, rest) = rest.split_once(": ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn part(name: &str, outcome: (&str, &str), out: &(impl ToString + ?Sized)) -> Part {
        let (word, why) = outcome;
        Part {
            name: name.into(),
            word: word.into(),
            why: why.into(),
            out: out.to_string(),
            ..Part::default()
        }
    }

    fn order() -> Order {
        Order { depths: vec![128, 4096], prompts: vec![512], rehearsed: false }
    }

    fn row(parts: Vec<Part>, what: &str) -> (String, &'static str) {
        let parts = Parts(parts);
        let table = Table { parts: &parts, order: order() };
        let row = table.rows().into_iter().find(|row| row.what == what).expect("a row");
        (row.found, row.verdict)
    }

    #[test]
    fn every_row_is_there_whatever_ran() {
        let parts = Parts(Vec::new());
        let table = Table { parts: &parts, order: order() };
        let rows = table.rows();
        assert!(rows.iter().all(|row| (&*row.found, row.verdict) == ("it was not run", "skipped")));
        assert_eq!(rows.len(), 3 + 3 + 2 + 1 + 5 + 3 + 1 + 3 + 3 + 2);
        assert_eq!((table.failures(), table.page("today").lines().count()), (0, rows.len() + 4));
    }

    #[test]
    fn what_failed_or_was_late_says_so() {
        let failed = part("cosine", ("failed", "exit status 1: error: no room"), "");
        let what = "full shape, cosine to the CPU's logits, at least 0.999";
        assert_eq!(row(vec![failed], what), ("exit status 1: error: no room".into(), "FAILED"));
        let late = part("decode-4096", ("late", "after 60 s"), "");
        assert_eq!(row(vec![late], "decode at depth 4096"), ("after 60 s".into(), "late"));
        let silent = part("device", ("ok", ""), "[]");
        assert_eq!(row(vec![silent], "copy in its memory").1, "FAILED");
    }

    #[test]
    fn cosines_and_hashes_are_judged() {
        let said = "pass   gpu-cpu          1.00 s  A claim.\n      \
                    least cosine ≥ 0.99, aim 0.999: 0.99912 · most missed lead ≤ 0.1: 0\n";
        let what = "full shape, cosine to the CPU's logits, at least 0.999";
        assert_eq!(row(vec![part("cosine", ("ok", ""), said)], what).1, "ok");
        let low = said.replace("0.99912", "0.998");
        assert_eq!(row(vec![part("cosine", ("ok", ""), &low)], what).1, "FAILED");
        let contracts = part("contracts", ("ok", ""), &said.replace("gpu-cpu", "gpu-forward"));
        assert_eq!(row(vec![contracts], "small model, gpu-forward").1, "ok");
        let hash = |name: &str, sha256: &str| json!({ "name": name, "sha256": sha256 });
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let hashes = json!([hash("alone", &a), hash("again", &a), hash("without graphs", &b)]);
        let bits = part("bits", ("failed", "exit status 1"), &hashes);
        assert_eq!(row(vec![bits.clone()], "bits, alone and again").1, "ok");
        assert_eq!(row(vec![bits.clone()], "bits, alone and without graphs").1, "FAILED");
        assert_eq!(row(vec![bits], "bits, alone and beside others").1, "FAILED");
    }

    #[test]
    fn speeds_stand_beside_peers_and_a_projection() {
        let list = json!([
            { "test": "tg", "n": 64, "depth": 128, "median": 200.0, "min": 190.0, "max": 210.0,
              "gb_s": 380.0, "read_gb_s": 760.0, "bytes_per_token": 1.9e9 },
            { "test": "profile", "of": "tg", "n": 8, "depth": 128, "steps": 8,
              "launches_per_step": 578.0, "nodes_per_layer": 12.0, "copy_gb_s": 760.0,
              "kernels": [{ "kernel": "norm_rows", "calls": 776, "seconds": 1e-3, "bytes": 1,
                            "gb_s": 76.0 }] }
        ]);
        let ours = part("decode-128", ("ok", ""), &list);
        let peer = json!([{ "n_prompt": 0, "n_depth": 128, "avg_ts": 160.0 }]);
        let parts = || vec![ours.clone(), part("llama", ("ok", ""), &peer)];
        let found = row(parts(), "decode at depth 128");
        let expected = "200.0 tok/s (190.0 – 210.0), 380 GB/s, 50 % of a copy";
        assert_eq!(found, (expected.into(), "measured"));
        assert_eq!(row(parts(), "nodes a layer").0, "12.0, 578 a token");
        let found = row(parts(), "llama.cpp, decode at depth 128").0;
        assert_eq!(found, "160.0 tok/s, ours 1.25 of it");
        let found = row(parts(), "RTX 4090, decode at depth 128");
        assert_eq!(found.0, "354 tok/s from 1.900 GB and 578 nodes");
        assert_eq!(found.1, "projected, not measured");
        let parts = Parts(parts());
        let page = Table { parts: &parts, order: order() }.page("today");
        assert!(page.contains("| norm_rows | 97.0 | 1.29 | 0.0 | 76.0 | 10 % |"), "{page}");
    }

    #[test]
    fn a_stand_in_is_never_a_measurement() {
        let device = json!([{ "device": "cuda:0 CPU in place of a card, 9 GB" }]);
        let parts = Parts(vec![part("device", ("ok", ""), &device)]);
        let table = Table { parts: &parts, order: order() };
        assert!(table.page("today").starts_with("# Rehearsal on "));
    }
}
