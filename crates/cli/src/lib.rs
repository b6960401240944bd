//! qwire: the command line. Reads arguments, runs one command, ends with its exit code.
//!
//! The binary is [`main`] alone; this is a library so that fuzz targets reach its readers of files.
//!
//! ```text
//! 0  done        1  failed: one `error:` line, perhaps a `hint:`        2  not understood
//! 130  interrupted, what was done so far is on stdout                   70 broken within
//! ```

mod arguments;
mod backend;
mod commands;
mod config;
mod draft;
mod failure;
mod memory;
mod progress;
mod quantity;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
pub use commands::readers;
use config::Environment;

/// Run Qwen mixture-of-experts models on your own machine, the same bits every time
#[derive(Parser)]
#[command(version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(args_override_self = true)]
#[command(after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Models are GGUF files. The same model, prompt and seed give the same tokens, whatever the number
of threads, the instruction set or the size of the steps.

Examples:
  qwire run \"How do I start the server?\"                ask the small model in the binary
  qwire chat model.gguf                                 talk with a model
  qwire run model.gguf \"Why is the sky blue?\"           answer a question
  qwire run model.gguf \"Explain this:\" -f main.rs       ask about a file
  git diff | qwire run model.gguf --system \"Review it\"  read the prompt from a pipe
  qwire serve model.gguf                                answer clients of OpenAI's API
  qwire launch claude-code --model model.gguf           a coding agent, and a server for it
  qwire inspect model.gguf                              what is in the file, does it fit here
  qwire bench model.gguf                                how quick is it
  qwire pack model.gguf                                 spare the loading from now on

`qwire COMMAND --help` says more. Environment: QWIRE_THREADS, QWIRE_ISA, for `serve` QWIRE_ and the
name of any option; XDG_CACHE_HOME, XDG_STATE_HOME, NO_COLOR.";

/// Everything, from the arguments of the process to its exit code.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let outcome = Environment::read().and_then(|environment| command.run(&environment));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let environment = Environment::read().unwrap_or_default();
            ExitCode::from(failure.report(&environment))
        }
    }
}
