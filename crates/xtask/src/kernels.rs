//! Kernels: every `.cu` file behind the prelude to PTX, and from there to code of each target,
//! which is judged.

use std::fs;
use std::path::{Path, PathBuf};

use crate::archive;
use crate::nvrtc::Nvrtc;
use crate::ptxas::{Assembled, TARGETS, Usage, assemble};
use crate::toolchain::Toolchain;

/// Registers of a multiprocessor that one block may take at most, so that two blocks fit.
const REGISTERS: usize = 65_536 / 2;
/// Shared memory of a block that needs no permission.
const SHARED_BYTES: usize = 48 << 10;

/// One op: its name, its source behind the prelude.
struct Op {
    name: String,
    source: String,
}

/// The repository.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("crates/xtask")
}

fn folder() -> PathBuf {
    root().join("crates/backend-cuda/kernels")
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// All ops, by name.
fn ops() -> Result<Vec<Op>, String> {
    let prelude = read(&folder().join("prelude.cu"))?;
    let entries = fs::read_dir(folder()).map_err(|error| error.to_string())?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".cu")?.to_string()))
        .filter(|name| name != "prelude")
        .collect();
    names.sort();
    let op = |name: String| {
        let body = read(&folder().join(format!("{name}.cu")))?;
        let source = format!("{prelude}#line 1 \"{name}.cu\"\n{body}");
        Ok(Op { name, source })
    };
    names.into_iter().map(op).collect()
}

/// Compiles everything and replaces what is there.
pub fn write(toolchain: &Toolchain) -> Result<(), String> {
    each(toolchain, |path, bytes| {
        fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
    })
}

/// Compiles everything and compares.
pub fn check(toolchain: &Toolchain) -> Result<(), String> {
    each(toolchain, |path, bytes| {
        if fs::read(path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        let differs = "is not what the sources give; run `cargo xtask kernels` and commit it";
        Err(format!("{} {differs}", path.display()))
    })
}

/// Compiles and judges each op, and hands its PTX to `keep`, at last the cubins of all.
fn each(
    toolchain: &Toolchain,
    keep: impl Fn(&Path, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let nvrtc = Nvrtc::open(&toolchain.nvrtc)?;
    let scratch = root().join("target/cuda-toolchain");
    println!("{:20} {:>8} registers of a thread, bytes of shared memory", "kernel", "target");
    let mut cubins = Vec::new();
    for op in ops()? {
        let ptx = nvrtc.compile(&format!("{}.cu", op.name), &op.source)?;
        let file = scratch.join(format!("{}.ptx", op.name));
        fs::write(&file, &ptx).map_err(|error| error.to_string())?;
        for target in TARGETS {
            let Assembled { cubin, usage } = assemble(toolchain, target, &file)?;
            judge(target, &usage, &ptx)?;
            cubins.push((format!("{}.{target}", op.name), cubin));
        }
        keep(&folder().join(format!("ptx/{}.ptx", op.name)), ptx.as_bytes())?;
    }
    let packed = archive::pack(&cubins);
    if archive::unpack(&packed) != cubins {
        return Err("the archive of cubins does not give back what went into it".into());
    }
    let whole: usize = cubins.iter().map(|cubin| cubin.1.len()).sum();
    println!("{} cubins of {whole} bytes, {} in their archive", cubins.len(), packed.len());
    keep(&folder().join("cubins.bin"), &packed)
}

/// Threads of a kernel's block, as PTX declares them.
fn threads(ptx: &str, kernel: &str) -> Option<usize> {
    let (_, rest) = ptx.split_once(&format!(".entry {kernel}("))?;
    let (_, rest) = rest.split_once(".maxntid ")?;
    rest.split(',').next()?.trim().parse().ok()
}

/// Says what each kernel takes; an error where that is too much.
fn judge(target: &str, usage: &[Usage], ptx: &str) -> Result<(), String> {
    for Usage { kernel, registers, spilled, shared } in usage {
        println!("{kernel:20} {target:>8} {registers:9} {shared:6}");
        let threads = threads(ptx, kernel).ok_or(format!("{kernel}: no bound of threads"))?;
        let most = if threads == 1024 { 2 * REGISTERS } else { REGISTERS } / threads;
        if *spilled > 0 || *registers > most || *shared > SHARED_BYTES {
            return Err(format!(
                "{kernel} on {target}: {registers} registers, {spilled} bytes of stack and \
                 spills, {shared} bytes of shared memory; accepted: {most}, 0, {SHARED_BYTES}"
            ));
        }
    }
    Ok(())
}
