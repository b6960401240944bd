//! Text: everything between what people write and the ids that a model sees.

mod decoder;
mod error;
mod stop_strings;
mod tokenizer;

pub use decoder::Decoder;
pub use error::Error;
pub use stop_strings::{StopStrings, Visible};
pub use tokenizer::{Controls, Kind, Parts, Special, SpecialIds, Vocabulary};
