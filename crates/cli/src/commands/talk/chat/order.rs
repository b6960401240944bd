//! Order: a line that begins with a slash and is for the program.

use std::fs;
use std::io::Write;

use serde_json::Value;

use super::Chat;
use crate::arguments::{read_file, utf8};
use crate::failure::Failure;

/// Every order.
pub const NAMES: [&str; 7] = ["/help", "/system", "/reset", "/save", "/tools", "/stats", "/exit"];

const HELP: &str = "\
/system [TEXT]   show what the model is told before all else, or set it; - removes it
/tools [FILE]    show the tools that are offered, or offer those of a file, a list in OpenAI's
                 form; - removes them. The results of calls are then yours to type
/reset           begin a new conversation, with the same system text and tools
/save FILE       write the conversation as the JSON of a request
/stats           tokens and speed
/exit            end, as does Ctrl-D
A backslash at the end of a line, or \"\"\" around them, keeps several lines together.";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Help,
    System(String),
    Reset,
    Save(String),
    Tools(String),
    Stats,
    Exit,
}

impl Order {
    /// The order of a line; none where it is a message. A path such as /etc/hosts is one.
    pub fn of(line: &str) -> Option<Result<Self, Failure>> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let word = name.strip_prefix('/')?;
        if word.contains('/') {
            return None;
        }
        let rest = rest.trim().to_string();
        let takes = matches!(name, "/system" | "/save" | "/tools");
        Some(match name {
            _ if !rest.is_empty() && !takes && NAMES.contains(&name) => {
                Err(Failure::new(format!("{name} takes no argument")))
            }
            "/help" => Ok(Self::Help),
            "/system" => Ok(Self::System(rest)),
            "/reset" => Ok(Self::Reset),
            "/save" if rest.is_empty() => Err(Failure::new("/save needs the name of a file")),
            "/save" => Ok(Self::Save(rest)),
            "/tools" => Ok(Self::Tools(rest)),
            "/stats" => Ok(Self::Stats),
            "/exit" => Ok(Self::Exit),
            _ => {
                let known = NAMES.join(", ");
                Err(Failure::new(format!("there is no {name}; accepted: {known}")))
            }
        })
    }
}

impl Chat<'_> {
    /// Does it.
    pub fn obey(&mut self, order: Order) -> Result<(), Failure> {
        let conversation = &mut self.conversation;
        match order {
            Order::Help => eprintln!("{HELP}"),
            Order::System(text) => match text.as_str() {
                "" => match &conversation.system {
                    Some(system) => eprintln!("{system}"),
                    None => eprintln!("there is no system text"),
                },
                "-" => conversation.system = None,
                _ => conversation.system = Some(text),
            },
            Order::Reset => {
                conversation.truncate(0);
                self.stats = None;
            }
            Order::Save(path) => save(&path, &conversation.request())?,
            Order::Tools(path) => match path.as_str() {
                "" if conversation.tools.is_empty() => eprintln!("no tools are offered"),
                "" => eprintln!("{}", names(&conversation.tools)),
                "-" => conversation.tools.clear(),
                _ => {
                    conversation.tools = tools(&path)?;
                    eprintln!("{}", names(&conversation.tools));
                }
            },
            Order::Stats => eprintln!("{}", self.stats()),
            Order::Exit => {}
        }
        Ok(())
    }
}

fn names(tools: &[Value]) -> String {
    let names = tools.iter().filter_map(|tool| tool["function"]["name"].as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// Writes a file that is not there yet.
fn save(path: &str, request: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(request).expect("JSON can be written");
    fs::File::create_new(path)
        .and_then(|mut file| writeln!(file, "{text}"))
        .map_err(|error| Failure::new(format!("{path}: {error}")))
}

/// The tools of a file: a list, or an object with `tools` as a request has it.
fn tools(path: &str) -> Result<Vec<Value>, Failure> {
    let text = utf8(read_file(path.as_ref())?, path)?;
    let fault = |why: String| Failure::new(format!("{path}: {why}"));
    let value: Value = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    let list = value.as_array().or_else(|| value["tools"].as_array());
    let list = list.ok_or_else(|| fault("is no list of tools".into()))?;
    for (at, tool) in list.iter().enumerate() {
        if tool["type"] != "function" || !tool["function"]["name"].is_string() {
            let accepted = r#"{"type": "function", "function": {"name": .., "parameters": ..}}"#;
            return Err(fault(format!("item {} is no tool; accepted: {accepted}", at + 1)));
        }
    }
    Ok(list.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_slash_are_orders() {
        let order = |line| Order::of(line).map(|order| order.map_err(|fault| fault.message()));
        assert_eq!(order("hello"), None);
        assert_eq!(order("/etc/hosts is a file"), None);
        assert_eq!(order(" /stats "), Some(Ok(Order::Stats)));
        assert_eq!(
            order("/system  be brief\nor not"),
            Some(Ok(Order::System("be brief\nor not".into())))
        );
        assert_eq!(order("/system"), Some(Ok(Order::System(String::new()))));
        for (line, words) in [
            ("/save", "needs the name"),
            ("/reset now", "takes no argument"),
            ("/quit", "there is no /quit; accepted: /help"),
        ] {
            let fault = order(line).unwrap().unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
    }
}
