//! Commit: the outcome of a step or of layers becomes tokens, events and cached pages.
//!
//! Whatever is one sequence's own (sampling, its constraint) may panic without taking others along;
//! a panic of the runner ends those whose rows it had.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use qwire_model::backend::LOGIT_ROWS;
use qwire_model::{Poison, Runner};

use super::pace::{Turn, learned};
use super::sequence::{Key, Row, Sequence, first_fault};
use super::{Parked, Scheduler};
use crate::event::{Event, Fault, Finish, Sampled};
use crate::request::{Report, RequestId};
use crate::tree::common;

impl Scheduler {
    /// The step is done: samples each row's token from the runner's logits.
    pub fn stepped(&mut self, faults: &[Poison], runner: &mut dyn Runner, now: Duration) {
        let seconds = now.saturating_sub(self.began).as_secs_f64();
        self.turn.step = Some(seconds);
        self.turn.answers = self.stepping.len();
        self.turn.rows = self.turn.answers + self.guessed.len();
        self.counters.steps += 1;
        self.counters.computed += self.turn.rows as u64;
        let keys = std::mem::take(&mut self.stepping);
        let guessed = std::mem::take(&mut self.guessed);
        if !guessed.is_empty() {
            return self.follow(keys[0], &guessed, faults, runner, now);
        }
        for (block, keys) in keys.chunks(LOGIT_ROWS).enumerate() {
            let first = block * LOGIT_ROWS;
            let vocab = self.door.bounds.vocab;
            let rows = self.decided(keys, first, runner).and_then(|tokens| {
                if let Some(tokens) = tokens {
                    return Ok(tokens.into_iter().map(Row::Decided).collect());
                }
                let runner = &mut *runner;
                let logits = guarded(move || runner.logits(first..first + keys.len()))?;
                Ok(logits.chunks(vocab).map(Row::Logits).collect::<Vec<_>>())
            });
            let rows = match rows {
                Ok(rows) => rows,
                Err(fault) => {
                    self.counters.crashes += 1;
                    keys.iter().for_each(|key| self.fail(*key, fault.clone()));
                    continue;
                }
            };
            for (i, (key, row)) in keys.iter().zip(rows).enumerate() {
                match first_fault(faults, first + i..first + i + 1) {
                    Some(fault) => self.fail(*key, fault),
                    None => self.sample(*key, row, now),
                }
            }
        }
    }

    /// The tokens that follow, where the best logits of these sequences' outputs, from `first` on,
    /// leave no other.
    fn decided(
        &mut self,
        keys: &[Key],
        first: usize,
        runner: &mut dyn Runner,
    ) -> Result<Option<Vec<u32>>, Fault> {
        if !keys.iter().all(|key| self.running[key].takes_best()) {
            return Ok(None);
        }
        let Some(best) = guarded(move || runner.best(first..first + keys.len()))? else {
            return Ok(None);
        };
        let rows = keys.iter().zip(best.chunks((best.len() / keys.len()).max(1)));
        let decide = |(key, best)| {
            let sequence = self.running.get_mut(key).expect("it runs");
            guarded(|| sequence.decide(best)).ok()?
        };
        let tokens: Option<Vec<u32>> = rows.map(decide).collect();
        Ok(tokens.filter(|tokens| tokens.len() == keys.len()))
    }

    /// The step had guesses: draws from row after row, as long as the guess before it was right.
    fn follow(
        &mut self,
        key: Key,
        guessed: &[u32],
        faults: &[Poison],
        runner: &mut dyn Runner,
        now: Duration,
    ) {
        let logits = match guarded(move || runner.logits(0..1 + guessed.len())) {
            Ok(logits) => logits,
            Err(fault) => return self.crashed(key, fault),
        };
        let (mut right, mut drawn) = (0, Ok(None));
        for (row, logits) in logits.chunks(self.door.bounds.vocab).enumerate() {
            drawn = match first_fault(faults, row..row + 1) {
                Some(fault) => Err(fault),
                None => self.draw(key, Row::Logits(logits), now),
            };
            let goes_on = matches!(drawn, Ok(None));
            if !goes_on || guessed.get(row) != self.running[&key].history.last() {
                break;
            }
            right += 1;
        }
        let sequence = self.running.get_mut(&key).expect("it runs");
        let (lost, ended) = (guessed.len() - right, !matches!(drawn, Ok(None)));
        if let Some((accepted, rejected)) = sequence.lookup.learn(right, lost, ended) {
            self.outbox.push(sequence.event(Event::Predicted { accepted, rejected }));
        }
        let computed = sequence.table.len() - guessed.len() + right;
        self.pages.truncate(&mut sequence.table, computed);
        self.counters.guessed += guessed.len() as u64;
        self.counters.guessed_right += right as u64;
        self.settle(key, drawn, now);
    }

    /// The step panicked: those whose rows it had end, nobody else.
    pub fn step_failed(&mut self, fault: &Fault) {
        self.counters.crashes += 1;
        for key in std::mem::take(&mut self.stepping) {
            self.fail(key, fault.clone());
        }
    }

    /// Whose rows the step has.
    pub fn wanting_step(&self) -> Vec<RequestId> {
        self.stepping.iter().map(|key| self.running[key].ask.id).collect()
    }

    /// Everybody whose rows the step had has left in its middle: no row was computed.
    pub fn step_halted(&mut self) {
        for key in std::mem::take(&mut self.stepping) {
            let table = &mut self.running.get_mut(&key).expect("its rows were in the step").table;
            let len = table.len() - 1 - self.guessed.len();
            self.pages.truncate(table, len);
        }
        self.counters.halted += 1;
    }

    /// Who waits for the parked chunk: its owner, and those who will reuse it.
    pub fn wanting_layers(&self) -> Vec<RequestId> {
        let Some(owner) = self.parked.as_ref().map(|parked| parked.owner) else {
            return Vec::new();
        };
        let followers = self.waiting.values().filter(|other| other.leader == Some(owner));
        let owner = self.running.get(&owner).into_iter();
        owner.chain(followers).map(|sequence| sequence.ask.id).collect()
    }

    /// Everybody who waited for the parked chunk has left in its middle.
    pub fn advance_halted(&mut self) {
        if let Some(owner) = self.parked.as_ref().map(|parked| parked.owner) {
            self.unpark(owner);
        }
        self.counters.halted += 1;
    }

    /// Layers of the parked chunk are done; after its last one there are outputs.
    pub fn advanced(
        &mut self,
        layers: usize,
        outcome: Option<Vec<Poison>>,
        runner: &mut dyn Runner,
        (began, now): (Duration, Duration),
    ) {
        let seconds = now.saturating_sub(began).as_secs_f64();
        self.turn.spent += seconds;
        self.turn.advanced = true;
        let parked = self.parked.as_mut().expect("a chunk is parked");
        let cost = seconds / layers.max(1) as f64;
        parked.layers += layers;
        parked.cost = Some(learned(parked.cost, cost));
        self.pace.learn(parked.rows, cost);
        let Some(faults) = outcome else { return };
        let parked = self.parked.take().expect("a chunk is parked");
        let key = parked.owner;
        self.turn.heads = self.heads(&parked);
        self.counters.computed += parked.rows as u64;
        if let Some(fault) = first_fault(&faults, 0..parked.rows) {
            return self.fail(key, fault);
        }
        let sequence = self.running.get_mut(&key).expect("its owner runs");
        let events = match guarded(|| report(sequence, &parked, runner)) {
            Ok(Ok(events)) => events,
            Ok(Err(fault)) => return self.fail(key, fault),
            Err(fault) => return self.crashed(key, fault),
        };
        let sequence = &self.running[&key];
        let complete = sequence.remaining() == 0;
        let tail = complete && self.tail_is_wanted(sequence);
        self.publish(key, tail, now);
        self.moved = true;
        self.progress(key, events);
        if complete {
            self.read(key, &parked, runner, now);
        }
    }

    /// Reading the outputs of the step, or of layers, took so long.
    pub fn read_out(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if !self.turn.advanced {
            let step = self.turn.step.map(|step| step + seconds);
            self.turn.step = step;
            step.into_iter().for_each(|step| self.learn_step(step));
            return;
        }
        self.turn.spent += seconds;
        let heads = std::mem::take(&mut self.turn.heads);
        if heads > 0 {
            self.pace.learn_head(seconds / heads as f64);
        }
    }

    /// What a step without layers beside it took.
    fn learn_step(&mut self, seconds: f64) {
        let Turn { rows, answers, .. } = self.turn;
        if rows == answers {
            self.pace.stepped(rows, seconds);
        }
        if answers == 1 {
            self.odds.learn(rows, seconds);
        }
    }

    /// Layers of the parked chunk panicked.
    pub fn advance_failed(&mut self, fault: Fault) {
        self.counters.crashes += 1;
        if let Some(owner) = self.parked.as_ref().map(|parked| parked.owner) {
            self.fail(owner, fault);
        }
    }

    /// Tells how far a prompt is read, to those who wait for it too.
    fn progress(&mut self, key: Key, events: Vec<Event>) {
        let sequence = &self.running[&key];
        let done = sequence.table.len();
        let told = |sequence: &Sequence, done| {
            let total = sequence.ask.prompt;
            let is_prompt = sequence.history.len() == total;
            is_prompt.then(|| sequence.event(Event::Prefill { done, total }))
        };
        self.outbox.extend(told(sequence, done));
        self.outbox.extend(events.into_iter().map(|event| sequence.event(event)));
        for follower in self.waiting.values().filter(|other| other.leader == Some(key)) {
            let shared = common(&sequence.history[..done], follower.reusable());
            self.outbox.extend(told(follower, shared));
        }
    }

    /// A prompt is read: what follows is its embedding, its end or its first token.
    fn read(&mut self, key: Key, parked: &Parked, runner: &mut dyn Runner, now: Duration) {
        let sequence = self.running.get_mut(&key).expect("it runs");
        let samples = sequence.samples();
        if let Report::Embedding(_) = sequence.report {
            let embedding = sequence.embedding();
            self.outbox.push(sequence.event(Event::Embedding(embedding)));
        }
        sequence.report = Report::Nothing;
        if !samples {
            return self.finish(key, Finish::Length, now);
        }
        let last = parked.outputs.len() - 1;
        match self.decided(&[key], last, runner) {
            Ok(Some(tokens)) => return self.sample(key, Row::Decided(tokens[0]), now),
            Ok(None) => {}
            Err(fault) => return self.crashed(key, fault),
        }
        match guarded(move || runner.logits(last..last + 1)) {
            Ok(logits) => self.sample(key, Row::Logits(logits), now),
            Err(fault) => self.crashed(key, fault),
        }
    }

    /// The runner panicked over one sequence alone.
    fn crashed(&mut self, key: Key, fault: Fault) {
        self.counters.crashes += 1;
        self.fail(key, fault);
    }

    /// Draws the next token of a sequence and tells it; or ends the sequence.
    fn sample(&mut self, key: Key, row: Row<'_>, now: Duration) {
        let drawn = self.draw(key, row, now);
        self.settle(key, drawn, now);
    }

    /// Ends a sequence whose token was drawn, if that was an ending.
    fn settle(&mut self, key: Key, drawn: Result<Option<Finish>, Fault>, now: Duration) {
        match drawn {
            Ok(None) => {}
            Ok(Some(finish)) => self.finish(key, finish, now),
            Err(fault) => self.fail(key, fault),
        }
    }

    /// Draws the next token of a sequence and tells it; what it ends with, if it ends.
    fn draw(&mut self, key: Key, row: Row<'_>, now: Duration) -> Result<Option<Finish>, Fault> {
        let sequence = self.running.get_mut(&key).expect("it runs");
        if !sequence.samples() {
            return Ok(Some(Finish::Length));
        }
        let mask = &mut self.mask;
        let sampled = guarded(|| sequence.draw(row, mask)).flatten()?;
        if sequence.ask.ends.contains(&sampled.token) {
            return Ok(Some(Finish::Stop));
        }
        sequence.history.push(sampled.token.0);
        self.outbox.push(sequence.event(Event::Token(sampled)));
        let since = sequence.latest_token.replace(now);
        let arrived = sequence.ask.arrived;
        match since {
            None => self.counters.first_token.add(now.saturating_sub(arrived)),
            Some(since) => self.counters.next_token.add(now.saturating_sub(since)),
        }
        self.counters.answered += 1;
        Ok(ending(sequence, self.settings.context))
    }
}

/// What a sequence ends with after its latest token.
fn ending(sequence: &mut Sequence, context: usize) -> Option<Finish> {
    let answer = &sequence.history[sequence.ask.prompt..];
    let circles = sequence.ask.guard_repetition && sequence.repetition.goes_round(answer);
    if answer.len() >= sequence.ask.max_tokens || sequence.history.len() > context {
        return Some(Finish::Length);
    }
    circles.then_some(Finish::Repetition)
}

/// Reads what a report wants of a chunk's outputs.
fn report(
    sequence: &mut Sequence,
    parked: &Parked,
    runner: &mut dyn Runner,
) -> Result<Vec<Event>, Fault> {
    let end = parked.start + parked.rows;
    let wanted = match sequence.report {
        Report::Nothing => return Ok(Vec::new()),
        Report::Logprobs(tops) => Some(tops),
        Report::Embedding(_) => None,
    };
    let mut scored: Vec<Sampled> = Vec::new();
    for (block, rows) in parked.outputs.chunks(LOGIT_ROWS).enumerate() {
        let outputs = block * LOGIT_ROWS..block * LOGIT_ROWS + rows.len();
        // A chunk that was handed over has the outputs of its first owner.
        let positions = rows.iter().map(|row| parked.start + row);
        if let Some(tops) = wanted {
            let logits = runner.logits(outputs);
            let width = logits.len() / rows.len();
            for (position, logits) in positions.zip(logits.chunks(width)) {
                if sequence.reads(position) {
                    scored.push(sequence.score(position, tops, logits)?);
                }
            }
        } else {
            let hidden = runner.hidden(outputs);
            let width = hidden.len() / rows.len();
            for (position, hidden) in positions.zip(hidden.chunks(width)) {
                if sequence.reads(position) {
                    sequence.pool(hidden);
                }
            }
        }
    }
    sequence.reported = sequence.reported.max(end);
    Ok(if scored.is_empty() { Vec::new() } else { vec![Event::Prompt(scored)] })
}

/// Runs what may panic; the panic is a fault with the panic's text.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Fault::Panic(text.unwrap_or_else(|| "no text".into()))
    })
}
