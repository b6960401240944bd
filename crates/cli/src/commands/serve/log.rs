//! Log: lines on stderr, to read or to be read by programs.

use std::io::{self, IsTerminal};

use tracing_subscriber::fmt;

use super::options::{Journal, LogForm};

/// Whatever is traced from here on goes to stderr.
pub fn start(options: &Journal, colour: bool) {
    let lines = fmt::Subscriber::builder()
        .with_max_level(options.log)
        .with_target(false)
        .with_ansi(colour && io::stderr().is_terminal())
        .with_writer(io::stderr);
    match options.log_format {
        LogForm::Text => lines.compact().init(),
        LogForm::Json => lines.json().flatten_event(true).init(),
    }
}
