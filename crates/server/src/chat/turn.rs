//! Turn: a conversation that waits for an answer, and what the answer may be.

use std::sync::atomic::Ordering;

use qwire_engine::{Report, Salt};
use qwire_text::tools::Rules;
use qwire_text::{Error, Oblivion, Prompt, Recall};
use serde_json::Value;

use super::class;
use super::conversation::{Conversation, roles, volatile};
use super::fork::{Fork, Marks};
use super::generation::Order;
use super::parameters::{Logprobs, Parameters};
use super::reading::{Form, Reading, ToolChoice};
use super::replay::{Gist, Place, Recollection, gist};
use crate::app::{App, Model};
use crate::fault::Fault;

/// What the wires of conversations ask for.
pub struct Turn {
    /// What the client calls the model.
    pub name: Option<String>,
    /// What was said.
    pub conversation: Conversation,
    /// How the answer is made.
    pub parameters: Parameters,
    /// What is told of each token.
    pub logprobs: Option<Logprobs>,
    /// Which tools may or must be called.
    pub choice: ToolChoice,
    /// Whether more than one.
    pub parallel: bool,
    /// What the answer must look like, and the field that says so.
    pub form: (Form, String),
}

/// What comes before and after an answer.
#[derive(Default)]
pub struct Lineage {
    /// How its prompt lies to the one before, if it is of a conversation.
    pub fork: Option<Fork>,
    /// Where it will stand.
    pub place: Option<Place>,
}

impl Turn {
    /// The conversation without tools that must not be called.
    pub fn narrowed(&self) -> Conversation {
        let mut conversation = self.conversation.clone();
        if self.choice == ToolChoice::None {
            conversation.tools.clear();
            conversation.found.clear();
        }
        conversation
    }

    /// Renders, encodes and compiles it.
    pub fn order(self, app: &App) -> Result<Order, Fault> {
        let model = app.model()?;
        let conversation = self.narrowed();
        let mut parameters = self.parameters;
        let (name, most) = (self.name.as_deref(), parameters.max_tokens);
        parameters.class.get_or_insert_with(|| class::inferred(name, most, &conversation));
        let rendered = rendered(&conversation, parameters.salt, app)?;
        let thinking = gist::thinking(&rendered.prompt.text, thinks(model));
        let rules = Rules { thinking, parallel: self.parallel };
        let (form, field) = &self.form;
        let reading = Reading::of(model, &conversation, rules, &self.choice, form, field)?;
        let lineage = rendered.lineage(parameters.salt, app);
        let (ids, report, logprobs) = (rendered.prompt.ids, Report::Nothing, self.logprobs);
        Ok(Order { ids, parameters, logprobs, report, reading, lineage })
    }
}

/// A conversation as the model reads it.
pub struct Rendered {
    /// The prompt.
    pub prompt: Prompt,
    /// What tells the conversation from others.
    pub marks: Marks,
    gist: Gist,
    /// Spans that were taken out.
    spans: Vec<&'static str>,
    /// Turns that have the tokens that were sampled.
    replayed: usize,
}

/// Renders and encodes a conversation.
pub fn rendered(conversation: &Conversation, salt: Salt, app: &App) -> Result<Rendered, Fault> {
    let model = app.model()?;
    let Some(template) = &model.template else {
        let fault = "the model's file has no chat template; use /v1/completions";
        return Err(Fault::request(fault).code("no_chat_template"));
    };
    let (messages, spans) = volatile::settled(&conversation.messages);
    let marks = Marks::of(&messages);
    let gist = Gist::new(model.dialect, conversation.offered(), thinks(model));
    let Conversation { tools, switches, opening, .. } = conversation;
    let tools = (!tools.is_empty()).then(|| Value::from(tools.clone()));
    let encode = |messages: &[Value]| {
        let messages = Value::from(messages);
        let mut recollection =
            app.replay().map(|replay| Recollection::new(replay.clone(), gist.clone(), salt));
        let recall: &mut dyn Recall = match &mut recollection {
            Some(recollection) => recollection,
            None => &mut Oblivion,
        };
        let (words, tools) = (&model.vocabulary, tools.as_ref());
        let prompt = template.prompt(words, &messages, tools, *opening, switches, recall)?;
        Ok((prompt, recollection.map_or(0, |recollection| recollection.found)))
    };
    let messages = roles::joined(messages.into_owned());
    let mut encoded = encode(&messages);
    for step in roles::STEPS {
        if !matches!(encoded, Err(Error::Raised(_))) {
            break;
        }
        // What the template says of the order as it came is what a client should hear.
        encoded = encode(&step(messages.clone())).or(encoded);
    }
    let (prompt, replayed) = encoded.map_err(|error| {
        Fault { param: Some("messages".into()), ..Fault::request(error.to_string()) }
            .code("template_failed")
    })?;
    Ok(Rendered { prompt, marks, gist, spans, replayed })
}

impl Rendered {
    /// Notes that it is asked for.
    fn lineage(&self, salt: Salt, app: &App) -> Lineage {
        let Prompt { ids, opener, .. } = &self.prompt;
        self.spans.iter().for_each(|span| app.tally.spans.add(span));
        app.tally.replayed.fetch_add(self.replayed as u64, Ordering::Relaxed);
        let key = (salt, self.marks);
        let fork = app.model().ok().and_then(|model| app.trail.fork(key, ids, &model.vocabulary));
        app.trail.note(key, ids);
        if let Some(fork) = fork.as_ref().filter(|fork| fork.is_early()) {
            fork.tell(ids.len(), app.settings.log_prompts);
        }
        let place = app.replay().zip(opener.as_deref());
        let place = place.map(|(replay, opener)| {
            Place::new(replay.clone(), self.gist.clone(), (salt, ids), opener)
        });
        Lineage { fork, place }
    }
}

/// Whether the model may think.
fn thinks(model: &Model) -> bool {
    model.vocabulary.special_id("<think>").is_some()
}
