//! Speed, memory and the device: what a run takes, and where it ran.

use std::fs;
use std::time::Instant;

use qwire_engine::Table;

use super::super::contract::{Place, Samples};
use super::super::faults::Fault;
use super::super::subject::{Desk, Size, Subject, best};
use super::{Measured, no_device, put};
use crate::backend::Device;
use crate::failure::Failure;
use crate::memory::{self, MARGIN_BYTES};

pub const SPEED: &[&str] = &["prefill", "decode", "times_cpu"];

/// Tokens that are read.
const PROMPT: usize = 520;
/// Tokens that are written at a time, and how often.
const WRITTEN: usize = 16;
const ROUNDS: usize = 4;

/// Tokens per second, of a prompt and of answers.
fn measure(subject: &Subject<'_>, device: &Device) -> Result<(f64, Vec<f64>), Failure> {
    let size = Size { rows: PROMPT, positions: PROMPT + WRITTEN * (ROUNDS + 1) };
    let mut desk = Desk::new(subject.runner(device, size)?, subject.interrupt);
    let (prompt, mut table) = (subject.tokens(PROMPT), Table::default());
    // The first step touches memory for the first time.
    desk.extend(&mut table, &prompt, (PROMPT, false))?;
    desk.pages.truncate(&mut table, 0);
    let started = Instant::now();
    let mut logits = desk.extend(&mut table, &prompt, (PROMPT, false))?;
    let prefill = PROMPT as f64 / started.elapsed().as_secs_f64();
    let mut decode = Vec::new();
    // A fault shows in one round.
    for _ in 0..if subject.fault.is_some() { 1 } else { ROUNDS } {
        let started = Instant::now();
        for _ in 0..WRITTEN {
            let token = best(&logits);
            logits = desk.extend(&mut table, &[token], (1, true))?;
        }
        decode.push(WRITTEN as f64 / started.elapsed().as_secs_f64());
    }
    Ok((prefill, decode))
}

/// Prefill and decode apart; a GPU beside the CPU.
pub fn speed(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let Some(device) = subject.device_of_contract() else { return Ok(no_device()) };
    let (prefill, decode) = measure(subject, &device)?;
    put(samples, "prefill", prefill);
    if subject.place == Place::Gpu {
        let (_, cpu) = measure(subject, subject.device)?;
        let pairs = decode.iter().zip(&cpu);
        pairs.for_each(|(ours, cpu)| put(samples, "times_cpu", ours / cpu));
    }
    decode.into_iter().for_each(|speed| put(samples, "decode", speed));
    Ok(Measured::Done)
}

/// A token with the cache against reading everything again for it.
pub fn cache_speedup(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let (prefill, decode) = measure(subject, subject.device)?;
    let reread = PROMPT as f64 / prefill; // seconds
    decode.into_iter().for_each(|speed| put(samples, "times", reread * speed));
    Ok(Measured::Done)
}

/// What the system says of this process, in bytes.
fn status(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The most memory that loading, reading and answering take, over what is declared: weights,
/// cache, and 256 MiB for everything else.
pub fn memory(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    const RESET_PEAK: &str = "5";
    let reset = fs::write("/proc/self/clear_refs", RESET_PEAK);
    let (Ok(()), Some(before)) = (reset, status("VmRSS:")) else {
        return Ok(Measured::Skipped("this system does not tell a process's peak memory".into()));
    };
    let size = Size { rows: PROMPT, positions: PROMPT + WRITTEN };
    let mut desk = subject.desk(size)?;
    let mut table = Table::default();
    let mut logits = desk.extend(&mut table, &subject.tokens(PROMPT), (PROMPT, false))?;
    for _ in 0..WRITTEN {
        logits = desk.extend(&mut table, &[best(&logits)], (1, true))?;
    }
    let weights = subject.opened.file.len_bytes();
    let cache = memory::cache_bytes(&subject.opened.shape, size.positions, subject.kv);
    let ceiling = weights + cache + MARGIN_BYTES;
    let leaked = subject.has(Fault::Leak).then(|| vec![1_u8; ceiling as usize]);
    std::hint::black_box(&leaked);
    let peak = status("VmHWM:").map_or(f64::NAN, |peak| peak.saturating_sub(before) as f64);
    put(samples, "share_of_ceiling", peak / ceiling as f64);
    Ok(Measured::Done)
}

/// The numbers are those of the device that was asked for.
pub fn device(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let Some(asked) = subject.device_of_contract() else { return Ok(no_device()) };
    let used = if subject.has(Fault::SilentFallback) { Device::Reference } else { asked.clone() };
    let ready = subject.ready(&used, subject.kv, Size { rows: 8, positions: 8 }, None)?;
    let other = ready.runner.page_form().numbers != asked.numbers();
    put(samples, "other_device", f64::from(other));
    Ok(Measured::Done)
}

/// How much of a device's own memory is taken.
pub fn device_memory(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let Some(device) = subject.device_of_contract() else { return Ok(no_device()) };
    let size = Size { rows: PROMPT, positions: PROMPT };
    let ready = subject.ready(&device, subject.kv, size, None)?;
    let Some((used, total)) = ready.memory else {
        return Ok(Measured::Skipped("the device has no memory of its own".into()));
    };
    let used = if subject.has(Fault::Leak) { total } else { used };
    put(samples, "share", used as f64 / total as f64);
    Ok(Measured::Done)
}
