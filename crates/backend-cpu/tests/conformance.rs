//! The CPU against the reference, phase by phase.

use std::path::Path;
use std::sync::Arc;

use qwire_backend_cpu::Cpu;
use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::KvType;
use qwire_model::conformance::{self, Bounds};

fn check(file: &Arc<File>, name: &str, quantised: bool) {
    for kv in [KvType::F32, KvType::F16, KvType::I8] {
        let bounds = if quantised { Bounds::quantised(kv) } else { Bounds::float(kv) };
        for isa in Isa::available() {
            let result =
                conformance::run(file, Cpu::new(2, isa).expect("threads start"), kv, bounds);
            assert!(result.is_ok(), "{name} {kv:?} {}: {}", isa.name(), result.unwrap_err());
        }
    }
}

#[test]
fn golden_models_conform() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    for (name, quantised) in [
        ("moe-bf16", false),
        ("moes-f32", false),
        ("dense2-f32", false),
        ("moe-q4_k_m", true),
        ("moe-q8_0", true),
        ("dense3-q4_0", true),
        ("dense2-q6_k", true),
    ] {
        let file = File::open(&golden.join(format!("{name}.gguf"))).expect("a model");
        check(&Arc::new(file), name, quantised);
    }
}
