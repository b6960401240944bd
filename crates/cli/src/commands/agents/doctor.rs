//! `qwire doctor`: whether a server is what an agent expects, and what to tell the agent.

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use serde_json::{Map, Value, json};

use super::player::Player;
use super::report::Check;
use super::roster::{Agent, Told};
use super::shape::Shape;
use super::{Place, absent, named, names, told};
use crate::config::Environment;
use crate::failure::Failure;

/// Ask a running server what an agent asks, and check every answer
#[derive(Args)]
#[command(after_help = "\
The requests are the agent's own, recorded from its latest version, with other words in the place of
its prompts: the same fields, tools and lengths. So the first takes as long as the agent's first.

Exit status: 0 all is well, 1 something is not, 2 not understood.

Examples:
  qwire doctor --agent claude-code
  qwire doctor --agent codex --url http://127.0.0.1:9000 --json")]
pub struct DoctorArgs {
    /// Which agent
    #[arg(long, value_name = "NAME", value_parser = names())]
    agent: String,
    #[command(flatten)]
    place: Place,
    /// Most tokens of each answer [default: as many as the agent asks for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(16..))]
    max_tokens: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn doctor(args: &DoctorArgs, environment: &Environment) -> Result<u8, Failure> {
    let agent = named(&args.agent);
    let client = args.place.client(environment)?;
    let told = told(&client)?;
    let mut checks: Vec<Check> = Vec::new();
    let mut stdout = io::stdout();
    let mut broken = Ok(());
    if !args.json {
        let version = Shape::read(agent.shape).version;
        writeln!(stdout, "{} {version} asks {}\n", agent.title, client.url)?;
    }
    let mut hear = |check: Check| {
        if !args.json && broken.is_ok() {
            broken = writeln!(stdout, "{check}").and_then(|()| stdout.flush());
        }
        checks.push(check);
    };
    let (client, told) = (&client, &told);
    let mut player = Player { agent, client, told, most: args.max_tokens, hear: &mut hear };
    player.play().map_err(|lost| absent(client, &lost))?;
    broken?;
    let failed = checks.iter().filter(|check| !check.passed()).count();
    if args.json {
        println(&report(agent, told, &checks))?;
    } else {
        println(&page(agent, told, checks.len(), failed))?;
    }
    Ok(u8::from(failed > 0))
}

fn println(text: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

fn page(agent: &Agent, told: &Told, checks: usize, failed: usize) -> String {
    let verdict = match failed {
        0 => format!("All {checks} checks passed."),
        n => format!("{n} of {checks} checks failed."),
    };
    let lines = agent.lines(told).into_iter().map(|line| format!("  {line}\n"));
    let lines: String = lines.collect();
    let (title, name, url) = (agent.title, agent.name, &told.url);
    format!(
        "\n{verdict}\n\nTo run {title} against this server:\n\n{lines}\n\
         or `qwire launch {name} --url {url}`, which tells it the same.\nNot installed? {}",
        agent.install
    )
}

fn report(agent: &Agent, told: &Told, checks: &[Check]) -> String {
    let variables = agent.variables(told, Path::new("FOLDER")).into_iter();
    let variables: Map<String, Value> =
        variables.map(|(name, value)| (name.to_owned(), value.into())).collect();
    let arguments = agent.arguments.iter().map(|text| told.fill(text, Path::new("FOLDER")));
    json!({
        "agent": agent.name,
        "recorded": Shape::read(agent.shape).version,
        "url": told.url,
        "model": told.model,
        "passed": checks.iter().all(Check::passed),
        "checks": checks.iter().map(Check::json).collect::<Vec<_>>(),
        "settings": {
            "program": agent.program,
            "variables": variables,
            "arguments": arguments.collect::<Vec<_>>(),
            "lines": agent.lines(told),
        },
    })
    .to_string()
}
