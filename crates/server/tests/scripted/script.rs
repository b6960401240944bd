//! Script: what a model says to what it is told last.
//!
//! ```json
//! [{ "hears": ["Fix", "notes.txt"], "says": "I read it.\n\n<tool_call>..</tool_call>" }]
//! ```
//! The first rule all of whose texts stand in the prompt's tail speaks: the tail is what came after
//! the model's last turn. So the order in which requests come changes nothing.

use serde_json::Value;

/// The rules, in their order.
pub struct Script(Vec<Rule>);

struct Rule {
    hears: Vec<String>,
    says: String,
}

impl Script {
    /// Reads the rules.
    pub fn read(json: &str) -> Result<Self, String> {
        let rules: Vec<Value> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        rules.iter().map(Rule::read).collect::<Result<_, _>>().map(Self)
    }

    /// What is said to a tail. Nobody was told what to say to anything else.
    pub fn answer(&self, tail: &str) -> &str {
        let hears = |rule: &&Rule| rule.hears.iter().all(|text| tail.contains(text.as_str()));
        self.0.iter().find(hears).map_or("The script has no line for this.", |rule| &rule.says)
    }
}

impl Rule {
    fn read(rule: &Value) -> Result<Self, String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let hears = rule["hears"].as_array().map(|texts| texts.iter().map(text).collect());
        let (Some(Some(hears)), Some(says)) = (hears, text(&rule["says"])) else {
            return Err(format!("{rule} is no rule: `hears` is a list of texts, `says` a text"));
        };
        Ok(Self { hears, says })
    }
}
