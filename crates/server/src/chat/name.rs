//! Name: what answers and prompts are called.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::fault::Fault;

/// A name that nobody can guess.
pub fn named(prefix: &str) -> Result<String, Fault> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|_| Fault::internal())?;
    Ok(format!("{prefix}{}", hex(&bytes)))
}

/// What names a prompt: its tokens alone.
pub fn hash_of(ids: &[u32]) -> String {
    let mut hash = Sha256::new();
    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    hex(&hash.finalize()[..8])
}

/// Bytes as digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
