//! The binary under test: arguments and stdin in, exit code and both outputs out.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What was printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Proves that the run ended with this code and one line that holds these words.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.signal), (Some(code), None), "{}", self.stderr);
        let lines: Vec<_> = self.stderr.lines().collect();
        let errors: Vec<_> = lines.iter().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        if code == 1 {
            let known = |line: &&str| ["error: ", "hint: "].iter().any(|s| line.starts_with(s));
            let rest: Vec<_> = lines.iter().filter(|line| !known(line)).collect();
            assert!(rest.iter().all(|line| line.starts_with("cpu ")), "{}", self.stderr);
        }
        // The parser's own messages take several lines.
        let told = if code == 2 { self.stderr.as_str() } else { errors[0] };
        for word in words {
            assert!(told.contains(word), "{word:?} is not in {told:?}");
        }
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The binary, in an environment that says nothing to it.
pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwire"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let own = std::env::vars_os().map(|(name, _)| name);
    for name in own.filter(|name| name.to_string_lossy().starts_with("QWIRE_")) {
        command.env_remove(name);
    }
    command.env_remove("NO_COLOR").env_remove("XDG_CACHE_HOME").env_remove("HOME");
    // Mesa's driver complains on stderr where it is missing.
    command.env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Runs it with nothing on stdin.
pub fn qwire<S: AsRef<OsStr>>(args: &[S]) -> Outcome {
    command(args).output().expect("the binary starts").into()
}

/// Runs it with this on stdin.
pub fn qwire_with<S: AsRef<OsStr>>(args: &[S], stdin: &[u8]) -> Outcome {
    let mut child = command(args).stdin(Stdio::piped()).spawn().expect("the binary starts");
    // A child that fails early does not read.
    let _ = child.stdin.take().expect("it is piped").write_all(stdin);
    finish(child)
}

/// Waits for the end.
pub fn finish(child: Child) -> Outcome {
    child.wait_with_output().expect("its outputs can be read").into()
}
