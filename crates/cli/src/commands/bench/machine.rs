//! Machine: what it calls itself, and what it gives at most while we look.

use std::fs;

use qwire_backend_cpu::limits::{Products, Stream};
use qwire_backend_cpu::pool::Pool;
use qwire_kernels::Isa;

use crate::failure::{Failure, one_line};
use crate::memory;

/// Memory that is read to learn its speed, if half of what is available is that much.
const STREAM_BYTES: u64 = 1 << 30;

/// The processor's name; none where the system does not say.
pub fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    let words: Vec<_> = line.trim_start_matches([' ', '\t', ':']).split_whitespace().collect();
    Some(one_line(&words.join(" ")))
}

/// Bytes of memory in all.
pub fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits, as often as they were measured.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// 10⁹ bytes per second, before the trials and after them.
    pub read_gb_s: Vec<f64>,
    /// 10⁹ operations per second, likewise.
    pub dot_gop_s: Vec<f64>,
    /// How much memory was read.
    pub stream_bytes: usize,
    /// The format whose tile was the quickest.
    pub format: &'static str,
}

impl Reach {
    /// Measures once more.
    pub fn measure(&mut self, threads: usize, isa: Isa) -> Result<(), Failure> {
        let fault = |what: &str, error| Failure::new(format!("limits: {what}: {error}"));
        let pool = Pool::new(threads).map_err(|error| fault("threads", error))?;
        let half = memory::available().map_or(u64::MAX, |bytes| bytes / 2);
        let bytes = usize::try_from(half.min(STREAM_BYTES)).unwrap_or(1 << 30);
        let stream = Stream::open(bytes, &pool)
            .map_err(|error| fault("memory to read", error).hint("try it with --no-limits"))?;
        self.read_gb_s.push(stream.gb_s(&pool));
        self.stream_bytes = stream.bytes();
        drop(stream);
        let products = Products::measure(&pool, isa);
        if self.dot_gop_s.iter().all(|other| products.gop_s > *other) {
            self.format = products.format;
        }
        self.dot_gop_s.push(products.gop_s);
        Ok(())
    }

    /// The larger of the bandwidths; none where nothing was measured.
    pub fn read(&self) -> Option<f64> {
        self.read_gb_s.iter().copied().reduce(f64::max)
    }

    /// The larger of the rates of products.
    pub fn dot(&self) -> Option<f64> {
        self.dot_gop_s.iter().copied().reduce(f64::max)
    }
}
