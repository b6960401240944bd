//! Environment: the variables that qwire reads, in the only file that reads any.
//!
//! ```text
//! QWIRE_THREADS   default of --threads
//! QWIRE_ISA       default of --isa
//! QWIRE_OPTION    default of any option of `qwire serve`
//! XDG_CACHE_HOME  where to keep what can be made again; else HOME/.cache
//! XDG_STATE_HOME  where the lines of a chat are kept; else HOME/.local/state
//! PATH            where `qwire launch` looks for an agent
//! NO_COLOR        no colour on stderr when set to anything, as does TERM=dumb
//! ```
//! A flag wins over a variable.

use std::collections::HashMap;
use std::env;
use std::path::PathBuf;

use crate::failure::Failure;

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Worker threads.
    pub threads: Option<usize>,
    /// The name of an instruction set.
    pub isa: Option<String>,
    /// The folder for what can be made again.
    pub cache: Option<PathBuf>,
    /// The folder for what was done before.
    pub history: Option<PathBuf>,
    /// Whether messages may be coloured on a terminal.
    pub colour: bool,
    /// The folders of programs.
    pub programs: Vec<PathBuf>,
    /// Every variable whose name begins with QWIRE_.
    pub own: HashMap<String, String>,
}

impl Environment {
    /// Reads the process's own.
    pub fn read() -> Result<Self, Failure> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self::from(env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    fn from(mut variables: HashMap<String, String>) -> Result<Self, Failure> {
        let dumb = variables.get("TERM").is_some_and(|terminal| terminal == "dumb");
        variables.retain(|_, value| !value.is_empty());
        let set = |name| variables.get(name).cloned();
        let threads = set("QWIRE_THREADS").map(|value| {
            let number = value.parse().ok().filter(|threads| (1..=1024).contains(threads));
            let fault = format!("QWIRE_THREADS is `{value}`; accepted: 1 to 1024");
            number.ok_or_else(|| Failure::usage(fault))
        });
        let absolute = |path: &PathBuf| path.is_absolute();
        let home = set("HOME").map(PathBuf::from).filter(absolute);
        let cache = set("XDG_CACHE_HOME").map(PathBuf::from).filter(absolute);
        Ok(Self {
            threads: threads.transpose()?,
            isa: set("QWIRE_ISA"),
            history: set("XDG_STATE_HOME")
                .map(PathBuf::from)
                .filter(absolute)
                .or_else(|| home.as_ref().map(|home| home.join(".local/state"))),
            cache: cache.or_else(|| home.map(|home| home.join(".cache"))),
            colour: set("NO_COLOR").is_none() && !dumb,
            programs: set("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default(),
            own: variables.into_iter().filter(|(name, _)| name.starts_with("QWIRE_")).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Environment, String> {
        let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Environment::from(pairs.collect()).map_err(|failure| failure.message())
    }

    #[test]
    fn variables_are_read_and_checked() {
        let set =
            read(&[("QWIRE_THREADS", "3"), ("QWIRE_ISA", "avx2"), ("NO_COLOR", "1")]).unwrap();
        assert_eq!((set.threads, set.isa.as_deref(), set.colour), (Some(3), Some("avx2"), false));
        assert_eq!((set.own.len(), set.own["QWIRE_ISA"].as_str()), (2, "avx2"));
        let empty = read(&[("QWIRE_THREADS", ""), ("NO_COLOR", "")]).unwrap();
        assert_eq!((empty.threads, empty.colour), (None, true));
        let cache = |pairs: &[_]| read(pairs).unwrap().cache;
        assert_eq!(cache(&[("HOME", "/a")]), Some("/a/.cache".into()));
        assert_eq!(cache(&[("HOME", "/a"), ("XDG_CACHE_HOME", "/b")]), Some("/b".into()));
        assert_eq!(cache(&[("HOME", "/a"), ("XDG_CACHE_HOME", "b")]), Some("/a/.cache".into()));
        assert_eq!(cache(&[]), None);
        let history = |pairs: &[_]| read(pairs).unwrap().history;
        assert_eq!(history(&[("HOME", "/a")]), Some("/a/.local/state".into()));
        assert_eq!(history(&[("HOME", "/a"), ("XDG_STATE_HOME", "/b")]), Some("/b".into()));
        assert!(!read(&[("TERM", "dumb")]).unwrap().colour);
        let fault = read(&[("QWIRE_THREADS", "many")]).unwrap_err();
        assert!(fault.contains("QWIRE_THREADS is `many`"), "{fault}");
    }
}
