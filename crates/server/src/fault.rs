//! Fault: why a request gets no answer, with its status, and how each wire says it.
//!
//! A handler returns it; the body is written at the edge, where the path tells the wire.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use qwire_engine::Refusal;
use serde_json::{Value, json};

/// A refusal or a failure.
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    /// The status of the answer.
    pub status: StatusCode,
    /// What a program may ask for.
    pub code: Option<&'static str>,
    /// The field of the request.
    pub param: Option<String>,
    /// What was found and what is accepted, for people.
    pub message: String,
    /// Seconds until another try makes sense.
    pub retry_after: Option<u32>,
}

/// Who is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// OpenAI, and everything that is nobody else's.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
    /// Ollama.
    Ollama,
}

impl Wire {
    /// The wire of a path.
    pub fn of(path: &str) -> Self {
        let below = |root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match path {
            _ if below("/v1/messages") => Self::Anthropic,
            _ if below("/api") => Self::Ollama,
            _ => Self::OpenAi,
        }
    }
}

impl Fault {
    /// A fault with a status and nothing else to ask for.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: None, param: None, message: message.into(), retry_after: None }
    }

    /// The request is wrong as a whole.
    pub fn request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A field of the request is wrong.
    pub fn field(param: impl Into<String>, message: impl fmt::Display) -> Self {
        let param = param.into();
        let message = format!("`{param}` {message}");
        Self { param: Some(param), ..Self::request(message) }
    }

    /// Another model was asked for.
    pub fn model(found: &str, accepted: &str) -> Self {
        let message = format!("the model `{found}` is not here; this server has `{accepted}`");
        let status = StatusCode::NOT_FOUND;
        Self { param: Some("model".into()), ..Self::new(status, message) }.code("model_not_found")
    }

    /// The model is not there yet.
    pub fn loading() -> Self {
        let message = "the model is being loaded; try again in a moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).code("loading").retry(2)
    }

    /// The server ends.
    pub fn draining() -> Self {
        let message = "the server is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).code("shutting_down").retry(10)
    }

    /// Somebody else has ended it.
    pub fn cancelled() -> Self {
        let status = StatusCode::from_u16(499).expect("a status of three digits");
        Self::new(status, "the request was cancelled by its name").code("cancelled")
    }

    /// Something broke that no request can mend; what it was stands in the log.
    pub fn internal() -> Self {
        let message = "an internal fault ended the answer; the log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message).code("internal_error")
    }

    /// With a code.
    pub fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// With a time after which to try again.
    pub fn retry(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds.clamp(1, 60)), ..self }
    }

    /// The body in the words of a wire.
    pub fn body(&self, wire: Wire, request_id: &str) -> Value {
        let Self { message, param, code, .. } = self;
        let kind = self.kind(wire);
        match wire {
            Wire::OpenAi => json!({
                "error": { "message": message, "type": kind, "param": param, "code": code }
            }),
            Wire::Anthropic => {
                // By these words clients know that the conversation has to become shorter.
                let long = *code == Some("context_length_exceeded");
                let long = if long { "prompt is too long: " } else { "" };
                json!({
                    "type": "error",
                    "error": { "type": kind, "message": format!("{long}{message}") },
                    "request_id": request_id,
                })
            }
            Wire::Ollama => json!({ "error": message }),
        }
    }

    /// The status that a wire has for it.
    pub fn status(&self, wire: Wire) -> StatusCode {
        match (wire, self.status) {
            (Wire::Anthropic, StatusCode::TOO_MANY_REQUESTS) => {
                StatusCode::from_u16(529).expect("a status of three digits")
            }
            (_, status) => status,
        }
    }

    fn kind(&self, wire: Wire) -> &'static str {
        let anthropic = wire == Wire::Anthropic;
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 if anthropic || self.code.is_none() => "not_found_error",
            413 if anthropic => "request_too_large",
            429 | 503 if anthropic => "overloaded_error",
            429 => "rate_limit_error",
            status if status >= 500 => {
                if anthropic {
                    "api_error"
                } else {
                    "server_error"
                }
            }
            _ => "invalid_request_error",
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::TooLong { .. } => Self::request(message).code("context_length_exceeded"),
            Refusal::Full { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, message).code("queue_full").retry(1)
            }
            Refusal::Draining => Self::draining(),
            Refusal::Choices { .. } => Self { param: Some("n".into()), ..Self::request(message) },
            Refusal::Empty | Refusal::Vocabulary { .. } | Refusal::Sampling(_) => {
                Self::request(message)
            }
        }
    }
}

impl From<qwire_engine::Fault> for Fault {
    fn from(fault: qwire_engine::Fault) -> Self {
        use qwire_engine::Fault as Engine;
        match fault {
            Engine::Model(_) | Engine::Logits(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, fault.to_string()).code("model_fault")
            }
            Engine::Constraint(_) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, fault.to_string()).code("constraint_failed")
            }
            Engine::Panic(_) => Self::internal(),
            Engine::Shutdown => Self::draining(),
        }
    }
}

/// The edge finds the fault among the extensions and writes the body.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wire_has_its_words() {
        let fault = Fault::field("temperature", "is 3: accepted is 0 to 2");
        assert_eq!(
            fault.body(Wire::OpenAi, "r").to_string(),
            "{\"error\":{\"message\":\"`temperature` is 3: accepted is 0 to 2\",\
             \"type\":\"invalid_request_error\",\"param\":\"temperature\",\"code\":null}}"
        );
        let full = Fault::from(Refusal::Full { waiting: 7 });
        assert_eq!(full.retry_after, Some(1));
        assert_eq!(full.status(Wire::OpenAi), 429);
        assert_eq!(full.status(Wire::Anthropic), 529);
        assert_eq!(full.body(Wire::Anthropic, "r")["error"]["type"], "overloaded_error");
        assert_eq!(full.body(Wire::Ollama, "r")["error"], "7 answers wait already");
    }

    #[test]
    fn a_path_tells_the_wire() {
        for (path, wire) in [
            ("/v1/messages", Wire::Anthropic),
            ("/v1/messages/count_tokens", Wire::Anthropic),
            ("/v1/messagesx", Wire::OpenAi),
            ("/api/chat", Wire::Ollama),
            ("/", Wire::OpenAi),
        ] {
            assert_eq!(Wire::of(path), wire, "{path}");
        }
    }
}
