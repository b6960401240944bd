//! Answer: collects the parts of an answer, and drops the blank that only surrounds calls.

use std::collections::BTreeMap;

use super::{Part, Repair};

#[derive(Debug)]
pub(super) struct Answer {
    parts: Vec<Part>,
    repairs: BTreeMap<Repair, u32>,
    /// Blank that is text only if more text follows, or if no call ever came.
    blank: String,
    /// Once there were thoughts: line breaks that are thought only if more thought follows.
    breaks: Option<usize>,
    /// There may be calls.
    tools: bool,
    calls: usize,
    most_calls: usize,
    over: bool,
    spot: Spot,
    /// A `<tool_call>` waits for its end.
    pub(super) open: bool,
}

/// Where the text has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    InLine,
    LineStart,
    /// Nothing but blank has come since a call.
    AfterCall,
}

impl Answer {
    pub(super) fn new(tools: bool, parallel: bool) -> Self {
        Self {
            parts: Vec::new(),
            repairs: BTreeMap::new(),
            blank: String::new(),
            breaks: None,
            tools,
            calls: 0,
            most_calls: if parallel { usize::MAX } else { 1 },
            over: false,
            spot: Spot::LineStart,
            open: false,
        }
    }

    pub(super) fn spot(&self) -> Spot {
        self.spot
    }

    /// Whether a second call began where only one may be.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn repairs(&self) -> &BTreeMap<Repair, u32> {
        &self.repairs
    }

    pub(super) fn repair(&mut self, repair: Repair) {
        if !self.over {
            *self.repairs.entry(repair).or_default() += 1;
        }
    }

    pub(super) fn take(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    pub(super) fn text(&mut self, text: &str) {
        let Some(last) = text.bytes().last().filter(|_| !self.over) else { return };
        let solid = if self.tools { text.trim_ascii_end() } else { text };
        if !solid.is_empty() {
            let blank = std::mem::take(&mut self.blank);
            self.push_text(&blank);
            self.push_text(solid);
        }
        self.blank.push_str(&text[solid.len()..]);
        self.spot = match self.spot {
            Spot::AfterCall if solid.is_empty() => Spot::AfterCall,
            _ if last == b'\n' => Spot::LineStart,
            _ => Spot::InLine,
        };
    }

    fn push_text(&mut self, text: &str) {
        if let Some(Part::Text(all)) = self.parts.last_mut() {
            all.push_str(text);
        } else if !text.is_empty() {
            self.parts.push(Part::Text(text.into()));
        }
    }

    /// Thoughts, without the line breaks around them.
    pub(super) fn reasoning(&mut self, text: &str) {
        let text = if self.breaks.is_some() { text } else { text.trim_start_matches('\n') };
        let solid = text.trim_end_matches('\n');
        if !solid.is_empty() {
            self.push_reasoning(solid);
            self.breaks = Some(0);
        }
        self.breaks = self.breaks.map(|breaks| breaks + text.len() - solid.len());
    }

    fn push_reasoning(&mut self, text: &str) {
        let breaks = "\n".repeat(self.breaks.unwrap_or(0));
        if let Some(Part::Reasoning(all)) = self.parts.last_mut() {
            all.extend([&breaks, text]);
        } else {
            self.parts.push(Part::Reasoning(breaks + text));
        }
    }

    /// A call begins; what came since the last text was blank around it.
    pub(super) fn start(&mut self, name: &str) {
        self.over |= self.calls >= self.most_calls;
        if !self.over {
            self.blank.clear();
            self.parts.push(Part::CallStart { index: self.calls, name: name.into() });
            self.calls += 1;
        }
    }

    pub(super) fn arguments(&mut self, text: &str) {
        if self.over || text.is_empty() {
            return;
        }
        if let Some(Part::CallArguments { fragment, .. }) = self.parts.last_mut() {
            fragment.push_str(text);
        } else {
            let (index, fragment) = (self.calls - 1, text.into());
            self.parts.push(Part::CallArguments { index, fragment });
        }
    }

    pub(super) fn end(&mut self) {
        if !self.over {
            self.parts.push(Part::CallEnd { index: self.calls - 1 });
        }
        self.spot = Spot::AfterCall;
    }

    /// The call went wrong beyond repair, and never ends.
    pub(super) fn give_up(&mut self) {
        self.repair(Repair::Broken);
        self.spot = Spot::AfterCall;
    }

    /// `</tool_call>`, and the blank before it.
    pub(super) fn close(&mut self) {
        if !std::mem::take(&mut self.open) {
            self.repair(Repair::OrphanCloser);
        }
        self.blank.clear();
    }

    /// The thoughts are at their end.
    pub(super) fn end_thoughts(&mut self) {
        self.breaks = None;
    }

    /// The text is at its end.
    pub(super) fn finish(&mut self) {
        let blank = std::mem::take(&mut self.blank);
        if self.calls == 0 {
            self.push_text(&blank);
        }
        if self.breaks.is_some_and(|breaks| breaks > 0) {
            self.push_reasoning("");
        }
    }
}
