//! Screen: an answer as it is shown: text plainly, thoughts and calls apart from it.

use std::io::{self, IsTerminal, Write};

use qwire_text::tools::{Ending, Part, Reader};
use serde_json::Value;

use crate::failure::Failure;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// What the model said.
#[derive(Default)]
pub struct Said {
    pub text: String,
    pub thoughts: String,
    /// Name and arguments of calls that are whole.
    pub calls: Vec<(String, Value)>,
}

/// An answer that is being shown.
pub struct Screen {
    reader: Reader,
    said: Said,
    /// The call under way.
    call: Option<(String, String)>,
    /// What is being written.
    voice: Voice,
    /// The last character that was written to stdout.
    last: char,
    colour: bool,
    /// Nothing but the text, where there is no terminal.
    quiet: bool,
    is_terminal: bool,
}

/// How a piece is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Voice {
    Text,
    Aside,
}

impl Said {
    /// Whether it was nothing.
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.calls.is_empty()
    }
}

impl Screen {
    /// An empty screen.
    pub fn new(reader: Reader, colour: bool, quiet: bool) -> Self {
        Self {
            reader,
            said: Said::default(),
            call: None,
            voice: Voice::Text,
            last: '\n',
            colour,
            quiet,
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// Shows the next piece.
    pub fn push(&mut self, text: &str) -> Result<(), Failure> {
        self.reader.push(text).into_iter().try_for_each(|part| self.show(part))
    }

    /// Shows what was held back, and ends the line.
    pub fn finish(mut self, natural: bool) -> Result<Said, Failure> {
        let how = if natural { Ending::Natural } else { Ending::Cut };
        let rest = self.reader.finish(how);
        rest.into_iter().try_for_each(|part| self.show(part))?;
        self.begin(Voice::Text)?;
        if self.last != '\n' {
            self.write("\n")?;
        }
        Ok(self.said)
    }

    fn show(&mut self, part: Part) -> Result<(), Failure> {
        match part {
            Part::Text(text) => {
                self.begin(Voice::Text)?;
                self.said.text.push_str(&text);
                self.write(&text)
            }
            Part::Reasoning(text) => {
                self.begin(Voice::Aside)?;
                self.said.thoughts.push_str(&text);
                self.write(&text)
            }
            Part::CallStart { name, .. } => {
                self.begin(Voice::Aside)?;
                if self.last != '\n' {
                    self.write("\n")?;
                }
                self.write(&format!("{name}("))?;
                self.call = Some((name, String::new()));
                Ok(())
            }
            Part::CallArguments { fragment, .. } => {
                if let Some((_, arguments)) = &mut self.call {
                    arguments.push_str(&fragment);
                }
                self.write(&fragment)
            }
            Part::CallEnd { .. } => {
                if let Some((name, arguments)) = self.call.take() {
                    let arguments = serde_json::from_str(&arguments).unwrap_or_default();
                    self.said.calls.push((name, arguments));
                }
                self.write(")\n")
            }
        }
    }

    /// Changes the voice, on a line of its own.
    fn begin(&mut self, voice: Voice) -> Result<(), Failure> {
        if self.voice == voice {
            return Ok(());
        }
        if self.last != '\n' {
            self.write("\n")?;
        }
        self.voice = voice;
        if self.colour && self.is_terminal {
            io::stdout().write_all(if voice == Voice::Aside { DIM } else { PLAIN }.as_bytes())?;
        }
        Ok(())
    }

    /// To a terminal goes nothing that would move its cursor or change its colours. In a pipe
    /// stdout has the text alone.
    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.last = text.chars().next_back().unwrap_or(self.last);
        if self.is_terminal {
            let tame = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
            let text: String = text.chars().filter(tame).collect();
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            return Ok(out.flush()?);
        }
        if self.voice == Voice::Aside {
            if !self.quiet {
                eprint!("{text}");
            }
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}
