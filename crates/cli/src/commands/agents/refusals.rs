//! Refusals: whether an agent understands why it gets no answer.

use serde_json::{Value, json};

use super::client::Answer;
use super::events::shown;
use super::roster::Wire;

/// A request that nobody can answer, for a wire.
pub fn nonsense(wire: Wire, model: &str) -> Value {
    match wire {
        Wire::Responses => json!({ "model": model, "input": 5 }),
        Wire::Chat | Wire::Messages => {
            json!({ "model": model, "messages": 5, "max_tokens": 16 })
        }
    }
}

/// A conversation of at least so many tokens.
pub fn endless(wire: Wire, model: &str, tokens: u64) -> Value {
    let text = "word ".repeat(usize::try_from(tokens).unwrap_or(usize::MAX));
    let message = json!({ "role": "user", "content": text });
    match wire {
        Wire::Responses => json!({ "model": model, "input": [message] }),
        Wire::Chat | Wire::Messages => {
            json!({ "model": model, "messages": [message], "max_tokens": 16 })
        }
    }
}

/// What is wrong with a refusal, which agents read by its status and its form.
pub fn faults(wire: Wire, answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    if answer.status != 400 {
        faults.push(format!("the status is {}, not 400", answer.status));
    }
    let body = answer.json();
    let error = &body["error"];
    let whole = match wire {
        Wire::Messages => {
            body["type"] == "error"
                && error["type"].is_string()
                && error["message"].is_string()
                && body["request_id"].is_string()
        }
        Wire::Chat | Wire::Responses => {
            let keys = ["message", "type", "param", "code"];
            keys.iter().all(|key| error.get(key).is_some()) && error["message"].is_string()
        }
    };
    if !whole {
        faults.push(format!("the error has another form: {}", shown(&answer.text())));
    }
    faults
}

/// The same, of a conversation that is too long: on that agents shorten it.
pub fn faults_of_length(wire: Wire, answer: &Answer) -> Vec<String> {
    let mut faults = faults(wire, answer);
    let error = &answer.json()["error"];
    let known = match wire {
        Wire::Messages => {
            let message = error["message"].as_str().unwrap_or_default();
            error["type"] == "invalid_request_error" && message.contains("prompt is too long")
        }
        Wire::Chat | Wire::Responses => error["code"] == "context_length_exceeded",
    };
    if !known {
        let fault = "it does not say in the wire's words that the prompt is too long";
        faults.push(fault.to_owned());
    }
    faults
}
