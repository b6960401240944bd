//! The prompt: what the user wrote, from wherever, in the model's chat template, as ids.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Args;
use qwire_gguf::Metadata;
use qwire_text::{ChatTemplate, Special, Vocabulary};
use serde_json::{Map, Value, json};

use crate::arguments::{is_piped, read_file, read_stdin, utf8};
use crate::failure::Failure;

/// Where the prompt comes from.
#[derive(Args)]
#[command(next_help_heading = "Prompt")]
pub struct PromptArgs {
    /// The prompt; without it and without -f, stdin is read
    #[arg(help_heading = None)]
    prompt: Option<String>,
    /// Read the prompt from a file (- is stdin); with PROMPT too, both with a blank line between
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Continue the prompt as it is, without the chat template
    #[arg(long, conflicts_with_all = ["system", "no_think", "template_arg"])]
    raw: bool,
    #[command(flatten)]
    template: TemplateArgs,
}

/// What the chat template is told.
#[derive(Args)]
#[command(next_help_heading = "Prompt")]
pub struct TemplateArgs {
    /// What the model is told before all else
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Ask a thinking model to answer at once (enable_thinking=false)
    #[arg(long)]
    no_think: bool,
    /// Set a variable of the chat template; the value is JSON, or else text; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    template_arg: Vec<(String, Value)>,
}

impl TemplateArgs {
    /// The template's variables.
    pub fn variables(&self) -> Map<String, Value> {
        let thinking = self.no_think.then(|| ("enable_thinking".to_string(), json!(false)));
        thinking.into_iter().chain(self.template_arg.iter().cloned()).collect()
    }
}

/// The ids of the whole prompt. Texts of special tokens become those tokens: in the output of a
/// template as it demands, and in raw text because it is the operator's own.
pub fn ids(
    args: &PromptArgs,
    words: Option<&str>,
    model: &Path,
    metadata: &Metadata,
    vocabulary: &Vocabulary,
) -> Result<Vec<u32>, Failure> {
    let unusable = |error: &dyn Display| {
        let hint = "with --raw the model continues the prompt without its template";
        Failure::new(error).in_file(model).hint(hint)
    };
    let text = if args.raw {
        args.text(words)?
    } else {
        let template = ChatTemplate::from_gguf(metadata, vocabulary);
        let template = template.map_err(|error| unusable(&error))?;
        let template = template.ok_or_else(|| unusable(&"the model has no chat template"))?;
        let rendered =
            template.render(&args.messages(words)?, None, true, &args.template.variables());
        rendered.map_err(|error| unusable(&error))?
    };
    let ids = vocabulary.encode_prompt(&text, Special::Parse);
    if ids.is_empty() {
        return Err(unusable(&"the chat template makes nothing of the prompt"));
    }
    Ok(ids)
}

impl PromptArgs {
    /// PROMPT as it stands in second place.
    pub fn prompt(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    /// PROMPT, the file or both; else stdin. A prompt for a template loses its last line's end,
    /// which an editor or `echo` put there.
    fn text(&self, words: Option<&str>) -> Result<String, Failure> {
        let file = match &self.file {
            Some(path) => Some(utf8(read_file(path)?, &path.display().to_string())?),
            None if words.is_some() => None,
            None if is_piped() => Some(utf8(read_stdin()?, "stdin")?),
            None => {
                return Err(Failure::usage("there is no prompt")
                    .hint("give it as an argument, with -f FILE, or pipe it into stdin"));
            }
        };
        let file = file.map(|text| if self.raw { text } else { without_line_end(text) });
        let text = match (words, file) {
            (Some(prompt), Some(file)) => format!("{prompt}\n\n{file}"),
            (Some(prompt), None) => prompt.to_string(),
            (None, file) => file.unwrap_or_default(),
        };
        if text.is_empty() {
            let hint = "give it as an argument, with -f FILE, or pipe it into stdin";
            return Err(Failure::new("the prompt is empty").hint(hint));
        }
        Ok(text)
    }

    fn messages(&self, words: Option<&str>) -> Result<Value, Failure> {
        let user = json!({ "role": "user", "content": self.text(words)? });
        Ok(match &self.template.system {
            Some(system) => json!([{ "role": "system", "content": system }, user]),
            None => json!([user]),
        })
    }
}

fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

fn parse_variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("accepted: NAME=VALUE")?;
    if name.is_empty() {
        return Err("accepted: NAME=VALUE, with a name".into());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_json_or_text() {
        let check = |text: &str, expected: Value| {
            assert_eq!(parse_variable(text), Ok(("k".to_string(), expected)), "{text}");
        };
        check("k=true", json!(true));
        check("k=3", json!(3));
        check("k=[1,2]", json!([1, 2]));
        check("k=", json!(""));
        check("k=low effort", json!("low effort"));
        check("k=a=b", json!("a=b"));
        assert!(parse_variable("k").is_err() && parse_variable("=v").is_err());
    }

    #[test]
    fn one_line_end_is_not_part_of_a_question() {
        let check = |text: &str, expected| assert_eq!(without_line_end(text.into()), expected);
        check("a\n", "a");
        check("a\r\n", "a");
        check("a\n\n", "a\n");
        check("a", "a");
        check("", "");
    }
}
