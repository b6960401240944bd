//! `qwire tokenize`: text to ids and back, with the vocabulary of a model and nothing else of it.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use qwire_text::{Controls, Special, Vocabulary};
use serde::Serialize;

use super::loading;
use crate::arguments::{parse_ids, read_stdin, utf8};
use crate::failure::Failure;

/// Turn text on stdin into token ids, or ids into text
#[derive(Args)]
#[command(after_help = "\
Prints a list such as [1, 2, 3]; no start token is added. A file that holds only a vocabulary is
enough.

Examples:
  echo -n \"Hello world\" | qwire tokenize model.gguf
  echo \"[9707, 1879]\" | qwire tokenize model.gguf --decode")]
pub struct TokenizeArgs {
    /// The model, or its first file [default: the small one in the binary]
    model: Option<PathBuf>,
    /// Leave the texts of special tokens, such as <|im_end|>, as text
    #[arg(long, conflicts_with = "decode")]
    no_special: bool,
    /// Print {"tokens": [ids], "pieces": [text of each]}
    #[arg(long, conflicts_with = "decode")]
    json: bool,
    /// Read ids from stdin (commas, blanks or newlines between, brackets or not), write their bytes
    #[arg(long)]
    decode: bool,
}

#[derive(Serialize)]
struct Tokens {
    tokens: Vec<u32>,
    pieces: Vec<String>,
}

/// Reads stdin, writes stdout.
pub fn tokenize(args: &TokenizeArgs) -> Result<u8, Failure> {
    let file = loading::open(args.model.as_deref(), false)?;
    let vocabulary = Vocabulary::from_gguf(file.metadata())
        .map_err(|error| Failure::from(error).in_file(loading::shown(args.model.as_deref())))?;
    let text = utf8(read_stdin()?, "stdin")?;
    let mut out = io::stdout().lock();
    if args.decode {
        let ids = parse_ids(&text).map_err(Failure::new)?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary.len()) {
            let size = vocabulary.len();
            return Err(Failure::new(format!("id {id} is not in the vocabulary of {size} tokens")));
        }
        out.write_all(&vocabulary.decode_bytes(&ids, Controls::Show))?;
        out.flush()?;
        return Ok(0);
    }
    let special = if args.no_special { Special::AsText } else { Special::Parse };
    let tokens = vocabulary.encode(&text, special);
    if args.json {
        let piece = |id: &u32| vocabulary.decode(&[*id], Controls::Show);
        let pieces = tokens.iter().map(piece).collect();
        serde_json::to_writer(&mut out, &Tokens { tokens, pieces }).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        let ids: Vec<_> = tokens.iter().map(u32::to_string).collect();
        writeln!(out, "[{}]", ids.join(", "))?;
    }
    out.flush()?;
    Ok(0)
}
