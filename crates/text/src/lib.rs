//! Text: everything between what people write and the ids that a model sees.
//!
//! ```text
//! messages, tools ── ChatTemplate::prompt ──► ids, in which only the template wrote structure
//!
//! ids ── Vocabulary::token_bytes ──► bytes ── Decoder ──► text ── tools::Reader ──► parts
//! parts: reasoning; calls of tools; text ── StopStrings ──► visible text
//!
//! tools ── tools::Dialect::grammar ──► how a call is written, from where tools::Trigger finds one
//!
//! schema, regex, Lark, GBNF ── Grammars ──► Grammar ── mask ──► the ids that may come next
//! ```
//!
//! Whatever can be wrong with a file is refused when it is loaded, in one line that names the
//! key; afterwards encoding and decoding cannot fail. A template is foreign code and runs within
//! bounds. Nothing here knows tensors, devices or HTTP.

mod decoder;
mod error;
mod grammar;
mod stop_strings;
mod template;
mod tokenizer;
pub mod tools;

pub use decoder::Decoder;
pub use error::Error;
pub use grammar::{Grammar, Grammars, Refused};
pub use stop_strings::{StopStrings, Visible};
pub use template::{ChatTemplate, Oblivion, Opening, Prompt, Recall};
pub use tokenizer::{Controls, Kind, Parts, Special, SpecialIds, Vocabulary};
