//! `qwire verify`: the promises of `contracts/`, measured on a model of the user's on the user's
//! own machine.
//!
//! ```text
//! contracts/*.toml ── contract ── check ── samples ──► judge ──► table, exit code
//!                        │                    └── evidence ──► judge, again, by anyone
//!                        └─ falsifier ── fault ── the same check must fail now
//! ```

mod campaign;
mod check;
pub mod contract;
pub mod evidence;
mod faults;

mod start;
mod subject;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::loading::Opened;
use crate::arguments::{DeviceArgs, parse_ids, read_file, utf8};
use crate::config::Environment;
use crate::failure::Failure;
use crate::signals::Interrupt;
use contract::{Contract, Pace};
use evidence::{Record, Status};
pub use start::self_check;
pub use subject::text_tokens;
use table::{Summary, Table};

/// Prove that the promises of qwire hold for a model on this machine
#[derive(Args)]
#[command(after_help = "\
Each promise is a file in `contracts/` of the source. A check measures it, thresholds judge what was
measured. What cannot be measured here is skipped and said; a skip is never a pass.

--falsify breaks one thing for each contract, such as a cached page, and demands that the contract
fails. That shows that it can.

Exit status: 0 nothing is broken, 1 something is, 2 not understood.

Examples:
  qwire verify                                     all but speed, on the small model in the binary
  qwire verify model.gguf --quick
  qwire verify model.gguf --contract kv-cache --full
  qwire verify model.gguf --evidence proof && qwire verify --check proof
  qwire verify --falsify")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that users have")]
pub struct VerifyArgs {
    /// The model, or its first file [default: the small one in the binary]
    model: Option<PathBuf>,
    /// This contract alone, in whatever time it takes; may be repeated
    #[arg(long, value_name = "ID")]
    contract: Vec<String>,
    /// What takes seconds
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All of it, speed too: the machine should have nothing else to do
    #[arg(long)]
    full: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write samples, machine, model and date into this folder
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// Judge such a folder again, and measure nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "evidence", "quick", "full"])]
    check: Option<PathBuf>,
    /// Print the table of --check for a document
    #[arg(long, requires = "check", conflicts_with = "json")]
    markdown: bool,
    /// Break each contract on purpose, and demand that it fails
    #[arg(long, conflicts_with_all = ["check", "evidence", "quick", "full"])]
    falsify: bool,
    /// Logits from elsewhere for the contract `transformers`: a NumPy array [tokens, vocabulary]
    #[arg(long, value_name = "FILE.npy", requires = "tokens_file")]
    logits: Option<PathBuf>,
    /// The ids of its tokens
    #[arg(long, value_name = "FILE", requires = "logits")]
    tokens_file: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub fn verify(args: &VerifyArgs, environment: &Environment) -> Result<u8, Failure> {
    let contracts = contract::all().map_err(Failure::broken)?;
    if let Some(folder) = &args.check {
        return args.judge_again(folder, &contracts);
    }
    let opened = Opened::given(args.model.as_deref(), args.json)?;
    let interrupt = Interrupt::install()?;
    let logits = args.logits()?;
    let campaign = campaign::Campaign::open(&opened, args, (environment, &interrupt), logits)?;
    let chosen = args.chosen(&contracts)?;
    if args.falsify {
        return args.falsify(&campaign, &chosen);
    }
    let mut records = Vec::new();
    for contract in chosen {
        let record = campaign.measure(contract, None)?;
        if !args.json {
            let mut text = String::new();
            // A String takes everything.
            let _ = table::line(&mut text, contract, &record);
            print(&text)?;
        }
        records.push(record);
    }
    let summary = Summary::of(&records);
    if args.json || args.evidence.is_some() {
        let facts = campaign.facts(args.pace())?;
        if let Some(folder) = &args.evidence {
            evidence::write(folder, &facts, &records, args.contract.is_empty())?;
        }
        if args.json {
            let all = json!({ "facts": facts, "contracts": records });
            print(&format!("{all}\n"))?;
        }
    }
    if !args.json {
        print(&format!("{summary}\n"))?;
    }
    Ok(u8::from(summary.failed > 0))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

impl VerifyArgs {
    /// How long it may take.
    fn pace(&self) -> Pace {
        match (self.quick, self.full) {
            (true, _) => Pace::Quick,
            (_, true) => Pace::Full,
            _ => Pace::Usual,
        }
    }

    /// The contracts of this run.
    fn chosen<'a>(&self, contracts: &'a [Contract]) -> Result<Vec<&'a Contract>, Failure> {
        if let Some(id) = self.contract.iter().find(|id| contracts.iter().all(|c| c.id != **id)) {
            let known: Vec<_> = contracts.iter().map(|contract| contract.id.as_str()).collect();
            let fault = format!("there is no contract `{id}`");
            return Err(Failure::usage(fault).hint(format!("there are {}", known.join(", "))));
        }
        let wanted = |contract: &&Contract| {
            if self.contract.is_empty() {
                return self.falsify || contract.pace <= self.pace();
            }
            self.contract.contains(&contract.id)
        };
        Ok(contracts.iter().filter(wanted).collect())
    }

    fn logits(&self) -> Result<Option<(PathBuf, Vec<u32>)>, Failure> {
        let (Some(logits), Some(tokens)) = (&self.logits, &self.tokens_file) else {
            return Ok(None);
        };
        let name = tokens.display().to_string();
        let ids = parse_ids(&utf8(read_file(tokens)?, &name)?);
        let ids = ids.map_err(|why| Failure::new(format!("{name}: {why}")))?;
        Ok(Some((logits.clone(), ids)))
    }

    fn judge_again(&self, folder: &std::path::Path, contracts: &[Contract]) -> Result<u8, Failure> {
        let (facts, mut records) = evidence::read(folder, contracts)?;
        let asked =
            |record: &Record| self.contract.is_empty() || self.contract.contains(&record.contract);
        records.retain(asked);
        let table = Table { contracts, records: &records };
        let text = match (self.markdown, self.json) {
            (true, _) => table.markdown(&facts),
            (_, true) => format!("{}\n", json!({ "facts": facts, "contracts": records })),
            _ => format!("{table}\n"),
        };
        print(&text)?;
        Ok(u8::from(Summary::of(&records).failed > 0))
    }

    /// Each contract must hold, and must fail under its fault.
    fn falsify(
        &self,
        campaign: &campaign::Campaign<'_>,
        chosen: &[&Contract],
    ) -> Result<u8, Failure> {
        let (mut shown, mut blind, mut skipped, mut rows) = (0, 0, 0, Vec::new());
        for contract in chosen {
            let sound = campaign.measure(contract, None)?;
            let record = match sound.status {
                Status::Pass => campaign.measure(contract, Some(contract.fault()))?,
                Status::Fail | Status::Skip => sound.clone(),
            };
            let said = table::said(contract, &record);
            let word = match (sound.status, record.status) {
                (Status::Skip, _) | (_, Status::Skip) => {
                    skipped += 1;
                    "skip"
                }
                (Status::Pass, Status::Fail) => {
                    shown += 1;
                    "fails"
                }
                (Status::Fail, _) => {
                    blind += 1;
                    "BROKEN"
                }
                (Status::Pass, Status::Pass) => {
                    blind += 1;
                    "BLIND"
                }
            };
            let (id, fault) = (&contract.id, &contract.falsifier);
            if !self.json {
                print(&format!("{word:<6} {id:<15} under {fault:<19} {said}\n"))?;
            }
            rows.push(json!({ "contract": id, "falsifier": fault, "verdict": word, "said": said }));
        }
        if self.json {
            print(&format!("{}\n", json!({ "falsified": rows })))?;
        } else {
            let counts = format!("{shown} fail under their faults, {blind} do not");
            print(&format!("{counts}, {skipped} skipped\n"))?;
        }
        Ok(u8::from(blind > 0))
    }
}
