//! What to ask memory for while something else is read.
//!
//! Weights pass once, in runs of neighbouring panels. While a panel is read its share of the next
//! window is asked for, some 16 KB: in the same run, or where the next one begins. Lines are asked
//! for in four places of a window in turn, since four streams keep more loads under way than one
//! does, and come into the second level of the cache, which has room for them. When they are asked
//! for depends on the processor: evenly along the way, or some thirty at once ([`gathers`]).
#![allow(unsafe_code)] // hints to the processor

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__cpuid, _MM_HINT_T1, _mm_prefetch};
#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;
#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{Ordering, compiler_fence};

/// A window is as many panels, a power of two, as have this many bytes.
const WINDOW: usize = 12 << 10;

/// Where in a window the next lines are asked for, in turn.
const PLACES: usize = 4;

/// Bytes of a line of the cache.
pub(crate) const LINE: usize = 64;

/// Whether one token's stream runs quicker where some thirty lines are asked for at once, as it
/// does on AMD's processors with AVX-512 (measured on Zen 4); in Intel's they fill the queue of
/// misses, and it halves.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn gathers() -> bool {
    static GATHERS: LazyLock<bool> = LazyLock::new(|| {
        let vendor = __cpuid(0);
        let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        name.as_flattened() == b"AuthenticAMD" && is_x86_feature_detected!("avx512f")
    });
    *GATHERS
}

/// A window, and the first of its lines that was not asked for.
#[derive(Clone, Copy)]
pub struct Ahead<'a> {
    window: &'a [u8],
    first: usize,
}

impl<'a> Ahead<'a> {
    /// A window of which so many bytes were asked for.
    pub(crate) fn new(window: &'a [u8], asked: usize) -> Self {
        Self { window, first: asked / LINE }
    }

    /// Asks for the next lines, here and now: a compiler does not gather them elsewhere.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn ask(&mut self, lines: usize) {
        for i in self.first..self.first + lines {
            let line = self.window.as_ptr().wrapping_add(place(self.window.len(), i));
            // SAFETY: a hint, which every processor of this architecture takes for any address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
        }
        self.first += lines;
        compiler_fence(Ordering::SeqCst);
    }
}

/// Where in so many bytes the line lies that is the i-th of them to be asked for.
#[inline(always)]
pub(crate) fn place(bytes: usize, i: usize) -> usize {
    let part = bytes.div_ceil(PLACES * LINE) * LINE;
    i % PLACES * part + i / PLACES * LINE
}

/// For each panel of a run what it asks for: its share of the window after its own.
pub(crate) fn each<'a>(
    size: usize,
    run: &'a [u8],
    next: &'a [u8],
) -> impl Iterator<Item = Ahead<'a>> {
    let window = WINDOW.div_ceil(size).next_power_of_two() * size;
    (0..run.len() / size).map(move |panel| {
        let at = panel * size;
        let behind = run.get(at / window * window + window..).unwrap_or(&[]);
        let after = [behind, next].into_iter().find(|bytes| !bytes.is_empty()).unwrap_or(run);
        Ahead::new(&after[..after.len().min(window)], at % window)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of the lines that are asked for while a run is read.
    fn asked(size: usize, run: &[u8], next: &[u8]) -> Vec<usize> {
        each(size, run, next)
            .flat_map(|ahead| {
                let lines = ahead.first..ahead.first + size / LINE;
                lines.map(move |i| ahead.window.as_ptr().addr() + place(ahead.window.len(), i))
            })
            .collect()
    }

    #[test]
    fn every_line_is_asked_for_once_a_window_before_it_is_read() {
        for (size, panels) in [(6_912, 16), (10_112, 4), (18_432, 5), (36_864, 1)] {
            let bytes = vec![0; size * (panels + 4)];
            let (run, next) = bytes.split_at(size * panels);
            let mut lines = asked(size, run, next);
            assert_eq!(lines.len(), run.len() / LINE);
            lines.sort_unstable();
            lines.dedup();
            let window = WINDOW.div_ceil(size).next_power_of_two() * size;
            let expected = (window..window + run.len()).step_by(LINE);
            let missing = expected.filter(|at| !lines.contains(&(run.as_ptr().addr() + at)));
            assert_eq!(missing.count(), 0, "panels of {size} bytes");
        }
    }

    #[test]
    fn before_the_end_a_run_asks_for_nothing_else() {
        let run = vec![0; 4 * 18_432];
        let bounds = run.as_ptr_range();
        for line in asked(18_432, &run, &[]) {
            assert!((bounds.start.addr()..bounds.end.addr()).contains(&line));
        }
    }
}
