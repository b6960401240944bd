//! Chat: what all wires share between the fields of a request and the chunks of its answer.
//!
//! ```text
//! fields ─ Conversation ─ Prompt ─┐
//!       └─ Parameters ────────────┴─ Order ─ Generation ─ Step ─┬─ stream: a Speaker's events
//!                                                               └─ whole:  an answer at once
//! ```

pub mod class;
pub mod conversation;
pub mod fork;
pub mod generation;
pub mod name;
pub mod parameters;
pub mod reading;
pub mod replay;
pub mod speaker;
pub mod turn;
pub mod whole;

pub use conversation::Conversation;
pub use generation::{Finish, Generation, Order, Over, Step};
pub use parameters::{Logprobs, Parameters};
pub use reading::{Form, Reading, ToolChoice};
pub use speaker::{Asked, Speaker};
pub use turn::Turn;
