//! Formats of 32 values with one scale: the older family, and Q8_0.

mod q4_0;
mod q4_1;
mod q5_0;
mod q5_1;
mod q8_0;

pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q8_0::Q8_0;

/// Splits sixteen bytes of nibbles: low ones are values 0..16, high ones 16..32.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8], codes: &mut [i8], code: impl Fn(u8) -> i8) {
    for (j, byte) in bytes[..16].iter().enumerate() {
        codes[j] = code(byte & 0x0f);
        codes[j + 16] = code(byte >> 4);
    }
}

/// Sixteen bytes of nibbles with a fifth bit each from `high`: values 0..32 of 5 bits.
#[inline(always)]
fn five_bits(high: &[u8], bytes: &[u8], codes: &mut [i8], zero: i8) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    for (j, byte) in bytes[..16].iter().enumerate() {
        codes[j] = ((byte & 0x0f) | ((high >> j & 1) << 4) as u8) as i8 - zero;
        codes[j + 16] = ((byte >> 4) | ((high >> (j + 16) & 1) << 4) as u8) as i8 - zero;
    }
}
