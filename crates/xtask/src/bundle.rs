//! The bundle: all that a machine with a card needs to be measured, in one archive.
//!
//! ```text
//! qwire-gpu/bin/qwire         the release binary, which has the CUDA kernels in it
//! qwire-gpu/bin/qwire-xtask   makes the table
//! qwire-gpu/tools/gpu-run.sh  measures
//! qwire-gpu/contracts         what is promised, to read
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kernels::root;
use crate::toolchain::run;

/// What machines are lent for takes no more.
const MOST_BYTES: u64 = 64 << 20;

const FILES: [(&str, &str); 3] = [
    ("target/release/qwire", "bin/qwire"),
    ("target/release/qwire-xtask", "bin/qwire-xtask"),
    ("tools/gpu-run.sh", "tools/gpu-run.sh"),
];

/// Builds and packs; where the archive is, and its length.
pub fn build() -> Result<(PathBuf, u64), String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--locked",
        "--release",
        "--package",
        "qwire",
        "--package",
        "qwire-xtask",
    ]);
    run(cargo.current_dir(root()))?;
    let folder = root().join("target/gpu-bundle");
    let inside = folder.join("qwire-gpu");
    let fault = |path: &Path| format!("{}: no room, or not allowed", path.display());
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to)
            .map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
    };
    for part in ["bin", "tools", "contracts"] {
        let part = inside.join(part);
        fs::create_dir_all(&part).map_err(|_| fault(&part))?;
    }
    for (from, to) in FILES {
        copy(&root().join(from), &inside.join(to))?;
    }
    let contracts = fs::read_dir(root().join("contracts")).map_err(|error| error.to_string())?;
    for entry in contracts.flatten() {
        copy(&entry.path(), &inside.join("contracts").join(entry.file_name()))?;
    }
    let archive = folder.join("qwire-gpu.tar.gz");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--file"]).arg(&archive).arg("--directory").arg(&folder);
    run(tar.arg("qwire-gpu"))?;
    let len = fs::metadata(&archive).map_err(|error| error.to_string())?.len();
    if len > MOST_BYTES {
        return Err(format!("{}: {len} bytes; accepted: {MOST_BYTES}", archive.display()));
    }
    Ok((archive, len))
}
