//! Chores of those who work on qwire; nobody who only builds or runs it needs them.
//!
//! ```text
//! cargo xtask kernels           compiles crates/backend-cuda/kernels to PTX
//! cargo xtask kernels --check   the same, and fails where what is committed differs
//! ```
//! Exit status: 0 done, 1 failed, 3 the compilers cannot be installed here.

mod kernels;
mod nvrtc;
mod ptxas;
mod toolchain;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask kernels [--check]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let checks = match args[..] {
        ["kernels"] => false,
        ["kernels", "--check"] => true,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let toolchain = match toolchain::install(kernels::root()) {
        Ok(toolchain) => toolchain,
        Err(problem) => {
            eprintln!("error: the compilers cannot be installed: {problem}");
            return ExitCode::from(3);
        }
    };
    match if checks { kernels::check(&toolchain) } else { kernels::write(&toolchain) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
