//! `qwire compare`: how far two ways to the same logits are apart, and where they part.

use crate::binary::qwire;
use crate::model::golden;

#[test]
fn two_models_part_where_their_weights_do() {
    let (float, quantised) = (golden("moe-bf16.gguf"), golden("moe-q4_k_m.gguf"));
    let args = ["compare", &float, &quantised, "--tokens", "1 2 3 4 5 6 7 8", "--layers"];
    let all = qwire(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(all["logits"]["positions"], 8);
    assert!(all["logits"]["mean_kl"].as_f64().unwrap() > 0.0, "{all}");
    assert_eq!(all["layers"]["first_bits"][0], 0, "{all}");
    let phases = all["layers"]["phases"].as_array().unwrap();
    assert_eq!(phases.len() % 6, 0);
    let text = qwire(&args).text();
    for words in ["mean KL", "first other bits  layer 0", "first beyond"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_model_is_compared_with_itself_in_other_ways() {
    let model = golden("moes-f32.gguf");
    let check = |more: &[&str], same: bool| {
        let args =
            [&["compare", &model, "--tokens", "1 2 3 4", "--layers", "--json"], more].concat();
        let all = qwire(&args).json();
        let delta = all["logits"]["max_delta"]["value"].as_f64().unwrap();
        assert_eq!(delta == 0.0, same, "{more:?}: {all}");
        assert_eq!(all["layers"]["first_bits"].is_null(), same, "{more:?}: {all}");
        assert!(all["layers"]["first_beyond"].is_null(), "{more:?}: {all}");
    };
    check(&["--expected-isa", "scalar"], true);
    check(&["--expected-kv", "f32"], false);
    check(&["--reference"], false);
}

#[test]
fn logits_from_elsewhere_are_a_side() {
    let (model, logits) = (golden("moes-f32.gguf"), golden("moes-f32.npy"));
    let tokens = golden("moes.tokens.json");
    let args = ["compare", &logits, &model, "--tokens-file", &tokens, "--kv-type", "f32", "--json"];
    let all = qwire(&args).json();
    assert_eq!(all["logits"]["top1_same"], 300, "{all}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (moe, dense) = (golden("moes-f32.gguf"), golden("dense2-f32.gguf"));
    let logits = golden("moes-f32.npy");
    let check = |code, args: &[&str], words: &[&str]| {
        qwire(&[&["compare"], args].concat()).fails(code, words);
    };
    check(2, &[&moe], &["both sides would be the same"]);
    check(2, &[&logits, &moe], &["at tokens that are known"]);
    check(2, &[&logits, &moe, "--layers", "--tokens", "1"], &["has no layers"]);
    check(1, &[&moe, &dense, "--tokens", "1", "--layers"], &["differ in shape"]);
    check(1, &[&moe, "--reference", "--tokens", "999"], &["token 999"]);
}
