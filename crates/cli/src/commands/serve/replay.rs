//! `qwire replay`: a recorded request once more, compared token by token.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use qwire_engine::{Event, Sampled};
use qwire_kernels::NUMBERS_VERSION;
use qwire_server::Model;
use qwire_server::admin::capsule::{Capsule, Taken};
use qwire_server::admin::recorder::name;
use qwire_text::Controls;

use super::loader::{Loader, digits, identity};
use crate::arguments::{DeviceArgs, read_file, utf8};
use crate::commands::loading::Opened;
use crate::config::Environment;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// Alternatives that are looked at to say how close a token was.
const TOP: usize = 20;
/// Tokens for an answer that goes on where the recorded one ended.
const ROOM: usize = 64;

/// Answer a recorded request again, and compare every token
#[derive(Args)]
#[command(after_help = "\
`qwire serve --record DIR` keeps capsules. The same model gives the same tokens again, on any
machine, with any number of threads; where it does not, the first token that differs is named.

Exit status: 0 the same bits, 1 they differ or cannot be compared, 2 not understood.

Examples:
  qwire replay capsules/1764351730123-000001.capsule.json
  qwire replay some.capsule.json --model copy-of-the-model.gguf --threads 1")]
pub struct ReplayArgs {
    /// The capsule
    capsule: PathBuf,
    /// The model [default: where it lay when the capsule was made]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub fn replay(args: &ReplayArgs, environment: &Environment) -> Result<u8, Failure> {
    let text = utf8(read_file(&args.capsule)?, &args.capsule.to_string_lossy())?;
    let capsule = Capsule::read(&text);
    let capsule = capsule.map_err(|fault| Failure::new(fault).in_file(&args.capsule))?;
    if !capsule.is_untouched() {
        eprintln!("warning: the capsule was changed since it was written: its sum does not fit");
    }
    // The model in the binary has no path.
    let recorded = Some(capsule.path.as_path()).filter(|path| !path.as_os_str().is_empty());
    let opened = Opened::given(args.model.as_deref().or(recorded), false)?;
    let identity = digits(&identity(&opened.file));
    if identity != capsule.identity {
        let short = |identity: &str| identity.chars().take(16).collect::<String>();
        let (a, b) = (short(&capsule.identity), short(&identity));
        let theirs = &capsule.model;
        let message = format!("it was recorded with `{theirs}` ({a}), and this is another ({b})");
        let hint = "name the capsule's model with --model";
        return Err(Failure::new(message).in_file(&opened.path).hint(hint));
    }
    if capsule.numbers != NUMBERS_VERSION {
        let (theirs, build) = (capsule.numbers, &capsule.build);
        eprintln!(
            "warning: recorded by qwire {build} with numbers of version {theirs}, here they are of \
             version {NUMBERS_VERSION}: other bits are expected"
        );
    }
    let model = load(args, opened, &capsule, environment)?;
    let (theirs, ours) = (capsule.host_layers, model.facts.host_layers);
    if theirs != ours {
        eprintln!(
            "warning: recorded with the experts of {theirs} layers on the CPU, here of {ours}: \
             other bits are expected"
        );
    }
    let fault = compare(&model, &capsule)?;
    let same = fault.is_none();
    writeln!(io::stdout(), "{}", fault.unwrap_or_else(|| verdict(&capsule)))?;
    Ok(u8::from(!same))
}

/// The model as `qwire serve` loads it, for this one request.
fn load(
    args: &ReplayArgs,
    opened: Opened,
    capsule: &Capsule,
    environment: &Environment,
) -> Result<Model, Failure> {
    let longest = capsule.choices.iter().map(|taken| taken.tokens.len()).max().unwrap_or(0);
    // As much as the answer may take, but no more than it took and a little.
    let room = capsule.max_tokens.min(longest + ROOM).max(1);
    let context = (capsule.prompt.len() + room).to_string();
    let parallel = capsule.choices.len().to_string();
    let flags = ["--ctx", &context, "--parallel", &parallel, "--log", "off", "--disk-cache", "off"];
    let mut loader = Loader::flagged(opened, &flags, (environment, &Interrupt::install()?))?;
    let layers = loader.opened.shape.layers;
    loader.options.device = args.device.clone().or_host_layers(capsule.host_layers, layers);
    let named = capsule.terms["dialect"].as_str().map(str::to_owned);
    loader.options.answers.dialect = named;
    Ok(loader.load()?.model)
}

/// Where an answer parts from the recorded one.
fn compare(model: &Model, capsule: &Capsule) -> Result<Option<String>, Failure> {
    let request = capsule.request(model, TOP).map_err(Failure::new)?;
    let answer = model.service.answer(request).map_err(Failure::new)?;
    let mut heard: BTreeMap<usize, usize> = BTreeMap::new();
    let waits = |heard: &BTreeMap<usize, usize>| {
        capsule.choices.iter().enumerate().any(|(choice, taken)| {
            let tokens = heard.get(&choice).copied().unwrap_or(0);
            tokens < taken.tokens.len() || (tokens == taken.tokens.len() && taken.finish.is_some())
        })
    };
    while waits(&heard) {
        let lost = |_| Failure::broken("the engine ended before the answer did");
        let (choice, event) = answer.events.recv().map_err(lost)?;
        let taken = &capsule.choices[choice];
        let position = heard.entry(choice).or_default();
        let parted = match &event {
            Event::Token(token) => {
                *position += 1;
                part(model, taken, *position - 1, token)
            }
            Event::Finished { finish, .. } => {
                let at = std::mem::replace(position, usize::MAX);
                ending(taken, at, name(*finish))
            }
            Event::Failed(fault) => {
                let at = std::mem::replace(position, usize::MAX);
                ending(taken, at, &fault.to_string())
            }
            _ => None,
        };
        if let Some(parted) = parted {
            return Ok(Some(format!("answer {choice} parts {parted}")));
        }
    }
    Ok(None)
}

/// Whether a token is another than the recorded one, and by how much.
fn part(model: &Model, taken: &Taken, at: usize, token: &Sampled) -> Option<String> {
    let shown = |id: u32| {
        let text = model.vocabulary.decode(&[id], Controls::Show);
        format!("{id} {text:?}")
    };
    let Some(expected) = taken.tokens.get(at).copied() else {
        taken.finish.as_ref()?;
        return Some(format!("at its end: token {at} is {}", shown(token.token.0)));
    };
    let found = token.token.0;
    if found != expected {
        let expected_score = token.top.iter().find(|(id, _)| id.0 == expected);
        let margin = match expected_score {
            Some((_, score)) => format!("{:.6} less likely", token.logprob - score),
            None => format!("not among the {} likeliest", token.top.len()),
        };
        let (expected, found) = (shown(expected), shown(found));
        return Some(format!(
            "at token {at}: recorded {expected}, now {found}; the recorded one is \
                             {margin} now (in log-probability)"
        ));
    }
    let recorded = f32::from_bits(*taken.logprobs.get(at)?);
    (recorded.to_bits() != token.logprob.to_bits()).then(|| {
        let (now, token) = (token.logprob, shown(found));
        format!("at token {at}, {token}: its log-probability was {recorded}, now it is {now}")
    })
}

/// Whether it ends elsewhere, or otherwise.
fn ending(taken: &Taken, at: usize, finish: &str) -> Option<String> {
    let (tokens, recorded) = (taken.tokens.len(), taken.finish.as_deref());
    if at < tokens {
        return Some(format!("at token {at}: it ends ({finish}), and {tokens} were recorded"));
    }
    let recorded = recorded.filter(|recorded| *recorded != finish)?;
    Some(format!("at its end: recorded `{recorded}`, now `{finish}`"))
}

fn verdict(capsule: &Capsule) -> String {
    let tokens: usize = capsule.choices.iter().map(|taken| taken.tokens.len()).sum();
    let scored = capsule.choices.iter().any(|taken| !taken.logprobs.is_empty());
    let scores = if scored { ", log-probabilities to the bit" } else { "" };
    let answers = match capsule.choices.len() {
        1 => "the answer".to_owned(),
        n => format!("all {n} answers"),
    };
    format!("the same: {tokens} tokens of {answers}{scores}")
}
