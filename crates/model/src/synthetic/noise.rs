//! Noise: random bytes that depend on their place alone, so that any part can be made by itself.
//!
//! `word[i] = mix(key + (i + 1) * GOLDEN)` is SplitMix64, whose state is a counter. The key comes
//! from the seed and the tensor's name. Nothing here is for secrets.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The noise of one tensor.
pub struct Noise {
    key: u64,
}

impl Noise {
    /// Noise that differs with either argument.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a spreads the name, `mix` its weak low bits.
        let spread = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, spread);
        Self { key: mix(hash ^ mix(seed.wrapping_add(GOLDEN))) }
    }

    /// The bytes from word `first` on, eight to a word.
    pub fn fill(&self, first: u64, bytes: &mut [u8]) {
        let mut counter = self.key.wrapping_add(first.wrapping_mul(GOLDEN));
        let mut word = || {
            counter = counter.wrapping_add(GOLDEN);
            mix(counter).to_le_bytes()
        };
        let (words, rest) = bytes.as_chunks_mut();
        for bytes in words {
            *bytes = word();
        }
        if !rest.is_empty() {
            rest.copy_from_slice(&word()[..rest.len()]);
        }
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of SplitMix64 from state 0, as published with the generator.
    #[test]
    fn it_is_splitmix64() {
        let mut bytes = [0; 24];
        Noise { key: 0 }.fill(0, &mut bytes);
        let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        let known = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        assert!(words.eq(known));
    }

    #[test]
    fn bytes_depend_on_their_place_alone() {
        let noise = Noise::new(7, "blk.0.attn_q.weight");
        let mut whole = [0; 1003];
        noise.fill(0, &mut whole);
        for (first, len) in [(0, 8), (1, 16), (3, 5), (100, 203), (125, 3)] {
            let mut part = vec![0; len];
            noise.fill(first, &mut part);
            assert_eq!(part, whole[8 * first as usize..][..len]);
        }
    }

    #[test]
    fn seeds_and_names_differ() {
        let words: std::collections::HashSet<u64> = (0..100)
            .flat_map(|seed| ["a", "b", "ab", "ba", ""].map(|name| Noise::new(seed, name).key))
            .collect();
        assert_eq!(words.len(), 500);
    }
}
