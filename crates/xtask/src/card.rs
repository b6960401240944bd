//! Card: the CPU in place of one, as a library that the binary takes for the CUDA driver.

use std::fs;
use std::path::PathBuf;

use crate::compiler::{self, Compiled};
use crate::kernels::root;

/// Compiles it; the folder to name in `LD_LIBRARY_PATH`.
pub fn build() -> Result<PathBuf, String> {
    let folder = root().join("target/card");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let kernels = root().join("crates/backend-cuda");
    let library = folder.join("libcuda.so");
    match compiler::compile(&kernels, Some("tests/card/card.cpp"), &library) {
        Compiled::Done => Ok(folder),
        Compiled::Absent(why) => Err(format!("the CPU cannot stand for a card: {why}")),
        Compiled::Refused(complaint) => Err(complaint),
    }
}
