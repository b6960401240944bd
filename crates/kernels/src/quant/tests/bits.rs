//! Dequantisation against the authors' own way of reading a block: one weight at a time, from the
//! bits that it depends on. Every value of every byte, and of every f16 beside others.

use super::*;

/// Blocks of other bytes around each value.
const FILLS: u64 = 2;

/// Weight i of a block.
type Weight = fn(&[u8], usize) -> f32;

/// By the name of its format, with the offsets of its f16 fields.
const WEIGHTS: [(&str, Weight, &[usize]); 12] = [
    ("Q4_0", |b, i| half(b, 0) * (nibble(&b[2..], i) - 8) as f32, &[0]),
    ("Q4_1", |b, i| half(b, 0) * nibble(&b[4..], i) as f32 + half(b, 2), &[0, 2]),
    ("Q5_0", |b, i| half(b, 0) * (fifth(&b[2..], i) - 16) as f32, &[0]),
    ("Q5_1", |b, i| half(b, 0) * fifth(&b[4..], i) as f32 + half(b, 2), &[0, 2]),
    ("Q8_0", |b, i| half(b, 0) * f32::from(b[2 + i] as i8), &[0]),
    ("Q2_K", q2_k, &[80, 82]),
    ("Q3_K", q3_k, &[108]),
    ("Q4_K", q4_k, &[0, 2]),
    ("Q5_K", q5_k, &[0, 2]),
    ("Q6_K", q6_k, &[208]),
    ("IQ4_NL", |b, i| half(b, 0) * level(nibble(&b[2..], i)), &[0]),
    ("IQ4_XS", iq4_xs, &[0]),
];

/// An IEEE binary16, by its definition.
fn half(bytes: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => libm::ldexp(fraction, -24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => libm::ldexp(1024.0 + fraction, exponent - 25),
    };
    (if bits >> 15 == 1 { -magnitude } else { magnitude }) as f32
}

/// The lower halves of 16 bytes are the first 16 codes, the upper ones the rest.
fn nibble(bytes: &[u8], i: usize) -> i32 {
    i32::from(bytes[i % 16] >> (4 * (i / 16)) & 15)
}

/// A nibble behind 32 fifth bits.
fn fifth(bytes: &[u8], i: usize) -> i32 {
    nibble(&bytes[4..], i) | i32::from(bytes[i / 8] >> (i % 8) & 1) << 4
}

fn level(code: i32) -> f32 {
    const LEVELS: [i8; 16] =
        [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    f32::from(LEVELS[code as usize])
}

/// Two bits of four, in halves of 128 weights.
fn pair(bytes: &[u8], i: usize) -> i32 {
    i32::from(bytes[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3)
}

fn q2_k(b: &[u8], i: usize) -> f32 {
    let (scale, min) = (b[i / 16] & 15, b[i / 16] >> 4);
    half(b, 80) * f32::from(scale) * pair(&b[16..], i) as f32 - half(b, 82) * f32::from(min)
}

fn q3_k(b: &[u8], i: usize) -> f32 {
    let (group, scales) = (i / 16, &b[96..108]);
    let low = scales[group % 8] >> (4 * (group / 8)) & 15;
    let high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
    let scale = i32::from(low | high << 4) - 32;
    let raised = b[i % 32] >> (i / 32) & 1 == 1;
    let code = pair(&b[32..], i) - if raised { 0 } else { 4 };
    half(b, 108) * scale as f32 * code as f32
}

/// The scale and the minimum of a group of 32, 6 bits each in 12 bytes.
fn six_bits(b: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = match j {
        0..4 => (b[j] & 63, b[j + 4] & 63),
        _ => (b[j + 4] & 15 | b[j - 4] >> 6 << 4, b[j + 4] >> 4 | b[j] >> 6 << 4),
    };
    (f32::from(scale), f32::from(min))
}

/// Nibbles in runs of 64 weights: 32 lower halves, then 32 upper ones.
fn run_nibble(bytes: &[u8], i: usize) -> i32 {
    i32::from(bytes[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2)) & 15)
}

fn q4_k(b: &[u8], i: usize) -> f32 {
    let (scale, min) = six_bits(&b[4..16], i / 32);
    half(b, 0) * scale * run_nibble(&b[16..], i) as f32 - half(b, 2) * min
}

fn q5_k(b: &[u8], i: usize) -> f32 {
    let (scale, min) = six_bits(&b[4..16], i / 32);
    let code = run_nibble(&b[48..], i) | i32::from(b[16 + i % 32] >> (i / 32) & 1) << 4;
    half(b, 0) * scale * code as f32 - half(b, 2) * min
}

fn q6_k(b: &[u8], i: usize) -> f32 {
    let (n, k, l) = (i / 128, i % 128 / 32, i % 32);
    let low = b[64 * n + 32 * (k % 2) + l] >> (4 * (k / 2)) & 15;
    let high = b[128 + 32 * n + l] >> (2 * k) & 3;
    let code = i32::from(low | high << 4) - 32;
    half(b, 208) * f32::from(b[192 + i / 16] as i8) * code as f32
}

fn iq4_xs(b: &[u8], i: usize) -> f32 {
    let (group, tops) = (i / 32, u16::from_le_bytes([b[2], b[3]]));
    let low = b[4 + group / 2] >> (4 * (group % 2)) & 15;
    let scale = i32::from(low) | i32::from(tops >> (2 * group) & 3) << 4;
    let code = nibble(&b[8 + 16 * group..], i % 32);
    half(b, 0) * (scale - 32) as f32 * level(code)
}

/// Bytes that are the same for the same numbers.
fn mixed(position: u64, fill: u64) -> u8 {
    let step = (2 * fill + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (position + 1).wrapping_mul(step);
    (mixed >> 56) as u8
}

struct Reader {
    format: &'static Format,
    weight: Weight,
    values: Vec<f32>,
    blocks: usize,
}

impl Reader {
    /// A block, read in both ways.
    fn check(&mut self, block: &[u8]) {
        self.format.dequantise(block, &mut self.values);
        for (i, found) in self.values.iter().enumerate() {
            let expected = (self.weight)(block, i);
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "{} weight {i}: {found}, not {expected}: {block:02x?}", self.format.name);
        }
        self.blocks += 1;
    }
}

#[test]
fn every_byte_means_what_it_says() {
    for (name, weight, halves) in WEIGHTS {
        let format = FORMATS.iter().find(|format| format.name == name).unwrap();
        let values = vec![0.0; format.block_values];
        let mut reader = Reader { format, weight, values, blocks: 0 };
        for fill in 0..FILLS {
            let len = format.block_bytes;
            let mut block: Vec<u8> = (0..len as u64).map(|at| mixed(at, fill)).collect();
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let kept = std::mem::replace(&mut block[at], byte);
                    reader.check(&block);
                    block[at] = kept;
                }
            }
        }
        assert_eq!(reader.blocks, FILLS as usize * 256 * format.block_bytes);
        assert!(halves.iter().all(|at| at + 2 <= format.block_bytes));
    }
}

/// A block of 32 weights in one of a few rounds, in which each of its codes has come.
fn counted(name: &str, len: usize, round: usize) -> Vec<u8> {
    let byte = |place: usize| match (name, place.checked_sub(len - 16)) {
        ("Q8_0", _) => (place + 32 * round) as u8,
        (_, Some(place)) => place as u8 * 17,
        // Fifth bits, once as they are and once turned over.
        (_, None) => mixed(place as u64, 0) ^ if round == 0 { 0 } else { 0xff },
    };
    (0..len).map(byte).collect()
}

/// All halves beside all codes, where a scale is one number; where it is two, beside many.
#[test]
fn every_half_scales_every_code() {
    for (name, weight, halves) in WEIGHTS {
        let format = FORMATS.iter().find(|format| format.name == name).unwrap();
        let values = vec![0.0; format.block_values];
        let mut reader = Reader { format, weight, values, blocks: 0 };
        let (len, simple) = (format.block_bytes, format.block_values == 32);
        let rounds = if name == "Q8_0" { 8 } else { 1 + usize::from(simple) };
        for at in halves {
            for round in 0..rounds {
                let mut block = counted(name, len, round);
                for bits in 0..=u16::MAX {
                    if !simple {
                        let other = |place| mixed(place, u64::from(bits));
                        block = (0..len as u64).map(other).collect();
                    }
                    block[*at..at + 2].copy_from_slice(&bits.to_le_bytes());
                    reader.check(&block);
                }
            }
        }
        assert_eq!(reader.blocks, halves.len() * 65536 * rounds);
    }
}

#[test]
fn floats_and_powers_are_their_own_definition() {
    const HALVES: [i32; 8] = [0, 1, 2, 3, 4, 6, 8, 12];
    let value = |name: &str, bytes: &[u8]| {
        let format = FORMATS.iter().find(|format| format.name == name).unwrap();
        let mut values = vec![0.0; format.block_values];
        format.dequantise(bytes, &mut values);
        values
    };
    for bits in 0..=u16::MAX {
        let bytes = bits.to_le_bytes();
        let (found, expected) = (value("F16", &bytes)[0], half(&bytes, 0));
        assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan());
        let found = value("BF16", &bytes)[0];
        let expected = f32::from_bits(u32::from(bits) << 16);
        assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan());
    }
    for exponent in 0..=u8::MAX {
        for code in 0..16_u8 {
            let values = value("MXFP4", &[&[exponent][..], &[code * 17; 16]].concat());
            let magnitude =
                libm::ldexp(HALVES[code as usize % 8].into(), i32::from(exponent) - 128);
            let expected = (if code < 8 { magnitude } else { 0.0 - magnitude }) as f32;
            assert!(values.iter().all(|found| *found == expected), "2^{exponent} of {code}");
        }
    }
}
