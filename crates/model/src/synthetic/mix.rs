//! Mixes: which format each matrix of a model has, by the rules of llama.cpp's `quantize`.
//! `qwire quantize` writes by them what a file holds as floats.
//!
//! Norms, biases and the router are always F32 and no part of a mix. The exceptions that llama.cpp
//! makes for models of exactly eight experts (Mixtral) are left out. To add a mix, add a row.

use qwire_gguf::Dtype;

/// The formats of a model's matrices.
#[derive(Debug)]
pub struct Mix {
    /// What it is called on the command line.
    pub name: &'static str,
    /// `general.file_type`.
    pub file_type: u32,
    /// Formats of the layers' matrices, in turn; the first is also that of an embedding of its own.
    cycle: &'static [Dtype],
    /// What values and `down` have in sensitive layers, where that differs.
    more: Option<Dtype>,
    /// The head, and the embedding that serves as one.
    head: Dtype,
}

/// A matrix of a layer, in the order in which a cycle of formats passes over them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Q,
    K,
    V,
    Output,
    Gate,
    Up,
    Down,
}

/// The formats that no other mix has; files published as "dynamic" hold some of them.
const REST: &[Dtype] = &[
    Dtype::Q5_1,
    Dtype::Q2_K,
    Dtype::IQ4_XS,
    Dtype::Q5_0,
    Dtype::MXFP4,
    Dtype::Q3_K,
    Dtype::Q4_1,
    Dtype::IQ4_NL,
];

const Q6_K: Option<Dtype> = Some(Dtype::Q6_K);

/// Every mix.
pub static MIXES: [Mix; 9] = [
    Mix::of("q4_k_m", 15, &[Dtype::Q4_K], Q6_K, Dtype::Q6_K),
    Mix::of("q5_k_m", 17, &[Dtype::Q5_K], Q6_K, Dtype::Q6_K),
    Mix::of("q6_k", 18, &[Dtype::Q6_K], None, Dtype::Q6_K),
    Mix::of("q8_0", 7, &[Dtype::Q8_0], None, Dtype::Q8_0),
    Mix::of("q4_0", 2, &[Dtype::Q4_0], None, Dtype::Q6_K),
    Mix::of("f16", 1, &[Dtype::F16], None, Dtype::F16),
    Mix::of("bf16", 32, &[Dtype::BF16], None, Dtype::BF16),
    Mix::of("f32", 0, &[Dtype::F32], None, Dtype::F32),
    // There is no number for it; such files carry that of the mix they improve on.
    Mix::of("dynamic", 15, REST, None, Dtype::Q6_K),
];

/// The mix of that name; upper and lower case are the same.
pub fn mix(name: &str) -> Option<&'static Mix> {
    MIXES.iter().find(|mix| mix.name.eq_ignore_ascii_case(name))
}

impl Mix {
    const fn of(
        name: &'static str,
        file_type: u32,
        cycle: &'static [Dtype],
        more: Option<Dtype>,
        head: Dtype,
    ) -> Self {
        Self { name, file_type, cycle, more, head }
    }

    /// The format of a layer's matrix with rows of k values.
    pub(super) fn of_part(&self, part: Part, layer: usize, layers: usize, k: usize) -> Dtype {
        let usual = self.cycle[(layer + part as usize) % self.cycle.len()];
        let precious = matches!(part, Part::V | Part::Down) && is_sensitive(layer, layers);
        fitting(self.more.filter(|_| precious).unwrap_or(usual), k)
    }

    /// The format of a file's tensor with rows of k values; none for what is no part of a mix.
    pub fn of_tensor(&self, name: &str, k: usize, layers: usize, tied: bool) -> Option<Dtype> {
        match name {
            "token_embd.weight" => return Some(self.of_embedding(tied, k)),
            "output.weight" => return Some(self.of_head(k)),
            _ => {}
        }
        let (layer, stem) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
        let part = match stem {
            "attn_q" => Part::Q,
            "attn_k" => Part::K,
            "attn_v" => Part::V,
            "attn_output" => Part::Output,
            "ffn_gate" | "ffn_gate_exps" => Part::Gate,
            "ffn_up" | "ffn_up_exps" => Part::Up,
            "ffn_down" | "ffn_down_exps" => Part::Down,
            _ => return None,
        };
        Some(self.of_part(part, layer.parse().ok()?, layers, k))
    }

    /// Every format that a matrix can have, where rows fit.
    pub fn formats(&self) -> impl Iterator<Item = Dtype> {
        self.cycle.iter().copied().chain(self.more).chain([self.head])
    }

    /// The format of the embedding.
    pub(super) fn of_embedding(&self, tied: bool, k: usize) -> Dtype {
        if tied { self.of_head(k) } else { fitting(self.cycle[0], k) }
    }

    /// The format of the head.
    pub(super) fn of_head(&self, k: usize) -> Dtype {
        fitting(self.head, k)
    }
}

/// The first and last eighth of the layers, and every third between.
fn is_sensitive(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// The format itself, or what stands in for it where rows are no whole number of its blocks.
fn fitting(dtype: Dtype, k: usize) -> Dtype {
    let fits = |dtype: &Dtype| (k as u64).is_multiple_of(dtype.block_values());
    let substitute = match dtype {
        Dtype::Q2_K | Dtype::Q3_K => Dtype::Q4_0,
        Dtype::Q4_K => Dtype::Q5_0,
        Dtype::Q5_K => Dtype::Q5_1,
        Dtype::Q6_K => Dtype::Q8_0,
        Dtype::IQ4_XS => Dtype::IQ4_NL,
        _ => Dtype::F16,
    };
    [dtype, substitute].into_iter().find(fits).unwrap_or(Dtype::F16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers whose `down` is Q6_K in the published Q4_K_M files of 48 layers.
    #[test]
    fn sensitive_layers_are_those_of_published_files() {
        let sensitive: Vec<usize> = (0..48).filter(|layer| is_sensitive(*layer, 48)).collect();
        let between = [8, 11, 14, 17, 20, 23, 26, 29, 32, 35, 38, 41];
        let expected: Vec<usize> = (0..6).chain(between).chain(42..48).collect();
        assert_eq!(sensitive, expected);
    }

    #[test]
    fn tensors_are_known_by_their_names() {
        let mix = mix("q4_k_m").unwrap();
        let check = |name, tied, expected| {
            assert_eq!(mix.of_tensor(name, 2048, 48, tied), expected, "{name}");
        };
        check("token_embd.weight", false, Some(Dtype::Q4_K));
        check("token_embd.weight", true, Some(Dtype::Q6_K));
        check("output.weight", false, Some(Dtype::Q6_K));
        check("blk.0.attn_v.weight", false, Some(Dtype::Q6_K));
        check("blk.9.ffn_down_exps.weight", false, Some(Dtype::Q4_K));
        check("blk.11.ffn_down.weight", false, Some(Dtype::Q6_K));
        for name in ["blk.0.ffn_gate_inp.weight", "blk.0.attn_q_norm.weight", "blk.x.attn_q.weight"]
        {
            check(name, false, None);
        }
        check("blk.0.attn_q.bias", false, None);
        check("output_norm.weight", false, None);
    }

    #[test]
    fn a_format_gives_way_where_rows_do_not_fit() {
        let check = |dtype, k, expected| assert_eq!(fitting(dtype, k), expected, "{dtype} of {k}");
        check(Dtype::Q4_K, 2048, Dtype::Q4_K);
        check(Dtype::Q4_K, 896, Dtype::Q5_0);
        check(Dtype::Q5_K, 896, Dtype::Q5_1);
        check(Dtype::Q6_K, 896, Dtype::Q8_0);
        check(Dtype::IQ4_XS, 896, Dtype::IQ4_NL);
        check(Dtype::Q2_K, 896, Dtype::Q4_0);
        check(Dtype::Q8_0, 48, Dtype::F16);
        check(Dtype::Q4_K, 48, Dtype::F16);
        check(Dtype::BF16, 7, Dtype::BF16);
    }

    #[test]
    fn two_layers_of_the_dynamic_mix_have_all_its_formats() {
        let dynamic = mix("Dynamic").unwrap();
        let parts = [Part::Q, Part::K, Part::V, Part::Output, Part::Gate, Part::Up, Part::Down];
        for dtype in REST {
            let has =
                |layer| parts.iter().any(|part| dynamic.of_part(*part, layer, 2, 1024) == *dtype);
            assert!((0..2).any(has), "{dtype}");
        }
    }
}
