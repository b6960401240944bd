//! Weight formats: what a block of a GGUF tensor means, one file per format.
//!
//! A quantised block is codes in groups that share a scale and perhaps a bias:
//! `w = s * code + b`, every product and sum rounded to f32 by itself. A format says only how its
//! bytes unpack into those; dequantisation, dot products and random test blocks follow from that.

mod codebook;
mod fit;
mod float;
mod k;
pub mod layout;
mod plain;

use crate::tile::{self, Acts, Panel, Sums};
use crate::{Isa, half};

pub use float::FloatFormat;
pub use layout::{Field, LAYOUT_VERSION, Layout};

pub(crate) use crate::lanes::{Kernels, kernels};

/// Most values in one block of any format.
pub const MAX_BLOCK: usize = 256;
const MAX_GROUPS: usize = MAX_BLOCK / 16;

/// One block unpacked: `w[i] = scale[i / GROUP] * code[i] (+ bias[i / GROUP])`.
pub struct Block {
    /// Code minus zero point.
    pub codes: [i8; MAX_BLOCK],
    /// One scale per group.
    pub scale: [f32; MAX_GROUPS],
    /// One bias per group, used by biased formats only.
    pub bias: [f32; MAX_GROUPS],
}

impl Block {
    /// A block of zeros.
    pub const ZERO: Self =
        Self { codes: [0; MAX_BLOCK], scale: [0.0; MAX_GROUPS], bias: [0.0; MAX_GROUPS] };
}

/// How the bytes of a quantised format unpack.
pub trait QuantFormat {
    /// GGUF's name of the type, as in `Q4_K`.
    const NAME: &'static str;
    /// GGUF's number of the type.
    const ID: u32;
    /// Values in a block.
    const BLOCK: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Values that share a scale: 16 or 32.
    const GROUP: usize;
    /// Whether groups have a bias.
    const BIASED: bool;
    /// The parts of a block that stay whole in a panel.
    const FIELDS: &'static [Field];
    /// Kernels over panels, for instruction sets that have them.
    const KERNELS: Kernels;

    /// Unpacks one block of [`Self::BYTES`] bytes.
    fn unpack(block: &[u8], out: &mut Block);

    /// Turns a block of random bytes into one whose weights have mean 0 and about this deviation.
    fn tame(block: &mut [u8], std: f32);
}

/// A format that values can be written in.
pub trait Encode: QuantFormat {
    /// Writes [`QuantFormat::BLOCK`] values as the block that comes near them.
    fn encode(values: &[f32], block: &mut [u8]);
}

/// Writes one block of values.
type Encoder = fn(&[f32], &mut [u8]);

/// A format as data: what the rest of the system asks of it.
#[derive(Clone, Copy)]
pub struct Format {
    /// GGUF's name of the type.
    pub name: &'static str,
    /// GGUF's number of the type.
    pub id: u32,
    /// Values in a block.
    pub block_values: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Whether activations are quantised before they meet weights of this format.
    pub quantised: bool,
    dequantise: fn(&[u8], &mut [f32]),
    /// How sixteen rows are interleaved.
    pub layout: Layout,
    tile: fn(Isa, Panel<'_>, Acts<'_>, &mut [Sums]),
    tame: fn(&mut [u8], f32),
    encode: Option<Encoder>,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Format {
    const fn quant<F: QuantFormat>() -> Self {
        Self {
            name: F::NAME,
            id: F::ID,
            block_values: F::BLOCK,
            block_bytes: F::BYTES,
            quantised: true,
            dequantise: dequantise::<F>,
            layout: layout::layout::<F>(),
            tile: tile::quantised::<F>,
            tame: F::tame,
            encode: None,
        }
    }

    const fn written<F: Encode>() -> Self {
        Self { encode: Some(F::encode), ..Self::quant::<F>() }
    }

    const fn float<F: FloatFormat>() -> Self {
        Self {
            name: F::NAME,
            id: F::ID,
            block_values: 1,
            block_bytes: F::BYTES,
            quantised: false,
            dequantise: float::dequantise::<F>,
            layout: Layout::new(F::FIELDS, F::BYTES, 1),
            tile: tile::float::<F>,
            tame: float::tame::<F>,
            encode: Some(float::encode::<F>),
        }
    }

    /// Bytes of a row of k values; k is a multiple of [`Self::block_values`].
    pub fn row_bytes(&self, k: usize) -> usize {
        assert!(k.is_multiple_of(self.block_values), "{k} values of {}", self.name);
        k / self.block_values * self.block_bytes
    }

    /// The exact weights of whole blocks.
    pub fn dequantise(&self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), self.row_bytes(out.len()), "{} bytes", self.name);
        (self.dequantise)(bytes, out);
    }

    /// Whether values can be written in it.
    pub fn is_written(&self) -> bool {
        self.encode.is_some()
    }

    /// Writes whole blocks of finite values as the ones that come near them.
    pub fn quantise(&self, values: &[f32], bytes: &mut [u8]) {
        assert_eq!(bytes.len(), self.row_bytes(values.len()), "{} bytes", self.name);
        let encode = self.encode.expect("a format that is written");
        let blocks = bytes.chunks_exact_mut(self.block_bytes);
        for (values, block) in values.chunks_exact(self.block_values).zip(blocks) {
            encode(values, block);
        }
    }

    /// Dot products of a panel with some tiles of tokens, the sums of each; see [`tile`].
    pub fn tile(&self, isa: Isa, panel: Panel<'_>, acts: Acts<'_>, sums: &mut [Sums]) {
        (self.tile)(isa, panel, acts, sums);
    }

    /// Turns random bytes into blocks of random weights with mean 0 and about this deviation, no
    /// scale subnormal.
    pub fn tame(&self, bytes: &mut [u8], std: f32) {
        for block in bytes.chunks_exact_mut(self.block_bytes) {
            (self.tame)(block, std);
        }
    }
}

/// Every format that runs.
pub static FORMATS: [Format; 16] = [
    Format::float::<float::F32>(),
    Format::float::<float::F16>(),
    Format::float::<float::Bf16>(),
    Format::quant::<plain::Q4_0>(),
    Format::quant::<plain::Q4_1>(),
    Format::quant::<plain::Q5_0>(),
    Format::quant::<plain::Q5_1>(),
    Format::written::<plain::Q8_0>(),
    Format::quant::<k::Q2K>(),
    Format::quant::<k::Q3K>(),
    Format::written::<k::Q4K>(),
    Format::written::<k::Q5K>(),
    Format::written::<k::Q6K>(),
    Format::quant::<codebook::Iq4Nl>(),
    Format::quant::<codebook::Iq4Xs>(),
    Format::quant::<codebook::Mxfp4>(),
];

/// The format with GGUF's number, if it runs.
pub fn format(id: u32) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.id == id)
}

/// w = s * code, then + b where the format has one: two roundings, as the file's authors have them.
fn dequantise<F: QuantFormat>(bytes: &[u8], out: &mut [f32]) {
    let mut block = Block::ZERO;
    for (bytes, out) in bytes.chunks_exact(F::BYTES).zip(out.chunks_exact_mut(F::BLOCK)) {
        F::unpack(bytes, &mut block);
        for (i, w) in out.iter_mut().enumerate() {
            *w = block.scale[i / F::GROUP] * f32::from(block.codes[i]);
            if F::BIASED {
                *w += block.bias[i / F::GROUP];
            }
        }
    }
}

/// The little-endian f16 at a byte offset.
#[inline(always)]
fn f16_at(block: &[u8], at: usize) -> f32 {
    half::f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// A scale of either sign, for formats whose codes do not centre on zero.
fn put_signed_scale(block: &mut [u8], at: usize, scale: f32) {
    let sign = if block[at + 1] & 1 == 0 { 1.0 } else { -1.0 };
    put_scale(block, at, sign * scale);
}

/// Writes a scale as f16, varied by up to a fifth with the entropy of a random byte.
fn put_scale(block: &mut [u8], at: usize, scale: f32) {
    let varied = scale * (0.8 + 0.4 * f32::from(block[at]) / 255.0);
    block[at..at + 2].copy_from_slice(&half::f32_to_f16(varied).to_le_bytes());
}

#[cfg(test)]
mod tests;
