//! Planes: the bits of a file's weights, rearranged so that a lane reads 16 bytes at once and its
//! neighbours the bytes beside them. Nothing is rounded. Rows follow one another:
//!
//! ```text
//!         codes [k / 32]                            high [k / 32]     scale            head
//! Q8_0    32 bytes, in order                        -                 -                d [k / 32]
//! Q4_K    16 bytes: value i low, value 16 + i high  -                 -                [k / 256]
//! Q5_K    the same                                  4: bit 4          -                [k / 256]
//! Q6_K    the same                                  8: bits 4 and 5   i8 [k / 16]      d [k / 256]
//! floats  [k] in order
//! ```
//! The head of Q4_K and Q5_K is the file's own: d, dmin, twelve bytes of scales and minima.

use qwire_model::{LoadError, Weights};

/// The formats that kernels read, in the order in which kernels number them.
const FORMATS: [Layout; 7] = [
    Layout { name: "F32", block: [4, 0, 0, 0], values: 1, pack: pack_floats },
    Layout { name: "F16", block: [2, 0, 0, 0], values: 1, pack: pack_floats },
    Layout { name: "BF16", block: [2, 0, 0, 0], values: 1, pack: pack_floats },
    Layout { name: "Q8_0", block: [32, 0, 0, 2], values: 32, pack: pack_q8_0 },
    Layout { name: "Q4_K", block: [128, 0, 0, 16], values: 256, pack: pack_q4_k },
    Layout { name: "Q5_K", block: [128, 32, 0, 16], values: 256, pack: pack_q5_k },
    Layout { name: "Q6_K", block: [128, 64, 16, 2], values: 256, pack: pack_q6_k },
];

/// Planes of codes, high bits, scales and heads.
pub(crate) const PLANES: usize = 4;

/// Rows of the file are packed and sent this many bytes at a time, or a little less.
const PIECE_BYTES: usize = 16 << 20;

/// Activations are quantised in groups of 32, and a lane reads eight floats at once.
const GROUP: usize = 32;

/// How one format lies in planes.
#[derive(Debug)]
pub(crate) struct Layout {
    name: &'static str,
    block: [usize; PLANES], // bytes of a block in each plane
    values: usize,          // of a block
    pack: fn(&[u8], &mut [Vec<u8>; PLANES]),
}

impl Layout {
    /// The layout of a tensor's format, if kernels read it.
    pub(crate) fn of(weights: &Weights, kind: &str) -> Result<&'static Self, LoadError> {
        let name = weights.format.name;
        let Some(layout) = FORMATS.iter().find(|layout| layout.name == name) else {
            let runs = FORMATS.map(|layout| layout.name).join(", ");
            let problem = format!("has type {name}, which cannot run on {kind}");
            let tensor = weights.name();
            return Err(LoadError(format!("tensor `{tensor}` {problem}; types that can: {runs}")));
        };
        if !weights.k.is_multiple_of(GROUP) {
            let (tensor, k) = (weights.name(), weights.k);
            let problem = format!("has rows of {k} values; {kind} takes multiples of 32");
            return Err(LoadError(format!("tensor `{tensor}` {problem}")));
        }
        Ok(layout)
    }

    /// Floats, as routers have them whatever their file says.
    pub(crate) fn floats() -> &'static Self {
        &FORMATS[0]
    }

    /// Its number in the kernels.
    pub(crate) fn number(&self) -> usize {
        FORMATS.iter().position(|layout| layout.name == self.name).expect("a row of the table")
    }

    /// Whether the layout of this number has codes, not floats.
    pub(crate) fn is_coded(number: usize) -> bool {
        FORMATS[number].values > 1
    }

    /// Bytes of a row of k values in each plane.
    pub(crate) fn row_bytes(&self, k: usize) -> [usize; PLANES] {
        self.block.map(|bytes| k / self.values * bytes)
    }

    /// Packs all rows, some at a time: `sink(first row, planes)`.
    pub(crate) fn pack(&self, weights: &Weights, mut sink: impl FnMut(usize, &[Vec<u8>; PLANES])) {
        let rows = weights.count * weights.rows;
        // An even number, so that a piece of any plane begins at a whole word.
        let step = (PIECE_BYTES / (weights.k * 4)).max(2) & !1;
        let converted = weights.format.name != self.name;
        let mut planes: [Vec<u8>; PLANES] = std::array::from_fn(|_| Vec::new());
        let mut row = vec![0.0; if converted { weights.k } else { 0 }];
        weights.stream();
        for first in (0..rows).step_by(step) {
            let end = rows.min(first + step);
            planes.iter_mut().for_each(Vec::clear);
            if converted {
                for index in first..end {
                    weights.row(index, &mut row);
                    planes[0].extend(row.iter().flat_map(|x| x.to_le_bytes()));
                }
            } else {
                (self.pack)(weights.row_bytes(first, end - first), &mut planes);
            }
            sink(first, &planes);
            weights.release(0..end);
        }
    }
}

fn pack_floats(bytes: &[u8], [codes, ..]: &mut [Vec<u8>; PLANES]) {
    codes.extend_from_slice(bytes);
}

fn pack_q8_0(bytes: &[u8], [codes, _, _, head]: &mut [Vec<u8>; PLANES]) {
    for block in bytes.as_chunks::<34>().0 {
        head.extend_from_slice(&block[..2]);
        codes.extend_from_slice(&block[2..]);
    }
}

/// Groups of 32 codes as 16 bytes: value i below value 16 + i.
fn push_nibbles(values: &[u8; 256], codes: &mut Vec<u8>) {
    for group in values.as_chunks::<GROUP>().0 {
        let (low, high) = group.split_at(GROUP / 2);
        codes.extend(low.iter().zip(high).map(|(low, high)| low & 15 | (high & 15) << 4));
    }
}

/// The codes of a block whose nibbles lie as Q4_K's do.
fn nibbles(bytes: &[u8]) -> [u8; 256] {
    let mut values = [0; 256];
    for (bytes, values) in bytes.chunks_exact(32).zip(values.chunks_exact_mut(64)) {
        for (l, byte) in bytes.iter().enumerate() {
            (values[l], values[l + 32]) = (byte & 15, byte >> 4);
        }
    }
    values
}

fn pack_q4_k(bytes: &[u8], [codes, _, _, head]: &mut [Vec<u8>; PLANES]) {
    for block in bytes.as_chunks::<144>().0 {
        head.extend_from_slice(&block[..16]);
        push_nibbles(&nibbles(&block[16..]), codes);
    }
}

fn pack_q5_k(bytes: &[u8], [codes, high, _, head]: &mut [Vec<u8>; PLANES]) {
    for block in bytes.as_chunks::<176>().0 {
        head.extend_from_slice(&block[..16]);
        push_nibbles(&nibbles(&block[48..]), codes);
        // Bit j of byte b: the fifth bit of value 4 j + b, so that one shift serves four values.
        for group in 0..8 {
            let mut bits = [0_u8; 4];
            for (i, byte) in block[16..48].iter().enumerate() {
                bits[i % 4] |= (byte >> group & 1) << (i / 4);
            }
            high.extend_from_slice(&bits);
        }
    }
}

fn pack_q6_k(bytes: &[u8], [codes, high, scale, head]: &mut [Vec<u8>; PLANES]) {
    for block in bytes.as_chunks::<210>().0 {
        let mut values = [0; 256];
        let parts = block[..128].chunks_exact(64).zip(block[128..192].chunks_exact(32));
        for ((low, top), values) in parts.zip(values.chunks_exact_mut(128)) {
            for l in 0..32 {
                let (a, b, h) = (low[l], low[l + 32], top[l]);
                values[l] = a & 15 | (h & 3) << 4;
                values[l + 32] = b & 15 | (h >> 2 & 3) << 4;
                values[l + 64] = a >> 4 | (h >> 4 & 3) << 4;
                values[l + 96] = b >> 4 | (h >> 6) << 4;
            }
        }
        push_nibbles(&values, codes);
        // Bits 2 j of byte b: the upper two bits of value 4 j + b of a half group.
        for half in values.chunks_exact(16) {
            let mut bits = [0_u8; 4];
            for (i, value) in half.iter().enumerate() {
                bits[i % 4] |= (value >> 4) << (2 * (i / 4));
            }
            high.extend_from_slice(&bits);
        }
        scale.extend_from_slice(&block[192..208]);
        head.extend_from_slice(&block[208..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bit of a block lands in exactly one place: single bits give single bits, all
    /// different.
    #[test]
    fn packing_is_a_permutation_of_bits() {
        for (layout, bytes) in FORMATS.iter().zip([4, 2, 2, 34, 144, 176, 210]) {
            assert_eq!(layout.block.iter().sum::<usize>(), bytes, "{}", layout.name);
            let mut seen = vec![false; bytes * 8];
            for bit in 0..bytes * 8 {
                let mut block = vec![0; bytes];
                block[bit / 8] = 1 << (bit % 8);
                let mut planes: [Vec<u8>; PLANES] = std::array::from_fn(|_| Vec::new());
                (layout.pack)(&block, &mut planes);
                assert_eq!(planes.each_ref().map(Vec::len), layout.block, "{}", layout.name);
                let all = planes.concat();
                let set: Vec<usize> =
                    (0..bytes * 8).filter(|at| all[at / 8] >> (at % 8) & 1 == 1).collect();
                assert_eq!(set.len(), 1, "{} bit {bit}", layout.name);
                assert!(!std::mem::replace(&mut seen[set[0]], true), "{} bit {bit}", layout.name);
            }
        }
    }
}
