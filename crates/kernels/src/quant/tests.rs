//! Dequantisation against blocks that another implementation wrote, and the promises of `tame`.

use super::*;

mod bits;

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

/// Values as trained matrices have them: about normal, an outlier here and there.
fn trained(count: usize) -> Vec<f32> {
    let mut seed = 1_u64;
    let mut unit = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    let normal = |unit: &mut dyn FnMut() -> f32| (0..4).map(|_| unit()).sum::<f32>() * 0.035;
    (0..count).map(|i| normal(&mut unit) * if i % 97 == 0 { 4.0 } else { 1.0 }).collect()
}

/// The root mean square of what a format loses, relative to the values'.
fn loss(format: &Format, values: &[f32]) -> f64 {
    let mut bytes = vec![0xa5; format.row_bytes(values.len())];
    let mut again = vec![0.0; values.len()];
    format.quantise(values, &mut bytes);
    format.dequantise(&bytes, &mut again);
    let square = |x: f32| f64::from(x) * f64::from(x);
    let lost: f64 = values.iter().zip(&again).map(|(x, y)| square(x - y)).sum();
    (lost / values.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
}

/// The losses of llama.cpp 0.5.0 on the same values, by its `quantize --pure`.
#[test]
fn no_more_is_lost_than_by_llama_cpp() {
    let values = trained(1 << 14);
    let check = |name: &str, theirs: f64| {
        let format = FORMATS.iter().find(|format| format.name == name).unwrap();
        let ours = loss(format, &values);
        assert!(ours < 1.01 * theirs, "{name} loses {ours}, {theirs} is possible");
    };
    check("F32", f64::MIN_POSITIVE);
    check("Q8_0", 0.006_529_4);
    check("Q6_K", 0.020_432_4);
    check("Q5_K", 0.039_001_7);
    check("Q4_K", 0.077_433_1);
}

#[test]
fn blocks_of_zeros_and_on_one_side_are_written() {
    for format in FORMATS.iter().filter(|format| format.is_written()) {
        let mut bytes = vec![0xa5; format.row_bytes(256)];
        let mut again = [1.0; 256];
        format.quantise(&[0.0; 256], &mut bytes);
        format.dequantise(&bytes, &mut again);
        assert_eq!(again, [0.0; 256], "{}", format.name);
        for sign in [1.0, -1.0] {
            let values: Vec<f32> = (0..256).map(|i| sign * (1.0 + i as f32 / 256.0)).collect();
            assert!(loss(format, &values) < 0.06, "{}, {sign}", format.name);
        }
    }
}
