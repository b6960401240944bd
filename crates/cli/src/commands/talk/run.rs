//! `qwire run`: one prompt, one answer.
//!
//! ```text
//! arguments, files, stdin ── prompt ──► ids ──┐
//! flags, metadata ──────── sampling ──────────┤
//! shape, free memory ───── plan ── backend ───┴─► Speaker ── text ──► stdout
//! ```
//! Everything that can be refused is refused before the weights are touched.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use qwire_text::Vocabulary;

use super::SpeakerArgs;
use super::answer::{Answer, Reason};
use super::prompt::{self, PromptArgs};
use super::speaker::{Ear, Expected, Speaker};
use crate::commands::loading::Opened;
use crate::config::Environment;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// Answer a prompt
#[derive(Args)]
#[command(after_help = "\
The prompt is put into the model's own chat template, unless --raw. The answer streams to stdout,
everything else goes to stderr. Ctrl-C ends it with what there is (exit code 130). How tokens are
chosen is taken from the model's file, else as Qwen recommends: --temp 0.7 --top-k 20 --top-p 0.8.

Of two words the first is MODEL. A word alone is MODEL where it is a path that exists or ends in
.gguf, else it is PROMPT, for the small model in the binary.

Examples:
  qwire run \"How do I start the server?\"
  qwire run model.gguf \"Why is the sky blue?\"
  qwire run model.gguf \"Explain this:\" -f main.rs --temp 0
  echo \"Once upon a time\" | qwire run model.gguf --raw -n 200
  qwire run model.gguf \"Name a prime\" --json --logprobs 3")]
pub struct RunArgs {
    /// The model, or its first file (NAME-00001-of-00005.gguf) [default: the small one in the
    /// binary]
    model: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    speaker: SpeakerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is printed.
#[derive(Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    json: bool,
    /// With each token its log-probability and the N likeliest alternatives
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    /// Nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

impl RunArgs {
    /// MODEL and PROMPT, told apart where there is one word.
    fn words(&self) -> Result<(Option<&Path>, Option<&str>), Failure> {
        match (self.model.as_deref(), self.prompt.prompt()) {
            (Some(word), None) if !is_model(word) => {
                let text = word.to_str().ok_or_else(|| Failure::usage("PROMPT is not UTF-8 text"));
                Ok((None, Some(text?)))
            }
            words => Ok(words),
        }
    }
}

/// Whether a word alone names a model.
fn is_model(word: &Path) -> bool {
    word.exists() || word.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// Runs the command.
pub fn run(args: &RunArgs, environment: &Environment) -> Result<u8, Failure> {
    let (path, words) = args.words()?;
    let OutputArgs { json, logprobs, quiet } = args.output;
    let interrupt = Interrupt::install()?;
    let model = Opened::given(path, quiet)?;
    let metadata = model.file.metadata();
    let vocabulary = Vocabulary::from_gguf(metadata)
        .map_err(|error| Failure::from(error).in_file(&model.path))?;
    let ids = prompt::ids(&args.prompt, words, &model.path, metadata, &vocabulary)?;
    let expected = Expected::one(ids.len(), &args.speaker, &model.shape);
    let place = (environment, &interrupt, quiet);
    let mut speaker = Speaker::load(&model, &vocabulary, &args.speaker, &expected, place)?;

    let prompt_tokens = ids.len();
    let mut answer = Answer::new(&vocabulary, &args.speaker.length.stop, logprobs.is_some());
    let mut print = |text: &str| if json { Ok(()) } else { print(text) };
    let outcome = speaker
        .answer(ids, &mut answer, &mut Ear { text: &mut print, logprobs })
        .map_err(|failure| failure.in_file(&model.path))?;
    if json {
        let line = answer.report(&outcome, prompt_tokens, speaker.seed())?;
        self::print(&line)?;
    } else if !answer.text().ends_with('\n') {
        self::print("\n")?;
    }
    if !quiet {
        eprintln!("{}", outcome.clock.line(prompt_tokens, answer.len()));
    }
    Ok(match outcome.reason {
        Reason::Interrupted => interrupt.code().unwrap_or(130),
        _ => 0,
    })
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_alone_is_a_model_where_it_looks_like_one() {
        for model in [env!("CARGO_MANIFEST_DIR"), "no/such.gguf", "typo.GGUF", "."] {
            assert!(is_model(Path::new(model)), "{model}");
        }
        for prompt in ["How do I start?", "", "What is a .gguf file?", "hello", "a\nb"] {
            assert!(!is_model(Path::new(prompt)), "{prompt}");
        }
    }
}
