//! Files: the commands whose result is one.

pub mod pack;
pub mod quantize;
pub mod synth;
