//! The engine: sequences, pages and the sampler. It knows tokens, never text, and imports no
//! backend.

pub mod sampler;
