//! Events: an answer's body as a client of server-sent events sees it.

use std::time::Duration;

use serde_json::Value;

use super::client::Answer;

/// A message of a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// What stands behind `event:`.
    pub name: Option<String>,
    /// What stands behind `data:`.
    pub data: String,
}

/// A stream that is over.
pub struct Stream {
    /// Its messages.
    pub events: Vec<Event>,
    /// When its first message came.
    pub first: Duration,
    /// The longest time without a sign of life, of whatever kind.
    pub silence: Duration,
    /// What no client would understand.
    pub faults: Vec<String>,
}

impl Stream {
    /// Reads an answer.
    pub fn of(answer: &Answer) -> Self {
        let (mut events, mut faults) = (Vec::new(), Vec::new());
        let kind = answer.header("content-type").unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            faults.push(format!("the content-type is `{kind}`, not text/event-stream"));
        }
        let text = answer.text();
        if !text.is_empty() && !text.ends_with("\n\n") {
            faults.push("the last event is not ended by an empty line".into());
        }
        for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
            events.extend(event(block, &mut faults));
        }
        let times = answer.pieces.iter().map(|(at, _)| *at);
        let mut last = Duration::ZERO;
        let silence = times.map(|at| at.saturating_sub(std::mem::replace(&mut last, at))).max();
        Self {
            events,
            first: answer.pieces.first().map_or(answer.took, |(at, _)| *at),
            silence: silence.unwrap_or(answer.took),
            faults,
        }
    }
}

/// A block of lines; none if it only says that somebody is alive.
fn event(block: &str, faults: &mut Vec<String>) -> Option<Event> {
    let (mut name, mut data) = (None, Vec::new());
    for line in block.lines() {
        match line.split_once(':') {
            Some(("event", text)) => name = Some(text.trim_start().to_owned()),
            Some(("data", text)) => data.push(text.strip_prefix(' ').unwrap_or(text)),
            Some(("" | "id" | "retry", _)) => {}
            _ => faults.push(format!("`{}` is no line of an event", shown(line))),
        }
    }
    let data = data.join("\n");
    (name.is_some() || !data.is_empty()).then_some(Event { name, data })
}

impl Event {
    /// Its data as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_default()
    }
}

/// The beginning of a text, for a line of a report.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(160).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    crate::failure::one_line(&shown)
}
