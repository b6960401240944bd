//! A server on a port of its own, and a client that says exactly what a test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use qwire_server::edge::{Address, Ending, Sockets, Stop, bind};
use qwire_server::{App, router};

/// A server, ended when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub stop: Stop,
    thread: Option<JoinHandle<Ending>>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Server {
    /// Every endpoint.
    pub fn start(app: Arc<App>) -> Self {
        Self::with(router(app.clone()), app)
    }

    /// These routes.
    pub fn with(router: Router, app: Arc<App>) -> Self {
        let sockets = bind(&[Address::Tcp("127.0.0.1:0".parse().unwrap())]).unwrap();
        Self::at(sockets, router, app)
    }

    /// These routes, at sockets of which the first is a port.
    pub fn at(sockets: Sockets, router: Router, app: Arc<App>) -> Self {
        let Address::Tcp(address) = sockets.addresses()[0] else { panic!("a port") };
        let stop = sockets.stop();
        let thread = std::thread::spawn(move || sockets.serve(router, app));
        Self { address, stop, thread: Some(thread) }
    }

    /// A connection whose reads end.
    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// Everything that comes back for these bytes until the server closes.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut socket = self.connect();
        // A server that has heard enough may close.
        let _ = socket.write_all(bytes);
        let mut text = Vec::new();
        let _ = socket.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The answer to a request on a connection of its own; `more` are headers, each with CRLF.
    pub fn ask(&self, method: &str, path: &str, more: &str, body: &str) -> Reply {
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{more}\r\n{body}"
        );
        Reply::of(&self.raw(text.as_bytes()))
    }

    /// The answer to a GET.
    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "")
    }

    /// The answer to a POST of JSON.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Reply {
        self.ask("POST", path, "Content-Type: application/json\r\n", &body.to_string())
    }

    /// How it ends when it is asked to.
    pub fn end(self) -> Ending {
        self.stop.ask();
        self.over()
    }

    /// How it ends by itself.
    pub fn over(mut self) -> Ending {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.ask();
            self.stop.ask();
            let _ = thread.join();
        }
    }
}

impl Reply {
    /// The first answer in a text, its chunks joined.
    pub fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let head = head.to_ascii_lowercase();
        let chunked = head.contains("transfer-encoding: chunked");
        let body = if chunked { joined(body) } else { body.into() };
        Self { status, head, body }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| line.split_once(": ").is_some_and(|(found, _)| found == name);
        self.head.lines().find(|found| line(found)).map(|line| &line[name.len() + 2..])
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn joined(chunks: &str) -> String {
    let (mut rest, mut text) = (chunks.as_bytes(), Vec::new());
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size =
            str::from_utf8(&rest[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let data = &rest[at + 2..];
        text.extend_from_slice(&data[..size.min(data.len())]);
        rest = data.get(size + 2..).unwrap_or_default();
    }
    String::from_utf8_lossy(&text).into_owned()
}
