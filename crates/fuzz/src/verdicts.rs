//! What the command line reads of files: contracts, evidence, options and arrays.

use qwire::readers;
use qwire_disk::hex;
use qwire_kernels::NUMBERS_VERSION;
use sha2::{Digest, Sha256};

use crate::files::Scratch;

fn told<T>(read: Result<T, String>) -> Option<T> {
    read.inspect_err(|why| assert!(!why.is_empty() && !why.contains('\n'), "{why}")).ok()
}

/// A contract means something in each of its names, or is refused in one line.
pub fn contract(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        told(readers::contract(text));
    }
}

/// Evidence is judged again or refused. The manifest ends with a zero, and the record of `canary`
/// follows; SUM stands for that one's checksum, VERSION for this program's numbers.
pub fn evidence(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let Ok(manifest) = str::from_utf8(&bytes[..at]) else { return };
    let record = bytes.get(at + 1..).unwrap_or_default();
    let version = NUMBERS_VERSION.to_string();
    let manifest =
        manifest.replace("SUM", &hex(&Sha256::digest(record))).replace("VERSION", &version);
    let scratch = Scratch::new();
    scratch.put("manifest.json", manifest.as_bytes());
    scratch.put("canary.json", record);
    if let Some(records) = told(readers::evidence(scratch.path())) {
        assert!(records <= 1, "{records} records of one file");
    }
}

/// A file of options is understood or refused.
pub fn options(bytes: &[u8]) {
    let scratch = Scratch::new();
    told(readers::options(&scratch.put("serve.toml", bytes)));
}

/// An array has the shape that it is read in, or is refused.
pub fn array(bytes: &[u8]) {
    const ROWS: usize = 2;
    const COLUMNS: usize = 3;
    if told(readers::array(bytes, ROWS, COLUMNS)).is_some() {
        assert!(bytes.len() > 4 * ROWS * COLUMNS);
    }
}
