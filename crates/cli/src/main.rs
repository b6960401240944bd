//! The binary of the command line, which is the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    qwire::main()
}
