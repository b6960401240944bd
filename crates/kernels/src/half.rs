//! Half-precision numbers: f16 and bf16 to f32 and back, in integer steps that no instruction set
//! changes. Conversion to f32 is exact; to f16 it rounds to nearest even, overflows to infinity and
//! keeps subnormals.

/// The value of an IEEE binary16.
#[inline(always)]
pub fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff) << 13;
    // Subnormal halves become subnormal floats here; the exact product makes both normal.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = magnitude | 0x7f80_0000;
    f32::from_bits(sign | if magnitude < 0x0f80_0000 { finite } else { special })
}

/// The nearest IEEE binary16, ties to even.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let sign = ((x.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    // Below 2^-14 one addition rounds to a multiple of 2^-24, the spacing of subnormal halves.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_add(0xc800_0fff).wrapping_add(odd) >> 13;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= 0x477f_f000 {
        0x7c00
    } else if magnitude < 0x3880_0000 {
        small
    } else {
        normal
    };
    sign | half as u16
}

/// The value of a bfloat16.
#[inline(always)]
pub fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// The nearest bfloat16, ties to even.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return ((bits >> 16) | 0x40) as u16;
    }
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_round_trip() {
        for half in 0..=u16::MAX {
            let x = f16_to_f32(half);
            if x.is_nan() {
                assert!(f16_to_f32(f32_to_f16(x)).is_nan(), "{half:04x}");
            } else {
                assert_eq!(f32_to_f16(x), half, "{half:04x} is {x}");
            }
            let y = bf16_to_f32(half);
            assert!(y.is_nan() || f32_to_bf16(y) == half, "{half:04x} is {y}");
        }
    }

    #[test]
    fn halves_have_their_ieee_values() {
        let cases = [
            (0x0001, libm::exp2(-24.0)),
            (0x03ff, 1023.0 * libm::exp2(-24.0)),
            (0x0400, libm::exp2(-14.0)),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f64::INFINITY),
            (0x3555, 0.333_251_953_125),
        ];
        for (half, value) in cases {
            assert_eq!(f64::from(f16_to_f32(half)), value, "{half:04x}");
        }
    }

    /// Between two neighbouring halves the nearer wins, and the even one at the middle.
    #[test]
    fn rounding_is_to_nearest_even() {
        for half in 0..0x7bff_u16 {
            let (low, high) = (f16_to_f32(half), f16_to_f32(half + 1));
            let middle = low + (high - low) / 2.0; // exact: the gap is a power of two
            let even = half + (half & 1);
            assert_eq!(f32_to_f16(middle), even, "between {low} and {high}");
            assert_eq!(f32_to_f16(middle.next_down()), half);
            assert_eq!(f32_to_f16(middle.next_up()), half + 1);
            assert_eq!(f32_to_f16(-middle), 0x8000 | even);
        }
        assert_eq!(f32_to_f16(65519.996), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
    }
}
