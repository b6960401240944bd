//! Counters: what Nsight Compute says of the kernels that take longest.

use crate::parts::Part;

/// What it is asked: shares of the most that memory and arithmetic can do, and the time.
pub const METRICS: [&str; 3] = [
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__time_duration.sum",
];
/// Kernels that are looked at.
pub const KERNELS: usize = 3;

/// The kernels of a profile that took most of its time, as one pattern.
pub fn slowest(part: &Part) -> String {
    let list = part.json();
    let profile = list.as_array().into_iter().flatten().find(|row| row["test"] == "profile");
    let kernels = profile.and_then(|profile| profile["kernels"].as_array());
    let mut kernels: Vec<_> = kernels.into_iter().flatten().collect();
    kernels.sort_by(|a, b| {
        let seconds = |kernel: &serde_json::Value| kernel["seconds"].as_f64().unwrap_or(0.0);
        seconds(b).total_cmp(&seconds(a))
    });
    let names = kernels.iter().filter_map(|kernel| kernel["kernel"].as_str());
    names.take(KERNELS).collect::<Vec<_>>().join("|")
}

/// What was counted of one kernel, on average over its launches.
#[derive(Clone, PartialEq, Debug)]
pub struct Counted {
    pub kernel: String,
    pub launches: usize,
    /// In the order of [`METRICS`].
    pub values: [f64; METRICS.len()],
}

/// Everything in a table of commas, of which the first row names the columns and the second their
/// units; the kernel that took longest comes first. What the program says of itself is passed over.
/// Nothing is there in units that are not expected.
pub fn counted(text: &str) -> Vec<Counted> {
    let lines = text.lines().map(str::trim_end);
    let rows = lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    let mut rows = rows.map(|line| line.split("\",\"").collect::<Vec<_>>());
    let header = rows.next().unwrap_or_default();
    let column = |name: &str| header.iter().position(|other| *other == name);
    let columns = METRICS.map(column);
    let mut all: Vec<Counted> = Vec::new();
    let units = rows.next().unwrap_or_default();
    let unit = |at: usize| columns[at].and_then(|at| units.get(at)).copied().unwrap_or_default();
    if [unit(0), unit(1)] != ["%", "%"] || !["ns", "nsecond"].contains(&unit(2)) {
        return all;
    }
    for row in rows {
        let Some(kernel) = column("Kernel Name").and_then(|at| row.get(at)) else { continue };
        // A name may come with its arguments.
        let kernel = kernel.split('(').next().unwrap_or_default();
        let number = |at: Option<usize>| row.get(at?)?.replace(',', "").parse::<f64>().ok();
        let values = columns.map(|at| number(at).unwrap_or(f64::NAN));
        let at = all.iter().position(|counted| counted.kernel == kernel);
        let at = at.unwrap_or_else(|| {
            let kernel = kernel.to_string();
            all.push(Counted { kernel, launches: 0, values: [0.0; METRICS.len()] });
            all.len() - 1
        });
        all[at].launches += 1;
        all[at].values.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    for Counted { launches, values, .. } in &mut all {
        values.iter_mut().for_each(|value| *value /= *launches as f64);
    }
    all.sort_by(|a, b| b.values[2].total_cmp(&a.values[2]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_make_a_pattern() {
        let kernel =
            |name: &str, seconds: f64| serde_json::json!({ "kernel": name, "seconds": seconds });
        let kernels = [("a", 1.0), ("b", 3.0), ("c", 0.5), ("d", 2.0)].map(|(n, s)| kernel(n, s));
        let list = serde_json::json!([{ "test": "tg" }, { "test": "profile", "kernels": kernels }]);
        let part = Part { out: list.to_string(), ..Part::default() };
        assert_eq!(slowest(&part), "b|d|a");
        assert_eq!(slowest(&Part::default()), "");
    }

    #[test]
    fn launches_of_a_kernel_are_averaged() {
        let [memory, arithmetic, time] = METRICS;
        let text = format!(
            "==PROF== Connected\n\"ID\",\"Kernel Name\",\"{time}\",\"{memory}\",\"{arithmetic}\"\n\
             \"\",\"\",\"ns\",\"%\",\"%\"\n\"0\",\"one(Args)\",\"1,000\",\"50\",\"10\"\n\
             \"1\",\"two\",\"9,000\",\"80.5\",\"20\"\n\"2\",\"one(Args)\",\"3,000\",\"70\",\"30\"\n"
        );
        let found = counted(&text);
        let one =
            |kernel: &str, launches, values| Counted { kernel: kernel.into(), launches, values };
        let expected = [one("two", 1, [80.5, 20.0, 9000.0]), one("one", 2, [60.0, 20.0, 2000.0])];
        assert_eq!(found, expected);
        assert_eq!(counted(&text.replace("\"ns\"", "\"nsecond\"")), expected);
        assert_eq!(counted(&text.replace("\"ns\"", "\"us\"")), []);
        assert_eq!(counted("==ERROR== no permission\n"), []);
    }
}
