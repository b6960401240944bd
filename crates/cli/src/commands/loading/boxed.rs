//! Boxed: the model in the binary, for those who have no other at hand. Asked here alone whether
//! there is one: the feature `box`.

use std::sync::Arc;

use qwire_gguf::File;

use crate::failure::Failure;

/// What it is called where another model has its path.
pub const NAME: &str = "qwire-box";

/// What is said where it is taken.
pub const NOTICE: &str = "qwire-box: no MODEL was named, so this is the small one in the binary; \
                          it knows qwire, and little else";

#[cfg(feature = "box")]
static BYTES: Option<&[u8]> = Some(include_bytes!("../../../../../assets/qwire-box.gguf"));
#[cfg(not(feature = "box"))]
static BYTES: Option<&[u8]> = None;

/// Its bytes, if it is there.
pub fn bytes() -> Option<&'static [u8]> {
    BYTES
}

/// Opens it where it lies.
pub fn open() -> Result<Arc<File>, Failure> {
    let Some(bytes) = BYTES else {
        let hint = "name a GGUF file; a binary with the feature `box` brings a small model along";
        return Err(Failure::usage("no MODEL was named, and none is in this binary").hint(hint));
    };
    Ok(Arc::new(File::from_bytes(bytes)?))
}
