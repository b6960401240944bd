//! Options: what `/api/chat` and `/api/generate` have in common, in Ollama's words.

use serde_json::{Map, Value, json};

use crate::app::Model;
use crate::chat::reading::form::checked;
use crate::chat::{Form, Parameters};
use crate::fault::Fault;
use crate::fields::{Fields, wrong};

/// Most texts that end an answer.
const STOPS: usize = 64;
/// How a model is loaded is settled here, and what else changes nothing.
const WITHOUT_EFFECT: &[&str] = &[
    "f16_kv",
    "logits_all",
    "low_vram",
    "main_gpu",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_gqa",
    "num_keep",
    "num_thread",
    "numa",
    "penalize_newline",
    "tfs_z",
    "use_mlock",
    "use_mmap",
    "vocab_only",
];

/// How an answer is made.
pub struct Options {
    /// Its tokens.
    pub parameters: Parameters,
    /// What it must look like.
    pub form: (Form, String),
    /// Switches for the template.
    pub switches: Map<String, Value>,
    /// As it comes.
    pub stream: bool,
}

impl Options {
    /// Reads `options`, `format`, `think` and `stream`.
    pub fn read(fields: &mut Fields, model: &Model) -> Result<Self, Fault> {
        fields.without_effect(&["keep_alive"]);
        let path = fields.path("options");
        let options = fields.take("options").unwrap_or_else(|| json!({}));
        let mut options = Fields::of(options, &path)?;
        let mut parameters = Parameters::read(&mut options, model, STOPS)?;
        parameters.n = 1;
        parameters.guard_repetition = options.flag("repetition_guard")?.unwrap_or(true);
        // Negative numbers are as many as fit.
        let most = options.number("num_predict", -10.0..=1e9)?;
        parameters.max_tokens = most.filter(|most| *most > 0.0).map(|most| most as usize);
        options.without_effect(WITHOUT_EFFECT);
        fields.close(&options);
        Ok(Self {
            parameters,
            form: form(fields)?,
            switches: thinking(fields)?,
            stream: fields.flag("stream")?.unwrap_or(true),
        })
    }
}

/// `json`, or a schema.
fn form(fields: &mut Fields) -> Result<(Form, String), Fault> {
    let path = fields.path("format");
    let form = match fields.take("format") {
        None => Form::Free,
        Some(Value::String(word)) => match word.as_str() {
            "" => Form::Free,
            "json" => Form::Object,
            _ => return Err(Fault::field(path, "is unknown: accepted is `json` or a schema")),
        },
        Some(schema) => Form::Schema(checked(schema, &path)?),
    };
    Ok((form, path))
}

/// A flag, or how hard.
fn thinking(fields: &mut Fields) -> Result<Map<String, Value>, Fault> {
    let path = fields.path("think");
    let mut switches = Map::new();
    let thinks = match fields.take("think") {
        None => return Ok(switches),
        Some(Value::Bool(thinks)) => thinks,
        Some(Value::String(effort)) => {
            switches.insert("reasoning_effort".into(), json!(effort));
            effort != "none"
        }
        Some(other) => return Err(wrong(&path, &other, "true, false, or an effort")),
    };
    switches.insert("enable_thinking".into(), json!(thinks));
    Ok(switches)
}
