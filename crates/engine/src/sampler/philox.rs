//! Philox4x32-10: random numbers as a function of (seed, position), with nothing carried over.
//!
//! Ten rounds of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
//! (SC 2011). The counter is the choice and the position, the key is the seed, so that the draw of
//! one token depends neither on the draws before it nor on who shares its batch.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// The uniform number in [0, 1), with 53 random bits, of this seed and choice at this position.
pub fn uniform(seed: u64, choice: u32, position: u64) -> f64 {
    let counter = [position as u32, (position >> 32) as u32, choice, 0];
    let words = philox4x32(counter, [seed as u32, (seed >> 32) as u32]);
    let bits = u64::from(words[1]) << 32 | u64::from(words[0]);
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let [a, b, c, d] = counter;
        let p = u64::from(MULTIPLIERS[0]) * u64::from(a);
        let q = u64::from(MULTIPLIERS[1]) * u64::from(c);
        counter =
            [(q >> 32) as u32 ^ b ^ key[0], q as u32, (p >> 32) as u32 ^ d ^ key[1], p as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_published_vectors() {
        let check = |counter, key, expected| assert_eq!(philox4x32(counter, key), expected);
        check([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        check(
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        );
    }

    #[test]
    fn is_uniform_below_one() {
        let n = 20_000;
        let draws: Vec<f64> = (0..n).map(|position| uniform(7, 0, position)).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
    }

    #[test]
    fn both_halves_of_seed_and_position_count_and_the_choice() {
        let first = uniform(1, 0, 2);
        for (seed, choice, position) in
            [(1 | 1 << 32, 0, 2), (1, 0, 2 | 1 << 32), (2, 0, 1), (1, 1, 2)]
        {
            let other = uniform(seed, choice, position);
            assert_ne!(first, other, "seed {seed}, choice {choice}, position {position}");
        }
    }
}
