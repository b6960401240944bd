//! Compiler: the kernels as C++ for the CPU, behind `shim.h`, as a library. `cargo xtask card` has
//! this file in too.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FLAGS: [&str; 8] = [
    "-std=c++17",
    "-O2",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-w",
    "-fvisibility=hidden",
    "-shared",
    "-fPIC",
];

/// How compiling went.
pub enum Compiled {
    /// The library is there.
    Done,
    /// It cannot be had here, and why.
    Absent(String),
    /// What the compiler says of the sources.
    Refused(String),
}

/// The whole source, in which a line knows its file.
fn source(root: &Path, last: Option<&str>) -> Result<String, String> {
    let kernels = root.join("kernels");
    let entries = fs::read_dir(&kernels).map_err(|error| error.to_string())?;
    let mut ops: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    ops.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    // The prelude comes before the ops, whatever its name.
    ops.sort_by_key(|path| (!path.ends_with("prelude.cu"), path.clone()));
    let mut all = String::new();
    let shim = root.join("tests/shim/shim.h");
    for path in std::iter::once(shim).chain(ops).chain(last.map(|last| root.join(last))) {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        all.extend([format!("#line 1 \"{}\"\n", path.display()), text]);
    }
    Ok(all.replace("#pragma once", ""))
}

/// Compiles the kernels of the crate at `root` and one more file behind them. Whoever asks for a
/// library of its name later gets this one, if it is loaded.
pub fn compile(root: &Path, last: Option<&str>, library: &Path) -> Compiled {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Compiled::Absent("the shim switches fibers on x86-64 Linux only".into());
    }
    let code = library.with_extension("cpp");
    let written = source(root, last)
        .and_then(|text| fs::write(&code, text).map_err(|e| format!("{}: {e}", code.display())));
    if let Err(fault) = written {
        return Compiled::Refused(fault);
    }
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
    let mut command = Command::new(&compiler);
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    command.args(FLAGS).args(["-march=native", &format!("-Wl,-soname,{name}"), "-o"]);
    command.arg(library).arg(&code).arg("-ldl");
    match command.output() {
        Err(error) => Compiled::Absent(format!("no C++ compiler `{compiler}` ({error})")),
        Ok(output) if output.status.success() => Compiled::Done,
        Ok(output) => Compiled::Refused(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
