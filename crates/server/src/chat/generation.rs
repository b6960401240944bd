//! Generation: one or several requests on their way through the engine, their tokens read into
//! what a client may see.
//!
//! ```text
//! engine's sink ─ unbounded channel ─► token ─ bytes ─ Decoder ─ Reader ─ StopStrings ─► Step
//! ```
//! The channel is bounded by `max_tokens`. Dropping a generation cancels it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qwire_engine::{Choice, Event, Handle, Report, Request, Sampled, Service, TokenId};
use qwire_text::tools::{Ending, Part, Reader, Repair};
use qwire_text::{Controls, Decoder, StopStrings, Vocabulary};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::parameters::{Logprobs, Parameters};
use super::reading::Reading;
use super::replay::Place;
use super::turn::Lineage;
use crate::admin::capsule::Capsule;
use crate::admin::recorder::Flight;
use crate::admin::underway::Entry;
use crate::app::App;
use crate::edge::Account;
use crate::fault::Fault;

/// What closes the block of a call.
const CLOSER: &str = "</tool_call>";
/// Bytes behind a call in which that must come.
const CLOSING_BYTES: usize = 32;

/// What is asked of the engine for one prompt.
pub struct Order {
    /// The prompt.
    pub ids: Vec<u32>,
    /// How the answers are made.
    pub parameters: Parameters,
    /// What is told of each token.
    pub logprobs: Option<Logprobs>,
    /// What is told of the prompt.
    pub report: Report,
    /// How the answers are read.
    pub reading: Reading,
    /// What comes before and after.
    pub lineage: Lineage,
}

/// What happens next.
#[derive(Debug)]
pub enum Step {
    /// A choice left the queue; so much of its prompt was cached.
    Started {
        /// Which choice.
        choice: usize,
        /// Tokens that need no computing.
        cached: usize,
    },
    /// A prompt is being read.
    Prefill {
        /// Tokens that are done.
        done: usize,
        /// Tokens in all.
        total: usize,
        /// Of those that are done, what was cached.
        cached: usize,
        /// When the rest should be done.
        left: Duration,
    },
    /// Nothing has happened for a heartbeat.
    Silence,
    /// Tokens of the prompt with their log-probabilities.
    Prompt(usize, Vec<Sampled>),
    /// A token of an answer, and what became visible by it.
    Said {
        /// Which choice.
        choice: usize,
        /// Perhaps nothing, if it may still become something else.
        parts: Vec<Part>,
        /// None for what was held back until the end.
        token: Option<Sampled>,
    },
    /// A choice is over.
    Over(usize, Over),
    /// A choice cannot go on.
    Failed(usize, Fault),
}

/// How a choice ended.
#[derive(Clone, Debug)]
pub struct Over {
    /// Why.
    pub finish: Finish,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Of those, what was cached.
    pub cached_tokens: usize,
    /// Tokens of its answer.
    pub answer_tokens: usize,
    /// Of those, thoughts.
    pub thought_tokens: usize,
    /// Tokens of the client's prediction that were of use, and that were not.
    pub predicted_tokens: (usize, usize),
    /// What had to be mended to read it.
    pub repairs: BTreeMap<Repair, u32>,
    /// From its start to its first token.
    pub reading_time: Duration,
    /// From there to its end.
    pub writing_time: Duration,
}

/// Why a choice ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finish {
    /// The model ended it.
    Natural,
    /// A text of the request's ended it.
    Stop(String),
    /// It calls tools.
    Calls,
    /// It was long enough.
    Length,
    /// It went round in circles.
    Repetition,
}

impl Finish {
    /// In a log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Natural => "natural",
            Self::Stop(_) => "stop",
            Self::Calls => "calls",
            Self::Length => "length",
            Self::Repetition => "repetition",
        }
    }
}

/// Answers under way.
pub struct Generation {
    app: Arc<App>,
    account: Account,
    vocabulary: Arc<Vocabulary>,
    heard: UnboundedReceiver<Heard>,
    /// Ends it from elsewhere, as long as it is there.
    _entry: Entry,
    /// One for each request, and the first of its choices.
    handles: Vec<(usize, Option<Handle>)>,
    voices: Vec<Voice>,
    /// The ending that comes after a choice's last words.
    later: Option<Step>,
    heartbeat: Duration,
    started: Instant,
    reading_since: Option<(Instant, usize)>,
    /// What is kept of it, where somebody wants that.
    flight: Option<Flight>,
}

/// What comes to a generation.
enum Heard {
    /// What the engine says of a choice.
    Event(usize, Event),
    /// Somebody has ended it.
    Cancelled,
}

/// One choice, being read.
struct Voice {
    decoder: Decoder,
    reader: Reader,
    stops: StopStrings,
    stop_texts: Arc<[String]>,
    alone: bool,
    calls: usize,
    thinks: bool,
    prompt: usize,
    cached: usize,
    tokens: usize,
    thoughts: usize,
    predicted: (usize, usize),
    started: Instant,
    first_token: Option<Instant>,
    /// All that was said, where the log wants it.
    record: Option<Vec<u8>>,
    /// Where the answer will stand, and what was sampled for it.
    place: Option<Place>,
    sampled: Vec<u32>,
    /// What came after the only call that there may be, until its block is closed.
    closing: Option<String>,
    over: bool,
}

impl Generation {
    /// Queues all orders, or none of them.
    pub fn start(app: &Arc<App>, account: Account, orders: Vec<Order>) -> Result<Self, Fault> {
        let model = app.model()?;
        let (sender, heard) = unbounded_channel();
        let (mut handles, mut voices) = (Vec::new(), Vec::new());
        let mut flight = app.recorder.get().map(Flight::new);
        for order in orders {
            let first = voices.len();
            let prompt = order.ids.len();
            let stops: Arc<[String]> = order.parameters.stops.clone().into();
            for _ in 0..order.parameters.n {
                let voice = Voice::new(&order.reading, stops.clone(), prompt);
                let record = app.settings.log_prompts.then(Vec::new);
                let place = order.lineage.place.clone();
                voices.push(Voice { record, place, ..voice });
            }
            if app.settings.log_prompts {
                let text = model.vocabulary.decode(&order.ids, Controls::Show);
                tracing::info!(choice = first, ?text, "prompt");
            }
            if let Some(flight) = &mut flight {
                flight.begin(Capsule::of(model, &order, limit(&model.service, &order)));
            }
            // Those queued so far are cancelled as their handles are dropped.
            let handle = queue(&model.service, &model.vocabulary, order, &sender, first)?;
            handles.push((first, Some(handle)));
        }
        // It alone does not keep the channel open: that tells whether the engine is still there.
        let ear = sender.downgrade();
        let entry = Entry::new(app, account.id.clone(), move || {
            // An answer that is over has no ear any more.
            let _ = ear.upgrade().map(|ear| ear.send(Heard::Cancelled));
        });
        account.note(|figures| figures.prompt = voices.iter().map(|voice| voice.prompt).sum());
        Ok(Self {
            app: app.clone(),
            account,
            vocabulary: model.vocabulary.clone(),
            heard,
            _entry: entry,
            handles,
            voices,
            later: None,
            heartbeat: app.settings.heartbeat,
            started: Instant::now(),
            reading_since: None,
            flight,
        })
    }

    /// How many choices there are.
    pub fn choices(&self) -> usize {
        self.voices.len()
    }

    /// What is cached of the first prompt, as soon as it leaves the queue; none if that takes
    /// longer.
    pub async fn cached_within(&mut self, patience: Duration) -> Option<usize> {
        let heard = tokio::time::timeout(patience, self.heard.recv()).await.ok()??;
        self.later = self.hear(heard);
        self.account.figures().hit
    }

    /// The next step; none when every choice is over.
    pub async fn next(&mut self) -> Option<Step> {
        while !self.is_over() {
            if let Some(step) = self.ready() {
                return Some(step);
            }
            match tokio::time::timeout(self.heartbeat, self.heard.recv()).await {
                Err(_) => return Some(Step::Silence),
                // The engine tells every ending; it is gone if it did not.
                Ok(None) => return Some(self.broken_off(Fault::internal())),
                Ok(Some(heard)) => {
                    if let Some(step) = self.hear(heard) {
                        return Some(step);
                    }
                }
            }
        }
        self.later.take()
    }

    /// The next step, if it is there already.
    pub fn ready(&mut self) -> Option<Step> {
        if let Some(step) = self.later.take() {
            return Some(step);
        }
        while !self.is_over() {
            let heard = self.heard.try_recv().ok()?;
            if let Some(step) = self.hear(heard) {
                return Some(step);
            }
        }
        None
    }

    fn is_over(&self) -> bool {
        self.voices.iter().all(|voice| voice.over)
    }

    /// Nothing more comes of any choice.
    fn broken_off(&mut self, fault: Fault) -> Step {
        let choice = self.voices.iter().position(|voice| !voice.over).unwrap_or_default();
        self.voices.iter_mut().for_each(|voice| voice.over = true);
        self.handles.iter_mut().for_each(|(_, handle)| drop(handle.take()));
        Step::Failed(choice, fault)
    }

    fn hear(&mut self, heard: Heard) -> Option<Step> {
        match heard {
            Heard::Event(choice, event) => self.read(choice, event),
            Heard::Cancelled => {
                self.account.note(|figures| figures.finish = Some("cancelled"));
                Some(self.broken_off(Fault::cancelled()))
            }
        }
    }

    fn read(&mut self, choice: usize, event: Event) -> Option<Step> {
        if let Some(flight) = &mut self.flight {
            flight.hear(choice, &event);
        }
        let voice = &mut self.voices[choice];
        if voice.over {
            return None;
        }
        match event {
            Event::Started { cached_tokens } => {
                voice.begin(cached_tokens);
                self.account.note(|figures| {
                    figures.cached += cached_tokens;
                    figures.hit.get_or_insert(cached_tokens);
                });
                self.reading_since = Some((Instant::now(), cached_tokens));
                Some(Step::Started { choice, cached: cached_tokens })
            }
            Event::Prefill { done, total } => {
                let (since, from) = self.reading_since.unwrap_or((self.started, 0));
                let each = since.elapsed() / done.saturating_sub(from).max(1) as u32;
                let left = each.saturating_mul(total.saturating_sub(done) as u32);
                Some(Step::Prefill { done, total, cached: from, left })
            }
            Event::Prompt(tokens) => Some(Step::Prompt(choice, tokens)),
            Event::Embedding(_) => None,
            Event::Predicted { accepted, rejected } => {
                voice.predicted = (accepted, rejected);
                None
            }
            Event::Token(token) => {
                let bytes = self.vocabulary.token_bytes(token.token.0, Controls::Hide);
                let (parts, finish) = voice.take(token.token.0, bytes);
                let since = self.started;
                self.account.note(|figures| {
                    figures.tokens += 1;
                    figures.first.get_or_insert_with(|| since.elapsed());
                });
                if let Some(finish) = finish {
                    self.later = Some(self.over(choice, finish));
                    self.release(choice);
                }
                Some(Step::Said { choice, parts, token: Some(token) })
            }
            Event::Finished { finish, .. } => {
                let (parts, finish) = voice.finish(finish);
                let over = self.over(choice, finish);
                if parts.is_empty() {
                    return Some(over);
                }
                self.later = Some(over);
                Some(Step::Said { choice, parts, token: None })
            }
            Event::Failed(fault) => {
                voice.over = true;
                if let qwire_engine::Fault::Panic(text) = &fault {
                    tracing::error!(%text, "a panic ended an answer");
                }
                Some(Step::Failed(choice, fault.into()))
            }
        }
    }

    fn over(&mut self, choice: usize, finish: Finish) -> Step {
        if let Some(text) = &self.voices[choice].record {
            tracing::info!(choice, text = ?String::from_utf8_lossy(text), "answer");
        }
        self.account.note(|figures| figures.finish = Some(finish.name()));
        let voice = &self.voices[choice];
        // What a stop cut off was sampled, and comes back without it.
        if let Some(place) = voice.place.as_ref().filter(|_| !matches!(finish, Finish::Stop(_))) {
            place.fill(&self.vocabulary, &voice.sampled);
        }
        let over = self.voices[choice].end(finish);
        for (repair, times) in &over.repairs {
            (0..*times).for_each(|_| self.app.tally.repairs.add(repair.name()));
        }
        Step::Over(choice, over)
    }

    /// Gives up a request of which no choice goes on.
    fn release(&mut self, choice: usize) {
        let at = self.handles.partition_point(|(first, _)| *first <= choice) - 1;
        let end = self.handles.get(at + 1).map_or(self.voices.len(), |(first, _)| *first);
        if self.voices[self.handles[at].0..end].iter().all(|voice| voice.over) {
            self.handles[at].1.take(); // dropped, and cancelled by that
        }
    }
}

/// Most tokens that an answer can have.
fn limit(service: &Service, order: &Order) -> usize {
    let left = service.bounds().context.saturating_sub(order.ids.len());
    order.parameters.max_tokens.unwrap_or(usize::MAX).min(left)
}

fn queue(
    service: &Service,
    vocabulary: &Vocabulary,
    order: Order,
    sender: &UnboundedSender<Heard>,
    first: usize,
) -> Result<Handle, Fault> {
    let left = limit(service, &order);
    let Order { ids, parameters, logprobs, report, reading, lineage: _ } = order;
    let held = |mut choice: Choice| {
        choice.constraint = reading.constraint(left);
        choice
    };
    let ends = vocabulary.end_ids().iter().copied().map(TokenId);
    let choices = Choice::several(&parameters.sampling, parameters.n);
    let request = Request {
        prompt: ids.into_iter().map(TokenId).collect(),
        choices: choices.into_iter().map(held).collect(),
        max_tokens: parameters.max_tokens.unwrap_or(usize::MAX),
        ends: if parameters.ignore_ends { Vec::new() } else { ends.collect() },
        logprobs: logprobs.map(|logprobs| logprobs.top),
        report,
        class: parameters.class.unwrap_or_default(),
        salt: parameters.salt,
        guard_repetition: parameters.guard_repetition,
        prediction: parameters.prediction.into_iter().map(TokenId).collect(),
    };
    let sender = sender.clone();
    let sink = move |choice: usize, event| sender.send(Heard::Event(first + choice, event)).is_ok();
    Ok(service.submit(request, Box::new(sink))?)
}

impl Voice {
    fn new(reading: &Reading, stop_texts: Arc<[String]>, prompt: usize) -> Self {
        Self {
            decoder: Decoder::new(),
            reader: reading.reader(),
            stops: StopStrings::new(&stop_texts),
            stop_texts,
            alone: !reading.rules.parallel,
            calls: 0,
            thinks: false,
            prompt,
            cached: 0,
            tokens: 0,
            thoughts: 0,
            predicted: (0, 0),
            started: Instant::now(),
            first_token: None,
            record: None,
            place: None,
            sampled: Vec::new(),
            closing: None,
            over: false,
        }
    }

    fn begin(&mut self, cached: usize) {
        self.cached = cached;
        self.started = Instant::now();
    }

    /// Reads a token's bytes; with them the answer may be over.
    fn take(&mut self, token: u32, bytes: &[u8]) -> (Vec<Part>, Option<Finish>) {
        self.first_token.get_or_insert_with(Instant::now);
        if self.place.is_some() {
            self.sampled.push(token);
        }
        if let Some(record) = &mut self.record {
            record.extend_from_slice(bytes);
        }
        let text = self.decoder.push(bytes);
        let parts = self.reader.push(&text);
        self.tokens += 1;
        if self.closing.is_some() {
            return (Vec::new(), self.close(&text, &parts).then_some(Finish::Calls));
        }
        let (parts, finish) = self.visible(parts);
        self.thoughts += usize::from(self.thinks);
        (parts, finish)
    }

    /// Whether the answer is over behind its only call: with the end of the call's block, so that
    /// what was sampled is whole when it comes back, or where something else begins.
    fn close(&mut self, text: &str, parts: &[Part]) -> bool {
        let closing = self.closing.get_or_insert_default();
        closing.push_str(text);
        let closed = closing.contains(CLOSER);
        let more = !parts.is_empty() || self.reader.is_over() || closing.len() > CLOSING_BYTES;
        if more && !closed {
            self.place = None;
        }
        closed || more
    }

    /// What was held back until the engine's end.
    fn finish(&mut self, finish: qwire_engine::Finish) -> (Vec<Part>, Finish) {
        use qwire_engine::Finish as Engine;
        let (ending, finish) = match finish {
            Engine::Stop => (Ending::Natural, Finish::Natural),
            Engine::Length | Engine::Cancelled => (Ending::Cut, Finish::Length),
            Engine::Repetition => (Ending::Cut, Finish::Repetition),
        };
        let mut last = self.reader.push(&self.decoder.finish());
        last.extend(self.reader.finish(ending));
        let (mut parts, stopped) = self.visible(last);
        if let Some(finish) = stopped {
            return (parts, finish);
        }
        let held = self.stops.finish();
        if !held.is_empty() {
            parts.push(Part::Text(held));
        }
        let called = self.calls > 0 && finish == Finish::Natural;
        (parts, if called { Finish::Calls } else { finish })
    }

    /// Parts before a stop, and what the stop is.
    fn visible(&mut self, parts: Vec<Part>) -> (Vec<Part>, Option<Finish>) {
        let mut seen = Vec::with_capacity(parts.len());
        for part in parts {
            if !matches!(part, Part::Text(_)) {
                // A stop stands in one piece of visible text.
                let held = self.stops.finish();
                seen.extend((!held.is_empty()).then_some(Part::Text(held)));
            }
            match part {
                Part::Text(text) => {
                    self.thinks = false;
                    let visible = self.stops.push(&text);
                    if !visible.text.is_empty() {
                        seen.push(Part::Text(visible.text));
                    }
                    if let Some(at) = visible.stopped {
                        return (seen, Some(Finish::Stop(self.stop_texts[at].clone())));
                    }
                }
                Part::CallEnd { .. } => {
                    self.calls += 1;
                    seen.push(part);
                    if self.alone {
                        self.closing = Some(String::new());
                        return (seen, None);
                    }
                }
                Part::Reasoning(_) => {
                    self.thinks = true;
                    seen.push(part);
                }
                Part::CallStart { .. } | Part::CallArguments { .. } => {
                    self.thinks = false;
                    seen.push(part);
                }
            }
        }
        (seen, None)
    }

    fn end(&mut self, finish: Finish) -> Over {
        self.over = true;
        let first_token = self.first_token.unwrap_or_else(Instant::now);
        Over {
            finish,
            prompt_tokens: self.prompt,
            cached_tokens: self.cached,
            answer_tokens: self.tokens,
            thought_tokens: self.thoughts,
            predicted_tokens: self.predicted,
            repairs: self.reader.repairs().clone(),
            reading_time: first_token - self.started,
            writing_time: first_token.elapsed(),
        }
    }
}
