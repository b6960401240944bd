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
