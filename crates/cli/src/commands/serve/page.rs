//! Page: what a person reads when the server starts.

use std::fmt::{self, Display, Formatter};

use qwire_server::edge::Address;

use super::Door;
use super::loader::Loaded;
use crate::commands::agents::roster::AGENTS;
use crate::commands::loading::placement::Traffic;
use crate::failure::one_line;
use crate::quantity::{bytes, count, grouped, rate};

/// A depth at which agents work.
const DEEP: usize = 32_768;

/// The page of a loaded model.
pub struct Page<'a> {
    pub loaded: &'a Loaded,
    pub door: &'a Door,
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let facts = &self.loaded.model.facts;
        let (parameters, name) = (count(facts.parameters), one_line(&self.loaded.model.name));
        let (version, mix) = (facts.version, &facts.quantisation);
        writeln!(f, "\nqwire {version} · {name} · {parameters} parameters, {mix}\n")?;
        writeln!(f, "  device   {}", facts.device)?;
        self.memory(f)?;
        self.speed(f)?;
        for (no, address) in self.door.addresses.iter().enumerate() {
            let label = if no == 0 { "address" } else { "" };
            writeln!(f, "  {label:7}  {address}, {}", reach(address))?;
        }
        match self.door.addresses.first() {
            Some(address) => self.clients(f, address),
            None => Ok(()),
        }
    }
}

impl Page<'_> {
    fn memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let budget = &self.loaded.budget;
        let [total, weights, cache, scratch] =
            [budget.total_bytes(), budget.weights_bytes, budget.cache_bytes, budget.scratch_bytes]
                .map(bytes);
        let positions = grouped(budget.positions() as u64);
        writeln!(
            f,
            "  memory   {total}: weights {weights}, cache {cache} for {positions} tokens, \
             scratch {scratch}"
        )?;
        let (context, trained) = (budget.context, self.loaded.model.facts.trained_context);
        let of = if context < trained {
            format!(" of the model's {}", grouped(trained as u64))
        } else {
            String::new()
        };
        let rest = grouped(budget.positions().saturating_sub(context) as u64);
        let (context, parallel) = (grouped(context as u64), budget.parallel);
        writeln!(f, "  context  {context}{of} tokens; {rest} more for others and for prefixes")?;
        let queue = grouped(self.door.queue as u64);
        writeln!(f, "  answers  {parallel} side by side, {queue} may wait")?;
        self.disk(f)
    }

    /// What outlives the server.
    fn disk(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(store) = self.loaded.model.service.store() else {
            return writeln!(f, "  disk     no prefixes are kept for later runs");
        };
        let (holding, place) = (store.holding(), store.place());
        let (limit, place) = (bytes(holding.limit_bytes), one_line(&place));
        let there = match holding.used_bytes {
            _ if !store.is_open() => ", once the model was read in full".to_string(),
            0 => String::new(),
            used => format!("; {} are there", bytes(used)),
        };
        writeln!(f, "  disk     up to {limit} of prefixes in {place}{there}")
    }

    fn speed(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let forecast = &self.loaded.forecast;
        let (prompt, first) = (rate(forecast.prompt), rate(forecast.answer(0)));
        write!(f, "  speed    reads {prompt}, answers {first}")?;
        let depth = forecast.depth;
        let behind = |depth| (grouped(depth as u64), rate(forecast.answer(depth)));
        if depth > 0 {
            let (depth, speed) = behind(depth);
            write!(f, ", behind {depth} tokens {speed}")?;
        }
        if depth < DEEP && DEEP < self.loaded.budget.context {
            let (depth, speed) = behind(DEEP);
            write!(f, ", behind {depth} about {speed}")?;
        }
        writeln!(f)?;
        self.bound(f)
    }

    /// What both memories allow.
    fn bound(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(bound) = &self.loaded.bound else { return Ok(()) };
        let Traffic { card_bytes, host_bytes } = bound.traffic;
        let [card, host] = [card_bytes, host_bytes].map(bytes);
        let [card_gb_s, host_gb_s] = [bound.card_gb_s, bound.host_gb_s].map(|x| grouped(x as u64));
        let most = rate(bound.tokens_s());
        writeln!(
            f,
            "           a token reads {card} on the card and {host} on the CPU: at {card_gb_s} and \
             {host_gb_s} GB/s at most {most}"
        )
    }

    /// The lines to paste.
    fn clients(&self, f: &mut Formatter<'_>, address: &Address) -> fmt::Result {
        let key = if self.door.keyed { "YOUR-KEY" } else { "none" };
        let (curl, url) = match address {
            Address::Tcp(at) if at.ip().is_unspecified() => {
                ("curl".to_string(), format!("http://127.0.0.1:{}", at.port()))
            }
            Address::Tcp(_) => ("curl".to_string(), address.to_string()),
            Address::Unix(path) => {
                (format!("curl --unix-socket {}", path.display()), "http://localhost".into())
            }
        };
        if let Address::Tcp(_) = address {
            writeln!(f, "\n  export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}")?;
            let agents = AGENTS.iter().map(|agent| agent.name).collect::<Vec<_>>().join(", ");
            writeln!(f, "\n  qwire launch AGENT --url {url}")?;
            writeln!(f, "    with {agents}; `qwire doctor` tells how else")?;
        }
        writeln!(f, "\n  {curl} {url}/v1/chat/completions \\")?;
        if self.door.keyed {
            writeln!(f, "    -H 'authorization: Bearer {key}' \\")?;
        }
        let message = r#"{"messages": [{"role": "user", "content": "Hello"}]}"#;
        writeln!(f, "    -H 'content-type: application/json' -d '{message}'\n")
    }
}

/// Who can reach an address.
fn reach(address: &Address) -> &'static str {
    match address {
        Address::Tcp(at) if at.ip().is_loopback() => "from this machine only",
        Address::Tcp(_) => "from other machines too",
        Address::Unix(_) => "for its owner only",
    }
}
