//! `qwire serve`: options in layers, sockets before the model, and every way to end.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::binary::{command, finish, qwire};
use crate::interrupt::kill;
use crate::model::{Copy, Folder, tiny_moe};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server under test.
pub struct Server {
    pub child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        Self::of(tiny_moe(), &[&["--ctx", "256"], args].concat())
    }

    /// One of this model.
    pub fn of(model: &str, args: &[&str]) -> Self {
        let base = ["serve", model, "--port", "0", "--memory", "512M"];
        let mut child = command(&[&base, args].concat()).spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        Self { child, lines, said: String::new() }
    }

    /// Waits for a line with this word.
    #[track_caller]
    pub fn says(&mut self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {word:?} in {}", self.said));
            writeln!(self.said, "{line}").unwrap();
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Where it listens.
    pub fn address(&mut self) -> String {
        let line = self.says("listening");
        let (_, rest) = line.split_once("http://").expect("an address");
        rest.split(|c: char| c == ',' || c == '"' || c.is_whitespace()).next().unwrap().into()
    }

    /// Its exit code and everything it said, once it has ended.
    fn ends(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("it can be waited for").code();
        self.said.extend(self.lines.iter().map(|line| line + "\n"));
        (code, self.said)
    }
}

/// The answer to a request, as it came.
fn ask(mut socket: impl Read + Write, path: &str, header: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: &str, path: &str, header: &str) -> String {
    ask(TcpStream::connect(address).expect("it listens"), path, header)
}

#[track_caller]
fn has_status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

#[test]
fn requests_are_answered_before_the_model_is_there_and_after() {
    let mut server = Server::start(&["--name", "mine", "--alias", "gpt,claude"]);
    let address = server.address();
    let early = get(&address, "/readyz", "");
    has_status(&early, 503);
    assert!(early.contains("retry-after: 2") && early.contains("being loaded"), "{early}");
    server.says("curl ");
    has_status(&get(&address, "/health", ""), 200);
    assert!(get(&address, "/v1/models", "").contains("\"mine\""));
    kill(&server.child, "-TERM");
    let (code, said) = server.ends();
    assert_eq!(code, Some(0), "{said}");
    for words in
        ["context  256 of the model's 4,096 tokens", "OPENAI_BASE_URL=http://127", "qwire launch"]
    {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

#[test]
fn a_signal_ends_the_loading_too() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start(&[]);
        // Whoever answers listens to signals too.
        has_status(&get(&server.address(), "/readyz", ""), 503);
        let asked = Instant::now();
        kill(&server.child, signal);
        let (code, said) = server.ends();
        assert_eq!(code, Some(0), "{said}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_key_is_asked_for_and_never_told() {
    let folder = Folder::new("serve-keys");
    let file = folder.file("keys", b"# ours\nfile-secret\n\n");
    let mut server = Server::start(&[
        "--api-key",
        "first-secret,second-secret",
        "--api-key-file",
        &file,
        "--log",
        "trace",
        "--log-format",
        "json",
    ]);
    let address = server.address();
    server.says("ready");
    has_status(&get(&address, "/v1/models", ""), 401);
    has_status(&get(&address, "/v1/models", "authorization: Bearer wrong\r\n"), 401);
    for key in ["first-secret", "second-secret", "file-secret"] {
        has_status(&get(&address, "/v1/models", &format!("authorization: Bearer {key}\r\n")), 200);
    }
    kill(&server.child, "-TERM");
    let (code, said) = server.ends();
    assert!(code == Some(0) && !said.contains("secret"), "{said}");
    assert!(said.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let printed = qwire(&["serve", "--api-key", "first-secret", "--print-config"]).text();
    assert!(printed.contains("# api-key is not shown") && !printed.contains("secret"), "{printed}");
    let empty = folder.file("empty", b"# none\n");
    qwire(&["serve", tiny_moe(), "--api-key-file", &empty]).fails(1, &["no key", &empty]);
}

#[test]
fn a_socket_in_the_file_system_is_gone_after_the_end() {
    let folder = Folder::new("serve-unix");
    let path = folder.path("socket");
    let mut server = Server::start(&["--unix", &path]);
    server.says("listening");
    has_status(&ask(UnixStream::connect(&path).unwrap(), "/health", ""), 503);
    assert!(server.says("curl ").contains(&format!("--unix-socket {path} ")));
    kill(&server.child, "-TERM");
    let (code, said) = server.ends();
    assert_eq!((code, folder.names()), (Some(0), vec![]), "{said}");
}

#[test]
fn what_cannot_start_ends_at_once_in_one_line() {
    let folder = Folder::new("serve-faults");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let foreign = Copy::of("moe-q8_0.gguf").set("general.architecture", "llama").bytes();
    let foreign = folder.file("llama.gguf", &foreign);
    let model = tiny_moe();
    let socket = folder.path("s");
    for (code, args, words) in [
        (1, &["nowhere.gguf"][..], &["nowhere.gguf: no such file"][..]),
        (1, &[model, "--port", &port], &["cannot listen", &port, "another program"]),
        (1, &[model, "--unix", &socket, "--memory", "1M"], &["the weights take 42.6 MB"]),
        (1, &[&foreign, "--unix", &socket], &["llama.gguf", "`llama`"]),
        (2, &[model, "--port", "70000"], &["70000"]),
        (2, &[model, "--stall", "0.5"], &["accepted: 1 to 1000"]),
        (2, &[model, "--host", "here"], &["accepted: an IP address"]),
        (2, &[model, "--metrics-listen", "here"], &["accepted: an IP address with a port"]),
        (1, &[model, "--unix", &socket, "--metrics-listen", &port], &["cannot listen", &port]),
    ] {
        let started = Instant::now();
        let args = [&["serve", "--log", "error"], args].concat();
        finish(command(&args).spawn().unwrap()).fails(code, words);
        assert!(started.elapsed() < Duration::from_secs(5), "{args:?}: {:?}", started.elapsed());
    }
    assert_eq!(folder.names(), ["llama.gguf"], "the socket's file is gone");
}

/// The lines of `--print-config` that begin so.
fn printed(config: &[&str], variables: &[(&str, &str)], names: &[&str]) -> Vec<String> {
    let mut command = command(&[&["serve", "--print-config"], config].concat());
    let outcome = finish(command.envs(variables.iter().copied()).spawn().unwrap());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let line = |name: &&str| {
        let text = outcome.text();
        let found = text.lines().find(|line| line.starts_with(&format!("{name} = ")));
        let words = found.unwrap_or_default().split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    };
    names.iter().map(line).collect()
}

#[test]
fn a_stronger_layer_wins() {
    let folder = Folder::new("serve-layers");
    let file =
        folder.file("q.toml", b"port = 2\nqueue = 2\nalias = [\"a\", \"b\"]\nlog-prompts = true\n");
    let names = ["port", "queue", "parallel", "stall", "alias", "log-prompts"];
    let variables = [
        ("QWIRE_PORT", "3"),
        ("QWIRE_QUEUE", "3"),
        ("QWIRE_PARALLEL", "3"),
        ("QWIRE_CONFIG", &file),
    ];
    let at = |source: &str| source.replace("FILE", &file);
    let expected = [
        "port = 1 # command line",
        "queue = 2 # FILE",
        "parallel = 3 # QWIRE_PARALLEL",
        "stall = 2 # default",
        "alias = [\"a\", \"b\"] # FILE",
        "log-prompts = true # FILE",
    ]
    .map(at);
    assert_eq!(printed(&["--port", "1"], &variables, &names), expected);
    let off = printed(&["--log-prompts=false", "--config", &file], &[], &["log-prompts"]);
    assert_eq!(off, ["log-prompts = false # command line"]);
    let config =
        ["m.gguf", "--port", "1", "--config", &file, "--name", "a \"b\"", "--memory", "2G"];
    let whole = qwire(&[&["serve", "--print-config"], &config[..]].concat()).text();
    let again = folder.file("again.toml", whole.as_bytes());
    let again = qwire(&["serve", "--print-config", "--config", &again]).text();
    assert_eq!(values(&whole), values(&again), "what is printed can be read");
}

/// The lines that are no comments, without their own.
fn values(text: &str) -> Vec<String> {
    let value = |line: &str| line.split("  #").next().unwrap_or_default().trim().to_string();
    text.lines().filter(|line| !line.starts_with('#')).map(value).collect()
}

#[test]
fn a_fault_names_its_layer() {
    let folder = Folder::new("serve-config");
    for (text, words) in [
        ("prot = 1", &["there is no option `prot`"][..]),
        ("config = \"x\"", &["there is no option `config`"]),
        ("port = \"x\"", &["invalid value 'x' for '--port"]),
        ("kv-type = \"q8\"", &["[possible values: f16, f32, i8]"]),
        ("[port]", &["port is a table"]),
        ("a = 1\nport =", &["line 2"]),
    ] {
        let file = folder.file("q.toml", text.as_bytes());
        let outcome = qwire(&["serve", "--config", &file]);
        let lines: Vec<_> = outcome.stderr.lines().collect();
        assert!(outcome.code.is_some_and(|code| code > 0), "{text}: {outcome:?}");
        assert!(lines[0].starts_with(&format!("error: {file}: ")), "{text}: {lines:?}");
        assert!(words.iter().all(|word| lines[0].contains(word)), "{text}: {lines:?}");
    }
    let file = folder.file("q.toml", b"prot = 1");
    assert!(qwire(&["serve", "--config", &file]).stderr.contains("hint: `port` is the nearest"));
    let outcome = finish(command(&["serve", "m"]).env("QWIRE_KV_TYPE", "q8").spawn().unwrap());
    outcome.fails(2, &["QWIRE_KV_TYPE: invalid value 'q8'"]);
    qwire(&["serve", "--config", "nowhere.toml"]).fails(1, &["nowhere.toml"]);
}

#[test]
fn the_disk_cache_is_where_and_as_large_as_somebody_says() {
    let folder = Folder::new("disk-cache");
    let at = folder.path("pages");
    let mut server = Server::start(&["--disk-cache", "100M", "--disk-cache-dir", &at]);
    server.says("curl ");
    // It is opened once the model's digest is known.
    let (ledger, started) = (Path::new(&at).join("ledger"), Instant::now());
    while !ledger.exists() && started.elapsed() < Duration::from_mins(1) {
        thread::sleep(Duration::from_millis(20));
    }
    kill(&server.child, "-TERM");
    let (code, said) = server.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("up to 105 MB of prefixes in {at}")), "{said}");
    assert!(ledger.exists());
    for (args, words) in [
        (&["--disk-cache", "off"][..], "disk-cache = \"off\""),
        (&["--disk-cache=3GB"], "disk-cache = \"3GB\""),
        (&[], "# disk-cache-dir ="),
    ] {
        let printed = qwire(&[&["serve", "--print-config"], args].concat());
        assert!(printed.text().contains(words), "{printed:?}");
    }
    let fault = ["512M or 2G", "or off"];
    qwire(&["serve", "x.gguf", "--disk-cache", "much"]).fails(2, &fault);
}
