//! `qwire chat`: a conversation, line by line.
//!
//! ```text
//! terminal or pipe ── Input ─┬─ /word ── Order ──► Conversation
//!                            └─ text ──► Conversation ── prompt ── Speaker ── Screen ──► stdout
//! ```
//! Answers go to stdout; everything else that is said goes to stderr.

mod conversation;
mod input;
mod order;
mod screen;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use qwire_text::{ChatTemplate, Vocabulary};

use super::SpeakerArgs;
use super::answer::{Answer, Reason};
use super::prompt::TemplateArgs;
use super::speaker::{Ear, Expected, Speaker};
use crate::commands::loading::Opened;
use crate::config::Environment;
use crate::failure::Failure;
use crate::quantity::grouped;
use crate::signals::{CTRL_C, Interrupt};
use conversation::Conversation;
use input::{Input, Line};
use order::Order;
use screen::Screen;

/// Talk with a model
#[derive(Args)]
#[command(after_help = "\
A line is a message. A message of several lines has a backslash at the end of each but the last, or
stands between two \"\"\". Ctrl-C ends an answer, Ctrl-D the conversation. /help lists what else can
be said. Where stdin is no terminal, its lines are the messages and stdout has the answers.

Examples:
  qwire chat
  qwire chat model.gguf --system \"You are terse.\"
  printf 'My name is Ada.\\nWho am I?\\n' | qwire chat model.gguf --quiet")]
pub struct ChatArgs {
    /// The model, or its first file (NAME-00001-of-00005.gguf) [default: the small one in the
    /// binary]
    model: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    speaker: SpeakerArgs,
    /// Do not keep what is typed for the next time
    #[arg(long, help_heading = "Input")]
    no_history: bool,
    /// Nothing on stderr but errors
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

/// A conversation under way.
struct Chat<'a> {
    args: &'a ChatArgs,
    vocabulary: &'a Vocabulary,
    template: &'a ChatTemplate,
    interrupt: &'a Interrupt,
    colour: bool,
    speaker: Speaker,
    conversation: Conversation,
    /// What the last answer took.
    stats: Option<Stats>,
}

/// What an answer took.
struct Stats {
    prompt_tokens: usize,
    cached_tokens: usize,
    answer_tokens: usize,
    line: String,
}

/// Runs the command.
pub fn chat(args: &ChatArgs, environment: &Environment) -> Result<u8, Failure> {
    let interrupt = Interrupt::install()?;
    let model = Opened::given(args.model.as_deref(), args.quiet)?;
    let metadata = model.file.metadata();
    let in_file = |failure: Failure| failure.in_file(&model.path);
    let vocabulary = Vocabulary::from_gguf(metadata).map_err(|error| in_file(error.into()))?;
    let template = ChatTemplate::from_gguf(metadata, &vocabulary);
    let template = template.map_err(|error| in_file(error.into()))?.ok_or_else(|| {
        let hint = "`qwire run --raw` continues a text without one";
        in_file(Failure::new("the model has no chat template")).hint(hint)
    })?;
    let source = metadata.str("tokenizer.chat_template").ok().flatten().unwrap_or_default();
    let place = (environment, &interrupt, args.quiet);
    let expected = Expected::any(&args.speaker, &model.shape);
    let mut chat = Chat {
        args,
        vocabulary: &vocabulary,
        template: &template,
        interrupt: &interrupt,
        colour: environment.colour && io::stdout().is_terminal(),
        speaker: Speaker::load(&model, &vocabulary, &args.speaker, &expected, place)?,
        conversation: Conversation::new(args.template.system.clone(), source, &vocabulary),
        stats: None,
    };
    let history = environment.history.as_ref().filter(|_| !args.no_history);
    let mut input = Input::open(history.map(|folder| folder.join("qwire/chat")))?;
    if !args.quiet && input.is_terminal() {
        eprintln!("/help says what can be said; Ctrl-D ends");
    }
    chat.converse(&mut input)
}

impl Chat<'_> {
    /// Takes lines to the end. A pipe ends with 1 where a message got no answer, since nobody saw
    /// it happen.
    fn converse(&mut self, input: &mut Input) -> Result<u8, Failure> {
        let mut failed = false;
        loop {
            let prompt = self.conversation.awaited().map(|name| format!("result of {name}> "));
            let waiting = self.interrupt.at_once()?;
            let line = input.read(prompt.as_deref().unwrap_or("> "))?;
            drop(waiting);
            let outcome = match line {
                Line::End => break,
                Line::Dropped => continue,
                Line::Text(text) => match Order::of(&text) {
                    None => self.hear(&text),
                    Some(Ok(Order::Exit)) => break,
                    Some(Ok(order)) => self.obey(order),
                    Some(Err(failure)) => Err(failure),
                },
            };
            if let Err(failure) = outcome {
                if failure.is_silent() {
                    return Err(failure);
                }
                failure.tell(self.colour);
                failed = true;
            }
            match self.interrupt.code() {
                None => {}
                Some(CTRL_C) if input.is_terminal() => self.interrupt.calm(),
                Some(code) => return Ok(code),
            }
        }
        Ok(u8::from(failed && !input.is_terminal()))
    }

    /// A message, or the result of a call that waits for it. Without an answer it is taken back.
    fn hear(&mut self, text: &str) -> Result<(), Failure> {
        let before = self.conversation.len();
        self.conversation.say(text);
        if self.conversation.awaited().is_some() {
            return Ok(());
        }
        let answered = self.answer();
        if !matches!(answered, Ok(true)) {
            self.conversation.truncate(before);
        }
        answered.map(|_| ())
    }

    /// Has the model speak; whether it said anything.
    fn answer(&mut self) -> Result<bool, Failure> {
        let switches = self.args.template.variables();
        let prompt = self.conversation.prompt(self.template, self.vocabulary, &switches)?;
        let prompt_tokens = prompt.ids.len();
        let reader = self.conversation.reader(&prompt.text);
        let mut screen = Screen::new(reader, self.colour, self.args.quiet);
        let mut answer = Answer::new(self.vocabulary, &self.args.speaker.length.stop, false);
        let mut show = |text: &str| screen.push(text);
        let mut ear = Ear { text: &mut show, logprobs: None };
        let outcome = self.speaker.answer(prompt.ids, &mut answer, &mut ear).map_err(room)?;
        let answer_tokens = answer.len();
        let said = screen.finish(outcome.reason == Reason::Stop)?;
        self.note(outcome.reason, prompt_tokens + answer_tokens);
        let line = outcome.clock.line(prompt_tokens - outcome.cached_tokens, answer_tokens);
        let cached_tokens = outcome.cached_tokens;
        self.stats = Some(Stats { prompt_tokens, cached_tokens, answer_tokens, line });
        Ok(self.conversation.answered(said))
    }

    /// Why an answer did not come to its own end.
    fn note(&self, reason: Reason, tokens: usize) {
        let why = match reason {
            Reason::Stop => return,
            Reason::Interrupted => "interrupted".to_string(),
            Reason::Length if tokens >= self.speaker.context => {
                let context = grouped(self.speaker.context as u64);
                format!("the context of {context} tokens is full; /reset begins anew")
            }
            Reason::Length => "cut off by --max-tokens".into(),
        };
        eprintln!("[{why}]");
    }

    /// The numbers of the conversation.
    fn stats(&self) -> String {
        let context = grouped(self.speaker.context as u64);
        let Some(stats) = &self.stats else {
            return format!("nothing was said yet; the context holds {context} tokens");
        };
        let Stats { prompt_tokens, cached_tokens, answer_tokens, line } = stats;
        let used = grouped((prompt_tokens + answer_tokens) as u64);
        let [cached, read] =
            [*cached_tokens, prompt_tokens - cached_tokens].map(|tokens| grouped(tokens as u64));
        format!(
            "context {used} of {context} tokens · last prompt {cached} cached, {read} new\n{line}"
        )
    }
}

/// In a conversation there is another way to make room.
fn room(failure: Failure) -> Failure {
    if failure.message().contains("the context holds") {
        return failure.hint("/reset begins a new conversation; --ctx gives a larger one");
    }
    failure
}
