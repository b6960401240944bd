//! Class: how urgent a request is, as far as it can be told from what it looks like.
//!
//! ```text
//! x-priority, service_tier     as the client says
//! a small model's name         titles and summaries: agents have them written by the small one
//! a few tokens to a question   a warm-up, a probe
//! a title is asked for         nobody waits for it
//! ```
//! A background request waits for others, and what it leaves in the cache is the first to go.

use qwire_engine::Class;
use serde_json::Value;

use super::conversation::Conversation;
use crate::fault::Fault;

/// Where a client says it.
pub const HEADER: &str = "x-priority";

/// Answers of so few tokens are probes.
const PROBE_TOKENS: usize = 8;
/// Characters of a request for a title, without what the title is for.
const TITLE_CHARS: usize = 4096;
/// Parts of the names of small models.
const SMALL: [&str; 5] = ["haiku", "-mini", "-nano", "-small", "-lite"];
/// How agents ask for what nobody waits for.
const TITLES: [&str; 8] = [
    "generate a title",
    "generate a concise title",
    "generate a short title",
    "title for this conversation",
    "title for the conversation",
    "new conversation topic",
    "title generator",
    "conversation title",
];

/// The class that a header names.
pub fn of_header(value: &str) -> Result<Class, Fault> {
    match value.trim().to_ascii_lowercase().as_str() {
        "interactive" | "high" => Ok(Class::Interactive),
        "normal" | "default" => Ok(Class::Normal),
        "background" | "low" => Ok(Class::Background),
        _ => {
            let accepted = "`interactive`, `normal` and `background`";
            Err(Fault::field(HEADER, format!("is unknown: accepted is {accepted}")))
        }
    }
}

/// The class of a request that does not say it.
pub fn inferred(model: Option<&str>, max_tokens: Option<usize>, chat: &Conversation) -> Class {
    let small = model.is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        SMALL.iter().any(|part| name.contains(part))
    });
    let probe = max_tokens.is_some_and(|most| most <= PROBE_TOKENS);
    if small || probe || wants_title(chat) { Class::Background } else { Class::Normal }
}

/// Whether instructions or a short first question ask for a title.
fn wants_title(chat: &Conversation) -> bool {
    // An agent at work has tools, or has answered already.
    if !chat.tools.is_empty() || chat.messages.len() > 3 {
        return false;
    }
    let asks = |message: &Value| {
        let text = message["content"].as_str().unwrap_or_default();
        let short = text.chars().count() <= TITLE_CHARS;
        let text = if short { text.to_lowercase() } else { String::new() };
        TITLES.iter().any(|title| text.contains(title))
    };
    chat.messages.iter().any(asks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nobody_waits_for_is_background() {
        let user = |text: &str| {
            let messages = vec![json!({ "role": "user", "content": text })];
            Conversation { messages, ..Conversation::default() }
        };
        let check = |model, most, text: &str, expected| {
            assert_eq!(inferred(model, most, &user(text)), expected, "{model:?} {most:?} {text}");
        };
        let (normal, background) = (Class::Normal, Class::Background);
        check(Some("claude-haiku-4-5"), Some(32_000), "Hi", background);
        check(Some("gpt-5-mini"), None, "Hi", background);
        check(Some("qwen3-coder"), None, "Hi", normal);
        check(None, Some(1), "quota", background);
        check(None, Some(64), "Hi", normal);
        check(None, None, "Generate a title for this conversation:\nHi", background);
        check(None, None, &format!("{} generate a title", "x".repeat(9000)), normal);
    }

    #[test]
    fn an_agent_at_work_is_never_taken_for_a_title() {
        let message = |role: &str| json!({ "role": role, "content": "Generate a title component" });
        let check = |roles: &[&str], tools: Vec<Value>| {
            let messages = roles.iter().map(|role| message(role)).collect();
            let chat = Conversation { messages, tools, ..Conversation::default() };
            assert_eq!(inferred(None, None, &chat), Class::Normal);
        };
        check(&["system", "user", "assistant", "tool"], Vec::new());
        check(&["user"], vec![json!({})]);
    }

    #[test]
    fn a_header_says_it() {
        assert_eq!(of_header(" Background"), Ok(Class::Background));
        assert_eq!(of_header("high"), Ok(Class::Interactive));
        assert_eq!(of_header("urgent").unwrap_err().param.as_deref(), Some(HEADER));
    }
}
