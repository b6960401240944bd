//! Error: one line about a file, naming the key or tensor, the problem and the byte offset.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be read or written. Its `Display` is a single line.
pub struct Error(Box<Fault>);

/// Boxed, because results that carry it are returned for every number read.
#[derive(Default)]
struct Fault {
    path: Option<PathBuf>,
    subject: Option<String>,
    problem: String,
    at: Option<u64>,
    cause: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(problem: impl Into<String>) -> Error {
        Error(Box::new(Fault { problem: problem.into(), ..Fault::default() }))
    }

    /// A failed call to the operating system on `path`, in plain words.
    pub(crate) fn io(path: &Path, cause: io::Error) -> Error {
        let mut error = Error::new(plain(&cause)).in_file(Some(path));
        error.0.cause = Some(cause);
        error
    }

    /// A failed write to the sink of a [`Writer`](crate::Writer), whose path it does not know.
    pub(crate) fn write(cause: io::Error) -> Error {
        let mut error = Error::new(format!("cannot write: {}", plain(&cause)));
        error.0.cause = Some(cause);
        error
    }

    pub(crate) fn at(mut self, at: u64) -> Error {
        self.0.at = Some(at);
        self
    }

    /// Names what the problem is about, unless a deeper level did already.
    pub(crate) fn about(mut self, subject: impl FnOnce() -> String) -> Error {
        if self.0.subject.is_none() {
            self.0.subject = Some(subject());
        }
        self
    }

    pub(crate) fn in_file(mut self, path: Option<&Path>) -> Error {
        if self.0.path.is_none() {
            self.0.path = path.map(Path::to_path_buf);
        }
        self
    }

    /// The file the error is about, where it has a path.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte offset of what was found.
    pub fn byte(&self) -> Option<u64> {
        self.0.at
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { path, subject, problem, at, .. } = &*self.0;
        if let Some(path) = path {
            write!(f, "{}: ", printable(&path.to_string_lossy()))?;
        }
        if let Some(subject) = subject {
            write!(f, "{subject}: ")?;
        }
        f.write_str(problem)?;
        at.map_or(Ok(()), |at| write!(f, " [at byte {at}]"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| cause as _)
    }
}

fn plain(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "no permission to read it".into(),
        io::ErrorKind::IsADirectory => "is a directory, not a GGUF file".into(),
        io::ErrorKind::StorageFull => "no space left on the disk".into(),
        _ => cause.to_string(),
    }
}

/// `text` in backticks, on one line and short, whatever a file put into it.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        None => format!("`{}`", printable(text)),
        Some((cut, _)) => format!("`{}…` ({} bytes)", printable(&text[..cut]), text.len()),
    }
}

/// Escapes what would break the line or repaint a terminal (controls, bidirectional overrides).
fn printable(text: &str) -> String {
    let hostile =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hostile(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_appear_in_order_on_one_line() {
        let error = Error::new("found 3, accepted: 4")
            .about(|| format!("key {}", quoted("a\nb\u{202e}")))
            .about(|| "never seen".into())
            .at(17)
            .in_file(Some(Path::new("dir/model\r.gguf")));
        let line = r"dir/model\r.gguf: key `a\nb\u{202e}`: found 3, accepted: 4 [at byte 17]";
        assert_eq!(error.to_string(), line);
        assert_eq!(error.byte(), Some(17));
    }

    #[test]
    fn long_names_are_cut() {
        let name = "é".repeat(500);
        assert_eq!(quoted(&name), format!("`{}…` (1000 bytes)", "é".repeat(80)));
    }

    #[test]
    fn io_errors_are_plain_words_and_keep_their_cause() {
        let error = Error::io(Path::new("x.gguf"), io::ErrorKind::NotFound.into());
        assert_eq!(error.to_string(), "x.gguf: no such file");
        assert!(std::error::Error::source(&error).is_some());
    }
}
