//! Plot: speed against depth as an SVG, one panel for prompts and one for answers.
//!
//! A line joins the medians, a band spans the slowest to the quickest sample, and in the panel of
//! answers a dashed line is what reading alone would allow.

use std::fmt::Write as _;

use super::report::{Report, Series};
use super::trial::{Kind, Measured};

const WIDTH: f64 = 760.0;
const HEAD: f64 = 64.0;
const PANEL: f64 = 270.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 570.0;
const INNER: f64 = 190.0;
const LABEL: f64 = 46.0;
const COLOURS: [&str; 6] = ["#1f6f8b", "#d1603d", "#5b8c3e", "#7a4f9a", "#b08a1e", "#444b54"];

/// A curve: one test with one number of threads.
struct Curve<'a> {
    label: String,
    points: Vec<(&'a Measured, Option<f64>)>, // by depth, with the limit at each
}

/// The drawing.
pub fn svg(report: &Report) -> String {
    let panels: Vec<_> = [(Kind::Prefill, "Reading a prompt"), (Kind::Decode, "Answering")]
        .into_iter()
        .map(|(kind, title)| (title, curves(report, kind)))
        .filter(|panel| !panel.1.is_empty())
        .collect();
    let height = HEAD + PANEL * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" \
         fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let cpu = report.cpu.as_deref().unwrap_or("an unknown processor");
    let together = match report.parallel {
        1 => String::new(),
        n => format!(", {n} sequences together"),
    };
    text(&mut out, (LEFT, 26.0), "start", 16.0, &report.model);
    let line = format!("{cpu}{} · {} cache{together}", report.device(), report.kv);
    text(&mut out, (LEFT, 46.0), "start", 12.0, &line);
    for (at, (title, curves)) in panels.iter().enumerate() {
        panel(&mut out, HEAD + PANEL * at as f64, title, curves);
    }
    out + "</svg>\n"
}

fn curves(report: &Report, kind: Kind) -> Vec<Curve<'_>> {
    let several = report.series.len() > 1;
    let mut curves: Vec<Curve> = Vec::new();
    for series in &report.series {
        for measured in series.measured.iter().filter(|measured| measured.trial.kind == kind) {
            let place = if several { format!(", {}", series.place()) } else { String::new() };
            let label = format!("{} {}{place}", kind.name(), measured.trial.n);
            let point = (measured, limit(series, measured));
            match curves.iter_mut().find(|curve| curve.label == label) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve { label, points: vec![point] }),
            }
        }
    }
    curves.iter_mut().for_each(|curve| curve.points.sort_by_key(|point| point.0.trial.depth));
    curves
}

/// Tokens per second if all that must be read were read at the speed of memory.
fn limit(series: &Series, measured: &Measured) -> Option<f64> {
    let read = series.reach.read().filter(|_| measured.trial.kind == Kind::Decode)?;
    Some(read * 1e9 / measured.cost.bytes)
}

/// Where values are on the paper.
struct Axes {
    top: f64,
    deepest: f64,
    highest: f64,
}

impl Axes {
    fn x(&self, depth: usize) -> f64 {
        LEFT + (RIGHT - LEFT) * depth as f64 / self.deepest
    }

    fn y(&self, speed: f64) -> f64 {
        self.top + INNER * (1.0 - speed / self.highest)
    }

    fn path(&self, points: impl Iterator<Item = (usize, f64)>) -> String {
        let points = points.map(|(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y)));
        points.collect::<Vec<_>>().join(" ")
    }
}

fn panel(out: &mut String, top: f64, title: &str, curves: &[Curve]) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let mut depths: Vec<_> = points().map(|point| point.0.trial.depth).collect();
    depths.sort_unstable();
    depths.dedup();
    let highest = points().map(|point| point.1.unwrap_or(0.0).max(point.0.max()));
    let step = step(highest.fold(0.0, f64::max));
    let highest = points().map(|point| point.1.unwrap_or(0.0).max(point.0.max()));
    let rows = (highest.fold(0.0, f64::max) / step).ceil().max(1.0);
    let deepest = depths.last().copied().unwrap_or(0).max(1) as f64;
    let axes = Axes { top: top + 26.0, deepest, highest: rows * step };
    text(out, (LEFT, top + 12.0), "start", 13.0, title);
    text(out, (LEFT - 8.0, top + 12.0), "end", 11.0, "tok/s");
    for row in 0..=rows as usize {
        let value = row as f64 * step;
        let y = axes.y(value);
        let colour = if row == 0 { "#888" } else { "#e4e4e4" };
        line(out, (LEFT, y), (RIGHT, y), colour);
        let digits = usize::from(step < 1.0);
        text(out, (LEFT - 8.0, y + 4.0), "end", 11.0, &format!("{value:.digits$}"));
    }
    let mut free = f64::NEG_INFINITY;
    for depth in depths {
        let (x, y) = (axes.x(depth), axes.y(0.0));
        line(out, (x, y), (x, y + 4.0), "#888");
        if x >= free {
            let depth = crate::quantity::grouped(depth as u64);
            text(out, (x, y + 18.0), "middle", 11.0, &depth);
            free = x + LABEL;
        }
    }
    let below = axes.y(0.0) + 34.0;
    text(out, (f64::midpoint(LEFT, RIGHT), below), "middle", 11.0, "depth, tokens in the cache");
    for (at, curve) in curves.iter().enumerate() {
        self::curve(out, &axes, curve, COLOURS[at % COLOURS.len()]);
        let y = axes.top + 8.0 + 18.0 * at as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{:.0}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{}\"/>",
            RIGHT + 24.0,
            y - 6.0,
            COLOURS[at % COLOURS.len()]
        );
        text(out, (RIGHT + 44.0, y), "start", 12.0, &curve.label);
    }
    if points().any(|point| point.1.is_some()) {
        let y = axes.top + 8.0 + 18.0 * curves.len() as f64;
        text(out, (RIGHT + 24.0, y), "start", 11.0, "- -  if only reading");
        text(out, (RIGHT + 44.0, y + 14.0), "start", 11.0, "took time");
    }
}

fn curve(out: &mut String, axes: &Axes, curve: &Curve, colour: &str) {
    let points = &curve.points;
    let along = |of: fn(&Measured) -> f64| points.iter().map(move |p| (p.0.trial.depth, of(p.0)));
    let there = along(Measured::max);
    let back = along(Measured::min).collect::<Vec<_>>().into_iter().rev();
    let band = axes.path(there.chain(back));
    let _ = writeln!(out, "<polygon points=\"{band}\" fill=\"{colour}\" opacity=\"0.2\"/>");
    let median = axes.path(along(Measured::median));
    let stroke = format!("fill=\"none\" stroke=\"{colour}\"");
    let _ = writeln!(out, "<polyline points=\"{median}\" {stroke} stroke-width=\"2\"/>");
    let limits = axes.path(points.iter().filter_map(|p| Some((p.0.trial.depth, p.1?))));
    let dashes = "stroke-dasharray=\"4 4\" opacity=\"0.7\"";
    let _ = writeln!(out, "<polyline points=\"{limits}\" {stroke} {dashes}/>");
    for (measured, limit) in points {
        let x = axes.x(measured.trial.depth);
        line(out, (x, axes.y(measured.min())), (x, axes.y(measured.max())), colour);
        let y = axes.y(measured.median());
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        if let Some(limit) = limit {
            let y = axes.y(*limit);
            line(out, (x - 5.0, y), (x + 5.0, y), colour);
        }
    }
}

/// The distance of about five lines: 1, 2 or 5 and zeros.
fn step(highest: f64) -> f64 {
    let mut decade = 0.1;
    while decade * 50.0 < highest {
        decade *= 10.0;
    }
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|of| of * decade)
        .find(|step| highest <= step * 5.0)
        .unwrap_or(decade * 10.0)
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, size: f64, words: &str) {
    let words = crate::failure::one_line(words);
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" \
         font-size=\"{size}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_at_round_numbers() {
        let check = |highest, expected: f64| assert!((step(highest) - expected).abs() < 1e-9);
        check(0.3, 0.1);
        check(4.9, 1.0);
        check(9.0, 2.0);
        check(37.0, 10.0);
        check(430.0, 100.0);
    }

    #[test]
    fn words_are_escaped() {
        let mut out = String::new();
        text(&mut out, (1.0, 2.0), "start", 12.0, "<a & b>");
        assert!(out.ends_with(">&lt;a &amp; b&gt;</text>\n"), "{out}");
    }
}
