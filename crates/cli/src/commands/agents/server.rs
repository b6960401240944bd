//! Server: `qwire serve` as a process of our own, from its first word to its end.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;
use std::{env, thread};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::failure::Failure;

/// Between two looks whether the end was asked for.
const GLANCE: Duration = Duration::from_millis(100);

/// Lines that are shown of a server that could not start.
const LAST: usize = 5;

/// A server, ended when it is dropped.
pub struct Server {
    /// Where it listens.
    pub url: String,
    child: Child,
}

impl Server {
    /// Starts it at a free port, and waits until its model is loaded.
    pub fn start(model: &Path, ending: &AtomicBool) -> Result<Self, Failure> {
        let fault = |error| Failure::new(format!("the server cannot be started: {error}"));
        let own = env::current_exe().map_err(fault)?;
        let mut command = Command::new(own);
        command.arg("serve").arg(model).args(["--port", "0", "--log-format", "json"]);
        command.args(["--host", "127.0.0.1", "--log", "info"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // What a terminal sends is not for it: it ends after the agent.
        let mut child = command.process_group(0).spawn().map_err(fault)?;
        let lines = heard(child.stderr.take().expect("it is piped"));
        let mut server = Self { url: String::new(), child };
        eprintln!("starting a server for {} ..", model.display());
        server.wait(&lines, ending)?;
        // Its log goes on, and nobody reads it: it must not stop for that.
        thread::spawn(move || lines.iter().for_each(drop));
        Ok(server)
    }

    fn wait(&mut self, lines: &Receiver<String>, ending: &AtomicBool) -> Result<(), Failure> {
        let mut said = Vec::new();
        loop {
            if ending.load(Ordering::Relaxed) {
                return Err(Failure::silent(143));
            }
            let line = match lines.recv_timeout(GLANCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Err(self.fallen(&said)),
            };
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = event["address"].as_str() {
                address.clone_into(&mut self.url);
            }
            if event["message"] == "ready" {
                return Ok(());
            }
            if event.is_null() {
                said.push(line);
            }
        }
    }

    fn fallen(&mut self, said: &[String]) -> Failure {
        let status = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let last = said[said.len().saturating_sub(LAST)..].join("; ");
        Failure::new(format!("the server ended before it was ready ({status}): {last}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            send(&self.child, Signal::TERM);
        }
        // It ends by itself, at the latest when its patience with running answers is over.
        let _ = self.child.wait();
    }
}

fn heard(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let read = BufReader::new(stderr).lines().map_while(Result::ok);
        read.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
    });
    lines
}

/// Sends a signal to a child that was not waited for yet.
pub fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // A child that has just ended needs none.
    let _ = pid.map(|pid| kill_process(pid, signal));
}
