//! At the start of a server: the shortest run of contracts, on the model that was just loaded.

use qwire_kernels::quant::format;
use qwire_model::Runner;
use qwire_text::Vocabulary;
use tracing::info;

use super::check;
use super::contract::{self, Pace, Samples};
use super::evidence::{Record, Status};
use super::subject::text_tokens;
use super::table;
use crate::commands::loading::Opened;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// Tokens that the canary reads.
const READ: usize = 100;

/// Kernels against the definition, tensors, and the real path on this runner, which is given back;
/// its cache holds nothing of use before it and after it.
pub fn self_check(
    opened: &Opened,
    vocabulary: &Vocabulary,
    mut runner: Box<dyn Runner>,
    interrupt: &Interrupt,
) -> Result<Box<dyn Runner>, Failure> {
    let contracts = contract::all().map_err(Failure::broken)?;
    for contract in contracts.iter().filter(|contract| contract.pace == Pace::Start) {
        let (started, mut samples) = (std::time::Instant::now(), Samples::new());
        match contract.check.as_str() {
            "kernels" => {
                let tensors = opened.file.tensors().iter();
                let mut ids: Vec<u32> = tensors.map(|tensor| tensor.dtype.id()).collect();
                ids.sort_unstable();
                ids.dedup();
                let formats = ids.into_iter().filter_map(format);
                formats.for_each(|format| check::kernels(format, None, &mut samples));
            }
            "tensors" => check::tensors(&opened.file, false, None, &mut samples),
            "canary" => {
                let limits = runner.limits();
                let room = (limits.pages * crate::memory::PAGE / 2).saturating_sub(READ);
                let tokens = text_tokens(vocabulary, READ.min(room.max(1)).min(limits.rows));
                runner = check::canary(runner, &tokens, interrupt, &mut samples)?;
            }
            other => unreachable!("`{other}` is no check for a start"),
        }
        let record = Record::judged(contract, samples, started.elapsed().as_secs_f64());
        let said = table::said(contract, &record);
        if record.status != Status::Pass {
            let id = &contract.id;
            return Err(Failure::new(format!("self-check: contract `{id}` is broken: {said}"))
                .hint("`qwire verify` on the same model says more"));
        }
        info!(contract = contract.id, seconds = record.seconds, said, "self-check");
    }
    Ok(runner)
}
