//! Unsafe code: in few files, known by name, each use with the reason why it is sound.

use crate::lexer::{Lexed, line_of};
use crate::{File, Finding, Source, words};

/// Where `unsafe` may stand, and for what.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("crates/gguf/src/mapping.rs", "maps a file into memory"),
    ("crates/kernels/src/isa.rs", "calls what the probed instruction set allows"),
    ("crates/kernels/src/lanes/avx512.rs", "vector loads and stores on checked slices"),
    ("crates/kernels/src/lanes/avx2.rs", "vector loads and stores on checked slices"),
    ("crates/kernels/src/lanes/avx_vnni.rs", "vector loads and stores on checked slices"),
    ("crates/kernels/src/lanes/heads.rs", "calls kernels of the probed instruction set"),
    ("crates/kernels/src/lanes/mod.rs", "calls kernels of the probed instruction set"),
    ("crates/kernels/src/lanes/tiles.rs", "names functions of one instruction set"),
    ("crates/kernels/src/tile/ahead.rs", "hints to the processor"),
    ("crates/kernels/benches/tiles.rs", "times the bare loop of the probed instruction set"),
    ("crates/gguf/tests/mutants.rs", "an allocator that counts"),
    ("crates/backend-cpu/src/memory.rs", "maps a sidecar into memory"),
    ("crates/backend-cpu/src/pool.rs", "threads that borrow for one phase"),
    ("crates/backend-cuda/src/driver.rs", "calls the CUDA driver"),
    ("crates/backend-cuda/src/meter.rs", "copies within a card's memory"),
    ("crates/backend-cuda/tests/card/deck.rs", "loads the CPU in place of a card"),
    ("crates/backend-cuda/tests/shim/loader.rs", "calls kernels compiled for the CPU"),
    ("crates/cli/src/signals.rs", "installs the interrupt"),
    ("crates/xtask/src/nvrtc.rs", "calls the compiler of kernels, a library of C"),
];

/// How far above `unsafe` its reason may begin, comments and attributes between not counted.
const REACH_LINES: usize = 3;

/// `unsafe` stands in the listed files only, and so does permission for it.
pub fn unsafe_is_in_known_files(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in source.rust() {
        if UNSAFE_FILES.iter().any(|row| row.0 == file.path) {
            continue;
        }
        for word in ["unsafe", "unsafe_code"] {
            for at in words(&rust.code, word) {
                let message = format!(
                    "`{word}` outside of the known files: find a safe way, or give the reason in \
                     UNSAFE_FILES of tidy"
                );
                findings.push(file.finding(line_of(&rust.code, at), message));
            }
        }
    }
    findings
}

/// Each `unsafe` has a `SAFETY` comment, or a `# Safety` section in the docs of its function.
pub fn unsafe_has_its_reason(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in source.rust() {
        for at in words(&rust.code, "unsafe") {
            let line = line_of(&rust.code, at);
            if !has_reason(file, rust, line) {
                let message = "`unsafe` without a reason: put `// SAFETY:` above it and say why \
                               it is sound";
                findings.push(file.finding(line, message));
            }
        }
    }
    findings
}

/// Looks upwards; a line of comment or attribute costs nothing, any other one step.
fn has_reason(file: &File, rust: &Lexed, line: usize) -> bool {
    let lines: Vec<&str> = file.text.lines().take(line).collect();
    let comments: Vec<&str> = rust.comments.lines().take(line).collect();
    let mut steps = 0;
    for (text, comment) in lines.iter().zip(comments).rev() {
        if comment.contains("SAFETY") || comment.contains("# Safety") {
            return true;
        }
        let text = text.trim_start();
        if !text.starts_with("//") && !text.starts_with("#[") {
            steps += 1;
        }
        if steps > REACH_LINES {
            return false;
        }
    }
    false
}

/// The listed files that are not there, which is worth seeing and no fault.
pub fn unused_permissions(source: &Source) -> Vec<&'static str> {
    let absent = UNSAFE_FILES.iter().filter(|row| !source.paths.contains(row.0));
    absent.map(|row| row.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::lines;

    #[test]
    fn unsafe_elsewhere() {
        let text = "//! unsafe\n#![expect(unsafe_code)]\nfn a() { unsafe { b(\"unsafe\") } }\n";
        assert_eq!(lines(unsafe_is_in_known_files, &[("crates/a/src/b.rs", text)]), [3, 2]);
        assert_eq!(lines(unsafe_is_in_known_files, &[(UNSAFE_FILES[0].0, text)]), []);
    }

    #[test]
    fn unsafe_without_a_reason() {
        let check = |text: &str, expected: &[usize]| {
            assert_eq!(lines(unsafe_has_its_reason, &[("a.rs", text)]), expected, "{text}");
        };
        check("unsafe {}\n", &[1]);
        check("// SAFETY: checked above.\nunsafe {}\n", &[]);
        check("// SAFETY: checked above,\n// in two lines.\nlet x =\n    unsafe {};\n", &[]);
        check("// SAFETY: far away\na\nb\nc\nunsafe {}\n", &[5]);
        check("/// # Safety\n/// a\n/// b\n/// c\n/// d\n#[inline]\nunsafe fn a() {}\n", &[]);
        check("let x = \"SAFETY\";\nunsafe {}\n", &[2]);
    }
}
