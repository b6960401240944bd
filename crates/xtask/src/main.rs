//! Chores of those who work on qwire; nobody who only builds or runs it needs them.
//!
//! ```text
//! cargo xtask kernels           compiles crates/backend-cuda/kernels to PTX and cubins
//! cargo xtask kernels --check   the same, and fails where what is committed differs
//! cargo xtask card              the CPU in place of a card: the folder for LD_LIBRARY_PATH
//! cargo xtask gpu-bundle        what a machine with a card needs, in one archive
//! cargo xtask gpu-slowest PARTS NAME, gpu-metrics
//!                               what Nsight Compute is to look at, and for
//! cargo xtask gpu-table PARTS OUT DEPTHS PROMPTS DATE [--rehearsed]
//!                               what `tools/gpu-run.sh` has found, as table.md and samples.json
//! ```
//! Exit status: 0 done, 1 failed, 3 the compilers cannot be installed here.

#[path = "../../backend-cuda/src/archive.rs"]
mod archive;
mod bundle;
mod card;
#[path = "../../backend-cuda/tests/shim/compiler.rs"]
mod compiler;
mod counters;
mod kernels;
mod nvrtc;
mod parts;
mod ptxas;
mod table;
mod toolchain;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use parts::{Part, Parts};
use serde_json::{Map, json};
use table::{Order, Table};

const USAGE: &str = "usage: cargo xtask kernels [--check] | card | gpu-bundle";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["kernels"] => return compiled(false),
        ["kernels", "--check"] => return compiled(true),
        ["card"] => card::build().map(|folder| println!("{}", folder.display())),
        ["gpu-bundle"] => bundle::build().map(|(archive, len)| {
            println!("{}: {:.1} MB", archive.display(), len as f64 / 1e6);
        }),
        ["gpu-slowest", parts, name] => Parts::read(Path::new(parts))
            .map(|parts| println!("{}", counters::slowest(&parts.get(name)))),
        ["gpu-metrics"] => {
            println!("{}", counters::METRICS.join(","));
            Ok(())
        }
        ["gpu-table", parts, out, depths, prompts, date, ref rest @ ..] => {
            let rehearsed = rest == ["--rehearsed"];
            order(depths, prompts, rehearsed).and_then(|order| write(parts, out, order, date))
        }
        _ => Err(USAGE.into()),
    };
    ended(done)
}

fn ended(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn compiled(checks: bool) -> ExitCode {
    match toolchain::install(kernels::root()) {
        Ok(toolchain) if checks => ended(kernels::check(&toolchain)),
        Ok(toolchain) => ended(kernels::write(&toolchain)),
        Err(problem) => {
            eprintln!("error: the compilers cannot be installed: {problem}");
            ExitCode::from(3)
        }
    }
}

/// Numbers with commas between.
fn order(depths: &str, prompts: &str, rehearsed: bool) -> Result<Order, String> {
    let numbers = |text: &str| {
        let number = |word: &str| word.parse().map_err(|_| format!("`{word}` is no number"));
        text.split(',').map(number).collect::<Result<Vec<u64>, String>>()
    };
    Ok(Order { depths: numbers(depths)?, prompts: numbers(prompts)?, rehearsed })
}

/// The table and all samples; an error where a row failed.
fn write(parts: &str, out: &str, order: Order, date: &str) -> Result<(), String> {
    let (parts, out) = (Parts::read(Path::new(parts))?, Path::new(out));
    let table = Table { parts: &parts, order };
    let keep = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let page = table.page(date);
    print!("{page}");
    keep("table.md", page)?;
    let sample = |part: &Part| (part.name.clone(), part.sample());
    let samples: Map<_, _> = parts.0.iter().map(sample).collect();
    let all = json!({ "date": date, "rehearsed": table.is_rehearsed(), "parts": samples });
    keep("samples.json", format!("{all:#}\n"))?;
    match table.failures() {
        0 => Ok(()),
        failures => Err(format!("{failures} rows of the table failed")),
    }
}
