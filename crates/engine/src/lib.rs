//! Tokens in, tokens out: sequences over one model, their pages, and the sampler.
//!
//! ```text
//! Request -> Generation:  prompt in chunks -> [ sample -> token -> step ] .. -> Finish
//!            Engine       one runner, one pool of pages, any number of sequences
//! ```
//! It knows tokens and never text; devices only through [`qwire_model::Runner`].

pub mod engine;
pub mod generation;
pub mod pages;
pub mod sampler;

pub use engine::{Engine, Fault, Outputs, Sequence};
pub use generation::{Finish, Generation, Request, Sampled};
pub use pages::{Pages, Table};
pub use sampler::{Sampler, Sampling};
