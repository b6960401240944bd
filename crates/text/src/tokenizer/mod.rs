//! Tokenizer: text to token ids and back, byte-level, as the Qwen models were trained with.
//!
//! ```text
//! text ─ specials ─┬─ <|im_start|> ───────────────────────────────┬─ ids
//!                  └─ the rest ─ NFC ─ splitter ─ bytes ─ merges ─┘
//! ```

mod alphabet;
mod encode;
mod merges;
mod parts;
mod specials;
mod splitter;
mod vocabulary;

pub use encode::Special;
pub use parts::{Parts, SpecialIds};
pub(crate) use specials::Specials;
#[cfg(test)]
pub(crate) use vocabulary::tests::Small;
pub use vocabulary::{Controls, Kind, Vocabulary};
