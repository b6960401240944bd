//! Float formats: F32, F16, BF16. Each value stands alone; activations stay f32.

use crate::half;
use crate::quant::Field;

/// A float type: bytes to value and back.
pub trait FloatFormat {
    /// GGUF's name of the type.
    const NAME: &'static str;
    /// GGUF's number of the type.
    const ID: u32;
    /// Bytes of a value.
    const BYTES: usize;
    /// One value per block of a panel.
    const FIELDS: &'static [Field];
    /// The value of its bytes, exact.
    fn value(bytes: &[u8]) -> f32;
    /// The nearest representable value's bytes.
    fn put(x: f32, bytes: &mut [u8]);
}

/// IEEE binary32.
pub struct F32;
/// IEEE binary16.
pub struct F16;
/// The upper half of a binary32.
pub struct Bf16;

impl FloatFormat for F32 {
    const NAME: &'static str = "F32";
    const ID: u32 = 0;
    const BYTES: usize = 4;
    const FIELDS: &'static [Field] = &[Field::block(0, 1, 4)];
    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
    fn put(x: f32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&x.to_le_bytes());
    }
}

impl FloatFormat for F16 {
    const NAME: &'static str = "F16";
    const ID: u32 = 1;
    const BYTES: usize = 2;
    const FIELDS: &'static [Field] = &[Field::block(0, 1, 2)];
    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        half::f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
    fn put(x: f32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&half::f32_to_f16(x).to_le_bytes());
    }
}

impl FloatFormat for Bf16 {
    const NAME: &'static str = "BF16";
    const ID: u32 = 30;
    const BYTES: usize = 2;
    const FIELDS: &'static [Field] = &[Field::block(0, 1, 2)];
    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        half::bf16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
    fn put(x: f32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&half::f32_to_bf16(x).to_le_bytes());
    }
}

pub(super) fn dequantise<F: FloatFormat>(bytes: &[u8], out: &mut [f32]) {
    for (bytes, w) in bytes.chunks_exact(F::BYTES).zip(out) {
        *w = F::value(bytes);
    }
}

pub(super) fn encode<F: FloatFormat>(values: &[f32], bytes: &mut [u8]) {
    F::put(values[0], bytes);
}

/// Uniform in +-sqrt(3) * std, from the entropy of the bytes.
pub(super) fn tame<F: FloatFormat>(bytes: &mut [u8], std: f32) {
    let seed = bytes.iter().rev().fold(0_u32, |seed, byte| seed << 8 | u32::from(*byte));
    let unit = (seed & 0xffff) as f32 / 32768.0 - 1.0;
    F::put(unit * std * 1.732, bytes);
}
