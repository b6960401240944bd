//! Layers: where an option's value comes from.
//!
//! ```text
//! command line  >  file (--config)  >  environment (QWIRE_*)  >  default
//! --kv-type f32    kv-type = "f32"     QWIRE_KV_TYPE=f32
//! ```
//! The table of options is clap's description of a struct and nothing else. What a lower layer says
//! becomes a flag and is read as one, so that names, types, ranges and words of faults are the same
//! in each.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::marker::PhantomData;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::Environment;
use crate::failure::{Failure, one_line};

/// The option that names the file; it has no place in one.
const FILE: &str = "config";
/// Options whose values are never shown.
const SECRETS: [&str; 1] = ["api-key"];

/// Options as the command line has them, with the layers below still to come.
pub struct Layered<A> {
    matches: ArgMatches,
    options: PhantomData<A>,
}

/// Options with every layer in its place.
pub struct Settled<A> {
    /// The values in force.
    pub options: A,
    matches: ArgMatches,
    origins: Vec<(Arg, Origin)>,
}

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Origin {
    Flag,
    File(String),
    Variable(String),
    Default,
}

impl<A: Args> FromArgMatches for Layered<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { matches: matches.clone(), options: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<A: Args> Args for Layered<A> {
    fn augment_args(command: Command) -> Command {
        A::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        A::augment_args_for_update(command)
    }
}

impl<A: Args> Layered<A> {
    /// Reads the file and the environment below the command line.
    pub fn settle(&self, environment: &Environment) -> Result<Settled<A>, Failure> {
        let table = A::augment_args(Command::new("qwire serve").no_binary_name(true));
        let flag = self.matches.get_raw(FILE).and_then(|mut raw| raw.next());
        let path = flag.map(|raw| raw.to_string_lossy().into_owned());
        let path = path.or_else(|| environment.own.get(&variable(FILE)).cloned());
        let file = path.as_deref().map(|path| read(path, &table)).transpose()?.unwrap_or_default();
        let (mut line, mut place, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        for arg in table.get_arguments() {
            let (origin, values) = self.value(arg, path.as_deref(), &file, environment)?;
            let Some(long) = arg.get_long() else {
                place.extend(values);
                origins.push((arg.clone(), origin));
                continue;
            };
            let flag = |value: OsString| match arg.get_action() {
                ArgAction::SetTrue => format!("--{long}").into(),
                _ => [format!("--{long}=").into(), value].into_iter().collect(),
            };
            let flags: Vec<OsString> = values.into_iter().map(flag).collect();
            // Alone, so that a fault is told with the place where the value stands.
            if !matches!(origin, Origin::Flag | Origin::Default)
                && let Err(error) = table.clone().try_get_matches_from(&flags)
            {
                return Err(Failure::usage(format!("{origin}: {}", words_of(&error))));
            }
            line.extend(flags);
            origins.push((arg.clone(), origin));
        }
        line.push("--".into());
        let read = table.try_get_matches_from(line.iter().chain(&place));
        let matches = read.map_err(|error| Failure::usage(words_of(&error)))?;
        let options = A::from_arg_matches(&matches);
        let options = options.map_err(|error| Failure::usage(words_of(&error)))?;
        Ok(Settled { options, matches, origins })
    }

    /// The uppermost layer that has a value.
    fn value(
        &self,
        arg: &Arg,
        path: Option<&str>,
        file: &toml::Table,
        environment: &Environment,
    ) -> Result<(Origin, Vec<OsString>), Failure> {
        let name = name(arg);
        if self.matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            let raw = self.matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
            return Ok((Origin::Flag, raw.map(OsStr::to_os_string).collect()));
        }
        if let (Some(value), Some(path)) = (file.get(name), path) {
            let fault = |found| Failure::usage(format!("{path}: {name} is {found}"));
            return Ok((Origin::File(path.into()), texts(value).map_err(fault)?));
        }
        let variable = variable(name);
        match environment.own.get(&variable).filter(|_| is_in_file(arg)) {
            Some(value) => Ok((Origin::Variable(variable), vec![value.into()])),
            None => Ok((Origin::Default, Vec::new())),
        }
    }
}

impl<A> Settled<A> {
    /// Every option as a file would say it, and the layer that does.
    pub fn print(&self) -> String {
        let mut lines = Vec::new();
        for (arg, origin) in self.origins.iter().filter(|(arg, _)| is_in_file(arg)) {
            let name = name(arg);
            let raw = self.matches.get_raw(arg.get_id().as_str());
            let values: Vec<_> = raw.into_iter().flatten().map(|raw| quoted(arg, raw)).collect();
            let said = origin.to_string();
            lines.push(match values.as_slice() {
                [] if *origin == Origin::Default => {
                    let help = arg.get_help().map(ToString::to_string);
                    (format!("# {name} ="), help.unwrap_or_default())
                }
                [_, ..] if SECRETS.contains(&name) => (format!("# {name} is not shown"), said),
                [value] if !matches!(arg.get_action(), ArgAction::Append) => {
                    (format!("{name} = {value}"), said)
                }
                values => (format!("{name} = [{}]", values.join(", ")), said),
            });
        }
        let width = lines.iter().map(|line| line.0.chars().count()).filter(|n| *n < 40).max();
        let mut text = String::new();
        for (value, note) in lines {
            let (note, width) = (one_line(&note), width.unwrap_or(0));
            writeln!(text, "{value:width$}  # {note}").expect("a string takes everything");
        }
        text
    }
}

/// The name of an option in a file, and after `--`.
fn name(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_else(|| arg.get_id().as_str())
}

/// The name of its variable.
fn variable(name: &str) -> String {
    format!("QWIRE_{}", name.replace('-', "_").to_uppercase())
}

/// Not what names the file, nor what only prints.
fn is_in_file(arg: &Arg) -> bool {
    name(arg) != FILE && !matches!(arg.get_action(), ArgAction::SetTrue)
}

/// A file whose every key is an option.
fn read(path: &str, table: &Command) -> Result<toml::Table, Failure> {
    let fault = |why: String| Failure::new(format!("{path}: {why}"));
    let text = fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let file: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        fault(format!("line {}: {}", before.matches('\n').count() + 1, error.message()))
    })?;
    let known = |key: &str| table.get_arguments().any(|a| name(a) == key && is_in_file(a));
    match file.keys().find(|key| !known(key)) {
        None => Ok(file),
        Some(key) => {
            let failure = Failure::usage(format!("{path}: there is no option `{key}`"));
            // Clap finds the nearest of its own.
            let error = table.clone().try_get_matches_from([format!("--{key}=")]).err();
            let near = error.and_then(|error| match error.get(ContextKind::SuggestedArg) {
                Some(ContextValue::String(near)) => Some(near.trim_start_matches('-').to_string()),
                _ => None,
            });
            Err(match near.filter(|near| known(near)) {
                Some(near) => failure.hint(format!("`{near}` is the nearest")),
                None => failure.hint("`qwire serve --print-config` names all"),
            })
        }
    }
}

/// A value of the file as words of the command line; what it is instead, where it can be none.
fn texts(value: &toml::Value) -> Result<Vec<OsString>, &'static str> {
    Ok(match value {
        toml::Value::String(text) => vec![text.into()],
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
            vec![value.to_string().into()]
        }
        toml::Value::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(texts).collect();
            items?.concat()
        }
        toml::Value::Table(_) => return Err("a table: accepted is a value or a list of values"),
        toml::Value::Datetime(_) => return Err("a date: accepted is text or a number"),
    })
}

/// A value as a file has it: what is no text in the program is none there.
fn quoted(arg: &Arg, raw: &OsStr) -> String {
    let bare =
        [TypeId::of::<bool>(), TypeId::of::<f64>(), TypeId::of::<u16>(), TypeId::of::<u32>()];
    let text = raw.to_string_lossy().into_owned();
    let read = || format!("x = {text}").parse::<toml::Table>().is_ok();
    if bare.iter().any(|id| arg.get_value_parser().type_id() == *id) && read() {
        return text;
    }
    toml::Value::String(text).to_string()
}

/// Clap's fault in one line.
fn words_of(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_string()
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::File(path) => f.write_str(path),
            Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}
