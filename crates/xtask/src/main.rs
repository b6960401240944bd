//! Chores of those who work on qwire; nobody who only builds or runs it needs them.
//!
//! ```text
//! cargo xtask kernels           compiles crates/backend-cuda/kernels to PTX
//! cargo xtask kernels --check   the same, and fails where what is committed differs
//! ```

mod kernels;
mod nvrtc;
mod ptxas;
mod toolchain;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask kernels [--check]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["kernels"] => kernels::write(),
        ["kernels", "--check"] => kernels::check(),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
