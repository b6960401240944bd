//! Dequantisation against blocks that another implementation wrote, and the promises of `tame`.

use super::*;

/// `golden/blocks/NAME.blocks` and their exact values `NAME.f32`; see `golden/README.md`.
#[test]
fn dequantisation_equals_the_golden_blocks_bit_for_bit() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/blocks");
    let mut checked = 0;
    for format in FORMATS.iter().filter(|format| format.name != "F32") {
        let read = |suffix: &str| {
            std::fs::read(golden.join(format!("{}.{suffix}", format.name))).expect("golden file")
        };
        let (blocks, expected) = (read("blocks"), read("f32"));
        let mut values = vec![0.0_f32; expected.len() / 4];
        format.dequantise(&blocks, &mut values);
        for (i, (value, bytes)) in values.iter().zip(expected.chunks_exact(4)).enumerate() {
            let expected = f32::from_le_bytes(bytes.try_into().unwrap());
            let same = value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan();
            assert!(same, "{} value {i}: {value} is not {expected}", format.name);
            checked += 1;
        }
    }
    assert!(checked > 100_000, "only {checked} values were compared");
}

#[test]
fn tamed_blocks_have_the_deviation_asked_for_and_mean_zero() {
    let mut state = 1_u64;
    for format in &FORMATS {
        let mut bytes = vec![0; format.row_bytes(1 << 16)];
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            *byte = (state >> 56) as u8;
        }
        format.tame(&mut bytes, 0.02);
        let mut values = vec![0.0; 1 << 16];
        format.dequantise(&bytes, &mut values);
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let std = (values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / n).sqrt();
        let floor = if format.name == "MXFP4" { 0.01 } else { 0.017 };
        assert!((floor..0.023).contains(&std), "{}: deviation {std}", format.name);
        assert!(mean.abs() < 0.002, "{}: mean {mean}", format.name);
    }
}
