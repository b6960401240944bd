//! Formats whose codes index a table of values: IQ4_NL, IQ4_XS, MXFP4.

mod iq4_nl;
mod iq4_xs;
mod mxfp4;

pub use iq4_nl::Iq4Nl;
pub use iq4_xs::Iq4Xs;
pub use mxfp4::Mxfp4;

/// The sixteen levels of the IQ4 formats, denser near zero.
const IQ4_LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The same above a zero point of 128.
const IQ4_RAISED: [u8; 16] = raised(IQ4_LEVELS, 128);

/// Levels as codes without sign: level + zero.
const fn raised(levels: [i8; 16], zero: i16) -> [u8; 16] {
    let (mut codes, mut i) = ([0; 16], 0);
    while i < 16 {
        codes[i] = (levels[i] as i16 + zero) as u8;
        i += 1;
    }
    codes
}
