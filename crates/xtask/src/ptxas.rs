//! ptxas: code of a target from PTX, and what its kernels take, as the assembler says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::toolchain::{Toolchain, run};

/// Cards from an A100 to an RTX 5090.
pub const TARGETS: [&str; 5] = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_120"];

/// What one kernel takes on one target.
#[derive(Debug, PartialEq)]
pub struct Usage {
    /// Its name.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: usize,
    /// Bytes of stack and of registers that were spilled.
    pub spilled: usize,
    /// Bytes of shared memory of a block.
    pub shared: usize,
}

/// One file on one target.
pub struct Assembled {
    /// Its code.
    pub cubin: Vec<u8>,
    /// What each kernel takes.
    pub usage: Vec<Usage>,
}

/// Assembles a file for a target; the code lies beside it for a moment.
pub fn assemble(toolchain: &Toolchain, target: &str, ptx: &Path) -> Result<Assembled, String> {
    let output = ptx.with_extension("cubin");
    let mut command = Command::new(&toolchain.ptxas);
    command.args(["--verbose", "--gpu-name", target, "--output-file"]).arg(&output).arg(ptx);
    let said = run(&mut command)?;
    let usage = read(&said);
    if usage.is_empty() {
        return Err(format!("ptxas said nothing of a kernel:\n{said}"));
    }
    let cubin = fs::read(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    Ok(Assembled { cubin, usage })
}

/// Reads the numbers before a unit: all of them, summed.
fn sum(line: &str, unit: &str) -> usize {
    let before = line.match_indices(unit).map(|(at, _)| &line[..at]);
    let number = |text: &str| text.trim_end().rsplit([' ', ',']).next()?.parse::<usize>().ok();
    before.filter_map(number).sum()
}

fn read(said: &str) -> Vec<Usage> {
    let mut found: Vec<Usage> = Vec::new();
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap_or(rest).to_string();
            found.push(Usage { kernel, registers: 0, spilled: 0, shared: 0 });
        }
        let Some(usage) = found.last_mut() else { continue };
        usage.spilled += sum(line, "bytes stack frame")
            + sum(line, "bytes spill stores")
            + sum(line, "bytes spill loads");
        if line.contains("registers") {
            usage.registers = sum(line, "registers");
            usage.shared = sum(line, "bytes smem");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read() {
        let said = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'norm' for 'sm_80'\n\
            ptxas info    : Function properties for norm\n    \
            8 bytes stack frame, 4 bytes spill stores, 2 bytes spill loads\n\
            ptxas info    : Used 40 registers, used 1 barriers, 64 bytes smem, 464 bytes cmem[0]\n";
        let norm = Usage { kernel: "norm".into(), registers: 40, spilled: 14, shared: 64 };
        assert_eq!(read(said), [norm]);
    }
}
