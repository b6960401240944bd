//! Delivery: how an answer is sent on OpenAI's wire, and what all of its streams say alike.

use serde_json::{Map, Value, json};

use super::letterhead::Letterhead;
use super::usage::Usage;
use crate::app::Settings;
use crate::chat::Step;
use crate::chat::speaker::{event, sign_of_life};
use crate::fault::Fault;
use crate::fields::Fields;

/// How an answer is sent.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that clients have")]
pub struct Delivery {
    /// As it comes.
    pub stream: bool,
    usage: bool,
    progress: bool,
    heartbeat_chunks: bool,
}

impl Delivery {
    /// Reads what all of OpenAI's streams know.
    pub fn read(fields: &mut Fields, settings: &Settings) -> Result<Self, Fault> {
        let stream = fields.flag("stream")?.unwrap_or(false);
        let mut usage = false;
        if let Some(mut options) = fields.object("stream_options")? {
            if !stream {
                return Err(fields.fault("stream_options", "needs `stream` to be true"));
            }
            usage = options.flag("include_usage")?.unwrap_or(false);
            options.without_effect(&["include_obfuscation", "continuous_usage_stats"]);
            fields.close(&options);
        }
        let progress = fields.flag("return_progress")?.unwrap_or(false);
        Ok(Self { stream, usage, progress, heartbeat_chunks: settings.heartbeat_chunks })
    }

    /// Says something of choices.
    pub fn chunk(self, mut body: Map<String, Value>, out: &mut Vec<u8>) {
        if self.usage {
            body.insert("usage".into(), Value::Null);
        }
        event(out, &body);
    }

    /// Says that it goes on: how far the prompt is, or with a choice that says nothing.
    pub fn wait(
        self,
        step: &Step,
        body: impl FnOnce(Value) -> Map<String, Value>,
        nothing: &Value,
        out: &mut Vec<u8>,
    ) {
        match step {
            Step::Prefill { done, total, cached, left } if self.progress => {
                let mut body = body(json!([]));
                let progress = json!({
                    "total": total, "processed": done, "cache": cached,
                    "seconds_left": left.as_secs_f64().ceil(),
                });
                body.insert("prompt_progress".into(), progress);
                self.chunk(body, out);
            }
            Step::Silence if self.heartbeat_chunks => self.chunk(body(json!([nothing])), out),
            step => sign_of_life(step, out),
        }
    }

    /// Says that it is over.
    pub fn close(self, letterhead: &Letterhead, object: &str, usage: Usage, out: &mut Vec<u8>) {
        if self.usage {
            let mut body = letterhead.body(object, json!([]));
            body.insert("usage".into(), json!(usage));
            event(out, &body);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}
