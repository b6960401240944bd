//! Agents: the programs that people run against a server. `qwire doctor` asks as one of them does,
//! `qwire launch` runs it.
//!
//! ```text
//! roster ── what an agent is told, and the shape of its requests ─┬─ doctor ── player ── report
//!                                                                 └─ launch ── server, agent
//! ```

pub mod client;
pub mod doctor;
pub mod events;
pub mod launch;
mod player;
mod refusals;
mod report;
pub mod roster;
mod server;
mod shape;
mod streams;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use crate::config::Environment;
use crate::failure::Failure;
use client::{Client, Lost};
use roster::{Agent, Told};

/// Where a server listens unless somebody says otherwise.
const USUAL: &str = "http://127.0.0.1:8080";

/// Which agent.
fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(roster::AGENTS.iter().map(|agent| agent.name))
}

/// The agent of a name that clap has accepted.
fn named(name: &str) -> &'static Agent {
    roster::AGENTS.iter().find(|agent| agent.name == name).expect("clap knows the names")
}

/// Which server.
#[derive(Args, Clone)]
pub struct Place {
    /// Where the server listens [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The key that the server asks for [default: QWIRE_API_KEY, or none]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
}

impl Place {
    fn client(&self, environment: &Environment) -> Result<Client, Failure> {
        let url = self.url.as_deref().unwrap_or(USUAL);
        Client::new(url, self.key(environment)).map_err(Failure::usage)
    }

    fn key(&self, environment: &Environment) -> Option<String> {
        self.api_key.clone().or_else(|| {
            let keys = environment.own.get("QWIRE_API_KEY")?;
            keys.split(',').next().map(str::to_owned)
        })
    }
}

/// What an agent is told of a server that answers, by the server's own list of models.
fn told(client: &Client) -> Result<Told, Failure> {
    let answer = client.get("/v1/models").map_err(|lost| absent(client, &lost))?;
    if answer.status != 200 {
        let (status, said) = (answer.status, answer.text());
        let message = format!("{}/v1/models answers {status}: {said}", client.url);
        let hint = match status {
            401 => "give the server's key in --api-key or QWIRE_API_KEY",
            503 => "the model is being loaded: try again in a moment",
            _ => "this command wants an OpenAI-compatible server, such as `qwire serve`",
        };
        return Err(Failure::new(message).hint(hint));
    }
    let list: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
    let model = &list["data"][0];
    let Some(id) = model["id"].as_str() else {
        return Err(Failure::new(format!("{}/v1/models lists no model", client.url)));
    };
    Ok(Told {
        url: client.url.clone(),
        key: client.key.clone(),
        model: id.to_owned(),
        context: model["context_length"].as_u64(),
    })
}

/// Nobody answers.
fn absent(client: &Client, lost: &Lost) -> Failure {
    let message = format!("no server answers at {}: {lost}", client.url);
    Failure::new(message).hint("start one with `qwire serve MODEL.gguf`, or say where with --url")
}
