//! Client: HTTP/1.1 as far as a check needs it, and when each piece of an answer came.
//!
//! A connection per request, bodies with a length or in chunks, no TLS: what is checked listens on
//! this machine, or behind something that ends TLS.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Between two pieces of an answer; agents give up after five minutes, or ten.
const PATIENCE: Duration = Duration::from_mins(5);

/// Most bytes of a head, or of a line of one.
const HEAD: u64 = 64 << 10;

/// A server, and how it is asked.
pub struct Client {
    /// `http://HOST:PORT`
    pub url: String,
    /// What it asks for.
    pub key: Option<String>,
    authority: String,
}

/// An answer, whatever its status.
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body's pieces and when they came, from the request on.
    pub pieces: Vec<(Duration, Vec<u8>)>,
    /// When the answer was over.
    pub took: Duration,
}

/// Why there is no answer.
pub struct Lost(String);

impl Client {
    /// A client of this address.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, String> {
        let bare = url.trim_end_matches('/');
        let bare = bare.strip_suffix("/v1").unwrap_or(bare);
        let authority = bare.strip_prefix("http://").filter(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        });
        let Some(authority) = authority else {
            return Err(format!("`{url}` is no address; accepted: http://HOST:PORT"));
        };
        let port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { url: bare.to_owned(), key, authority })
    }

    /// The answer to a GET.
    pub fn get(&self, path: &str) -> Result<Answer, Lost> {
        self.ask("GET", path, &[], None)
    }

    /// The answer to a request, read to its end.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Option<&Value>,
    ) -> Result<Answer, Lost> {
        let started = Instant::now();
        let socket = TcpStream::connect(&self.authority)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let body = body.map(Value::to_string);
        // A server that has heard enough may answer and close before it has all.
        let sent = (&socket).write_all(&self.message(method, path, headers, body.as_deref()));
        let mut reader = BufReader::new(&socket);
        let mut answer = match head(&mut reader) {
            Ok(answer) => answer,
            Err(error) => return Err(sent.err().unwrap_or(error).into()),
        };
        if method != "HEAD" {
            answer.read(&mut reader, started)?;
        }
        answer.took = started.elapsed();
        Ok(answer)
    }

    fn message(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Option<&str>,
    ) -> Vec<u8> {
        let mut lines = vec![
            format!("{method} {path} HTTP/1.1"),
            format!("host: {}", self.authority),
            "connection: close".to_owned(),
        ];
        lines.extend(self.key.as_ref().map(|key| format!("authorization: Bearer {key}")));
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.extend(body.map(|body| format!("content-length: {}", body.len())));
        let mut text = lines.join("\r\n") + "\r\n\r\n";
        text += body.unwrap_or_default();
        text.into_bytes()
    }
}

fn head(reader: &mut impl BufRead) -> io::Result<Answer> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.take(HEAD).read_line(&mut line)?;
        match line.trim_end() {
            "" if line.is_empty() => return Err(fault("the connection was closed unanswered")),
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines.first().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3));
    let status = status.and_then(|digits| digits.parse().ok());
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Answer {
        status: status.ok_or_else(|| fault("what answers does not speak HTTP/1.1"))?,
        headers: lines.iter().skip(1).filter_map(header).collect(),
        pieces: Vec::new(),
        took: Duration::ZERO,
    })
}

fn fault(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|row| row.0 == name).map(|row| row.1.as_str())
    }

    /// The body.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.pieces.iter().flat_map(|(_, piece)| piece).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_default()
    }

    fn read(&mut self, reader: &mut impl BufRead, started: Instant) -> io::Result<()> {
        if self.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let mut line = String::new();
                reader.take(HEAD).read_line(&mut line)?;
                let size = line.trim().split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size, 16)
                    .map_err(|_| fault("the answer was cut off within its chunks"))?;
                if size == 0 {
                    return Ok(());
                }
                let mut piece = Vec::new();
                reader.take(size).read_to_end(&mut piece)?;
                reader.read_line(&mut line)?;
                self.pieces.push((started.elapsed(), piece));
            }
        }
        let length = self.header("content-length").and_then(|text| text.parse().ok());
        let mut piece = Vec::new();
        reader.take(length.unwrap_or(u64::MAX)).read_to_end(&mut piece)?;
        self.pieces.push((started.elapsed(), piece));
        Ok(())
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("nothing came for {} s", PATIENCE.as_secs())
            }
            io::ErrorKind::ConnectionRefused => "nobody listens there".into(),
            _ => error.to_string(),
        })
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_people_write_it() {
        let read = |url| Client::new(url, None).map(|client| (client.url, client.authority));
        let both = |url: &str, at: &str| Ok((url.to_owned(), at.to_owned()));
        assert_eq!(read("http://a:1/"), both("http://a:1", "a:1"));
        assert_eq!(read("http://a:1/v1"), both("http://a:1", "a:1"));
        assert_eq!(read("http://a"), both("http://a", "a:80"));
        for wrong in ["https://a", "a:1", "http://", "http://a/b", "http://a b"] {
            assert!(read(wrong).unwrap_err().contains("is no address"), "{wrong}");
        }
    }

    #[test]
    fn bodies_of_every_kind_are_read_to_their_end() {
        for (bytes, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", Ok("abc")),
            ("HTTP/1.1 200 OK\r\n\r\nabcd", Ok("abcd")),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n\
                 1\r\nc\r\n0\r\n\r\n",
                Ok("abc"),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", Err("cut off")),
            ("nonsense\r\n\r\n", Err("does not speak")),
            ("", Err("closed unanswered")),
        ] {
            let mut reader = bytes.as_bytes();
            let read = head(&mut reader).and_then(|mut answer| {
                answer.read(&mut reader, Instant::now())?;
                Ok(answer.text())
            });
            match (read, body) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.to_string().contains(expected)),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        }
    }
}
