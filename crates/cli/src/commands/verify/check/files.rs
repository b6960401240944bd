//! Files: weights that are numbers, and files that mean harm.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use qwire_gguf::{File, OwnedValue, Writer};
use qwire_kernels::quant::format;
use qwire_model::describe;
use qwire_text::{ChatTemplate, Vocabulary};

use super::super::contract::{Pace, Samples};
use super::super::faults::Fault;
use super::super::subject::Subject;
use super::{Measured, put};
use crate::failure::Failure;

pub const MALFORMED: &[&str] = &["panics", "seconds", "unnamed", "accepted", "refused"];

/// Values of a tensor that are looked at in one go.
const PIECE: u64 = 1 << 16;
/// Damaged copies of the model's own header; fewer where it is large.
const MUTANTS: usize = 400;
const MUTANT_BYTES: usize = 64 << 20;

/// Every weight is a number: all of them, or where there is no time the ends of every tensor.
pub fn every_tensor(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let whole = subject.pace >= Pace::Usual || !subject.is_large();
    tensors(&subject.opened.file, whole, subject.fault, samples);
    subject.interrupt.check()?;
    Ok(Measured::Done)
}

/// How many values of each tensor are none.
pub fn tensors(file: &File, whole: bool, fault: Option<Fault>, samples: &mut Samples) {
    let mut values = Vec::new();
    put(samples, "tensors", file.tensors().len() as f64);
    for (at, tensor) in file.tensors().iter().enumerate() {
        let Some(format) = format(tensor.dtype.id()) else { continue };
        let (all, data) = (tensor.elements(), file.data(tensor));
        let pieces = all.div_ceil(PIECE);
        let looked = (0..pieces).filter(|piece| whole || *piece == 0 || *piece == pieces - 1);
        let mut wrong = 0;
        for first in looked.map(|piece| piece * PIECE) {
            let n = PIECE.min(all - first) as usize;
            let bytes = &data[format.row_bytes(first as usize)..][..format.row_bytes(n)];
            values.resize(n, 0.0);
            format.dequantise(bytes, &mut values);
            if fault == Some(Fault::DamagedWeight) && (at, first) == (0, 0) {
                values[0] = f32::NAN;
            }
            wrong += values.iter().filter(|value| !value.is_finite()).count();
        }
        put(samples, "not_finite", wrong as f64);
    }
}

/// Damaged copies of a header end in a line that names the place, or load; none ends in a panic.
pub fn malformed(subject: &Subject<'_>, samples: &mut Samples) -> Result<Measured, Failure> {
    let sound = header(&subject.opened.file)?;
    let trusts = subject.has(Fault::TrustingReader);
    let mutants = MUTANTS.min(MUTANT_BYTES / sound.len()).max(20);
    let mut random = Random(1);
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let measured = (0..mutants).try_for_each(|n| {
        subject.interrupt.check()?;
        let mut bytes = sound.clone();
        (0..=n % 3).for_each(|_| random.damage(&mut bytes));
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(bytes, trusts)));
        put(samples, "seconds", started.elapsed().as_secs_f64());
        put(samples, "panics", f64::from(outcome.is_err()));
        match outcome {
            Ok(Err(line)) => {
                let told = !line.contains('\n') && line.len() < 600 && names_a_place(&line);
                put(samples, "unnamed", f64::from(!told));
                put(samples, "refused", 1.0);
            }
            Ok(Ok(())) => put(samples, "accepted", 1.0),
            Err(_) => {}
        }
        Ok::<_, Failure>(())
    });
    std::panic::set_hook(said);
    measured.map(|()| Measured::Done)
}

/// The model's metadata as a file of their own, with a directory and no weights worth a word.
fn header(file: &File) -> Result<Vec<u8>, Failure> {
    let mut writer = Writer::new(file.alignment());
    for (key, value) in file.metadata().iter().filter(|(key, _)| !key.starts_with("split.")) {
        writer.metadata(key, OwnedValue::from(value))?;
    }
    let tensors: Vec<_> = file.tensors().iter().filter(|tensor| tensor.dims.len() == 1).collect();
    for tensor in &tensors {
        writer.tensor(&tensor.name, &tensor.dims, tensor.dtype)?;
    }
    let broken = |error| Failure::broken(format!("a header in memory: {error}"));
    let mut data = writer.begin(Vec::new()).map_err(broken)?;
    for tensor in &tensors {
        data.tensor(file.data(tensor)).map_err(broken)?;
    }
    data.finish().map_err(broken)
}

/// Everything that is believed of a file before its weights are touched.
fn read(bytes: Vec<u8>, trusts: bool) -> Result<(), String> {
    if trusts {
        assert_eq!(bytes.get(..8), Some(&b"GGUF\x03\0\0\0"[..]), "what every file begins with");
    }
    let file = File::from_bytes(bytes).map_err(|error| error.to_string())?;
    describe(&file).map_err(|error| error.to_string())?;
    let vocabulary = Vocabulary::from_gguf(file.metadata()).map_err(|error| error.to_string())?;
    ChatTemplate::from_gguf(file.metadata(), &vocabulary).map_err(|error| error.to_string())?;
    Ok(())
}

fn names_a_place(line: &str) -> bool {
    let places =
        ["key `", "tensor `", "byte", "tokenizer.", "template", "tensors", "general.", "GGUF"];
    places.iter().any(|place| line.contains(place))
}

/// Where files are damaged, and how.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
        (self.0 >> 33) as usize % n.max(1)
    }

    /// One fault; every fourth in the first bytes, where counts and lengths are.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let reach = if self.below(4) == 0 { 256 } else { bytes.len() };
        let at = self.below(reach.min(bytes.len()));
        let width = 8.min(bytes.len() - at);
        match self.below(6) {
            0 => bytes.truncate(at + 1),
            1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes[at] = self.below(256) as u8,
            3 => bytes[at..at + width].fill([0, 255][self.below(2)]),
            4 => {
                let size = (1_u64 << self.below(64)).wrapping_sub(self.below(3) as u64);
                bytes[at..at + width].copy_from_slice(&size.to_le_bytes()[..width]);
            }
            _ => drop(bytes.splice(at..at, [0xff; 3])),
        }
    }
}
