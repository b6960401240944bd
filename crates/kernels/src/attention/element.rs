//! How keys and values are stored: in single precision, in half, or as codes of 8 bits, of which 32
//! channels share a scale.
//!
//! ```text
//! scale = max |x| / 127       code = round(x / scale), ties to even       what is read: scale code
//! ```

use super::TILE;
use crate::half;

/// Channels that share a scale, where what is stored are codes.
pub const GROUP: usize = 32;

/// Scales of a key or value of d channels, those that fill up included: devices read four at once.
pub const fn scales(d: usize) -> usize {
    d.div_ceil(GROUP).next_multiple_of(4)
}

/// How a key or value is stored.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Whether numbers are codes, which have scales.
    const CODED: bool = false;
    /// The scale of a group.
    fn scale(_: &[f32]) -> f32 {
        1.0
    }
    /// Rounded for storage, under the scale of its group.
    fn store(x: f32, scale: f32) -> Self;
    /// What is read.
    fn load(self, scale: f32) -> f32;
    /// Sixteen of them, as what they are.
    fn stored(x: &[Self; TILE]) -> Stored<'_>;
}

/// Sixteen stored numbers.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// In single precision.
    Whole(&'a [f32; TILE]),
    /// In half.
    Half(&'a [F16; TILE]),
    /// As codes.
    Codes(&'a [i8; TILE]),
}

impl Element for f32 {
    #[inline(always)]
    fn store(x: f32, _: f32) -> Self {
        x
    }
    #[inline(always)]
    fn load(self, _: f32) -> f32 {
        self
    }
    #[inline(always)]
    fn stored(x: &[f32; TILE]) -> Stored<'_> {
        Stored::Whole(x)
    }
}

/// The bits of an f16.
pub type F16 = u16;

impl Element for F16 {
    #[inline(always)]
    fn store(x: f32, _: f32) -> Self {
        half::f32_to_f16(x)
    }
    #[inline(always)]
    fn load(self, _: f32) -> f32 {
        half::f16_to_f32(self)
    }
    #[inline(always)]
    fn stored(x: &[F16; TILE]) -> Stored<'_> {
        Stored::Half(x)
    }
}

impl Element for i8 {
    const CODED: bool = true;
    /// Of what is not finite it is NaN, and so is everything that is read; of what is tiny, 0.
    #[inline(always)]
    fn scale(x: &[f32]) -> f32 {
        let top = x.iter().fold(0.0_f32, |top, x| {
            let size = x.abs();
            if size > top || size.is_nan() { size } else { top }
        });
        match top {
            top if !top.is_finite() => f32::NAN,
            top if top < TINY => 0.0,
            top => top / 127.0,
        }
    }
    #[inline(always)]
    fn store(x: f32, scale: f32) -> Self {
        if scale > 0.0 { (x / scale).round_ties_even() as Self } else { 0 }
    }
    #[inline(always)]
    fn load(self, scale: f32) -> f32 {
        scale * f32::from(self)
    }
    #[inline(always)]
    fn stored(x: &[i8; TILE]) -> Stored<'_> {
        Stored::Codes(x)
    }
}

/// Below this all of a group counts as zeros, so that no scale is subnormal.
const TINY: f32 = f32::from_bits(31 << 23); // 2^-96
