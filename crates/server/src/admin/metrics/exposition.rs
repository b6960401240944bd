//! Exposition: Prometheus' text format, version 0.0.4.
//!
//! ```text
//! # HELP name what it is
//! # TYPE name gauge
//! name{label="value"} 1
//! ```

use std::fmt::Write as _;

use qwire_engine::Histogram;
use qwire_engine::stats::BUCKETS;

/// What the format is called in a header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page(pub String);

/// Names and values of a sample's labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// A figure that only grows, by its labels.
    pub fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, u64)>,
    ) {
        self.head(name, "counter", help);
        rows.into_iter().for_each(|(labels, sum)| self.sample(name, "", &labels, sum as f64));
    }

    /// A figure that only grows.
    pub fn counter(&mut self, name: &str, help: &str, sum: u64) {
        self.counters(name, help, [(Vec::new(), sum)]);
    }

    /// A figure of this moment.
    pub fn gauge(&mut self, name: &str, help: &str, labels: Labels, value: f64) {
        self.head(name, "gauge", help);
        self.sample(name, "", labels, value);
    }

    /// Times by size.
    pub fn histogram(&mut self, name: &str, help: &str, times: &Histogram) {
        self.head(name, "histogram", help);
        let mut below = 0;
        for (at, count) in times.counts.iter().enumerate() {
            below += count;
            let bound = BUCKETS.get(at).map_or("+Inf".into(), ToString::to_string);
            self.sample(name, "_bucket", &[("le", &bound)], below as f64);
        }
        self.sample(name, "_sum", &[], times.sum);
        self.sample(name, "_count", &[], below as f64);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // A String takes everything.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: Labels, value: f64) {
        let escaped = |text: &str| {
            text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").replace('\r', " ")
        };
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels: Vec<String> = labels.iter().map(label).collect();
        let labels = match labels.join(",") {
            none if none.is_empty() => none,
            some => format!("{{{some}}}"),
        };
        let _ = writeln!(self.0, "{name}{suffix}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_the_format_has_them() {
        let mut page = Page::default();
        page.gauge("a", "One.", &[("b", "c\\\"\n"), ("d", "")], 0.5);
        page.counter("e_total", "Two.", 12_345_678_901);
        let expected = "# HELP a One.\n# TYPE a gauge\na{b=\"c\\\\\\\"\\n\",d=\"\"} 0.5\n\
                        # HELP e_total Two.\n# TYPE e_total counter\ne_total 12345678901\n";
        assert_eq!(page.0, expected);
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut times = Histogram { sum: 301.0, ..Histogram::default() };
        (times.counts[1], times.counts[BUCKETS.len()]) = (2, 1);
        let mut page = Page::default();
        page.histogram("t", "Times.", &times);
        let rows: Vec<&str> = page.0.lines().skip(2).collect();
        assert_eq!(rows[..2], ["t_bucket{le=\"0.001\"} 0", "t_bucket{le=\"0.0025\"} 2"]);
        let last = ["t_bucket{le=\"300\"} 2", "t_bucket{le=\"+Inf\"} 3", "t_sum 301", "t_count 3"];
        assert_eq!(rows[BUCKETS.len() - 1..], last);
    }
}
