//! The compilers for kernels: pinned packages for Python, installed below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler whose output ships, and the assembler that judges it for every target.
const PACKAGES: [&str; 2] = ["nvidia-cuda-nvrtc-cu12==12.4.127", "nvidia-cuda-nvcc-cu12==12.9.86"];

/// Where the two are.
pub struct Toolchain {
    /// The library of the compiler.
    pub nvrtc: PathBuf,
    /// The assembler.
    pub ptxas: PathBuf,
}

/// Installs what is not there yet.
pub fn install(root: &Path) -> Result<Toolchain, String> {
    let folder = root.join("target/cuda-toolchain");
    let stamp = folder.join("packages");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&PACKAGES.join("\n")) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip = folder.join("bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "--no-deps"]).args(PACKAGES))?;
        fs::write(&stamp, PACKAGES.join("\n")).map_err(|error| error.to_string())?;
    }
    let nvidia = packages(&folder)?.join("nvidia");
    let nvrtc = nvidia.join("cuda_nvrtc/lib/libnvrtc.so.12");
    let ptxas = nvidia.join("cuda_nvcc/bin/ptxas");
    for path in [&nvrtc, &ptxas] {
        if !path.is_file() {
            return Err(format!("{} is not in the packages", path.display()));
        }
    }
    Ok(Toolchain { nvrtc, ptxas })
}

/// The folder of a virtual environment that holds packages.
fn packages(folder: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder.join("lib")).map_err(|error| error.to_string())?;
    let folders = entries.flatten().map(|entry| entry.path().join("site-packages"));
    folders.into_iter().find(|path| path.is_dir()).ok_or("no site-packages were made".into())
}

/// Runs a command to its end; what it said on failure.
pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{name} failed:\n{said}")) }
}
