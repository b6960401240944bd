//! Gate: where the messages of a connection begin and end, told strictly, before a parser that is
//! more lenient sees them.
//!
//! ```text
//! head ─┬─────────────────────────────► head        no body
//!       ├─ body ──────────────────────► head        Content-Length
//!       └─ size ─ data ─ end ─ size .. ─ trailer ─► head      chunked
//! ```
//! Whoever stands between us and a client may read an ambiguous message in another way, and take
//! half of one request for another. So lines end in CRLF, a length is said once, as digits, and not
//! beside chunks. Everything else about a message is for the parser.

/// As much of a line as matters here.
const KEPT: usize = 64;

/// The reading of one connection.
#[derive(Debug, Default)]
pub struct Gate {
    part: Part,
    /// The beginning of the line, at most one byte more than [`KEPT`].
    line: Vec<u8>,
    /// CR has come, and LF must follow.
    ending: bool,
    length: Option<u64>,
    chunked: bool,
    heads: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Part {
    /// A message that has not begun.
    #[default]
    Nothing,
    /// Its first line and headers.
    Head,
    /// A body of known length, of which so much is left.
    Body(u64),
    /// The line with the size of a chunk.
    Size,
    /// A chunk, of which so much is left.
    Data(u64),
    /// The end of a chunk.
    End,
    /// What may follow the last chunk.
    Trailer,
}

impl Gate {
    /// How many of these bytes are fine. If not all are, the next is where a message went wrong.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match self.part {
                Part::Body(left) | Part::Data(left) => {
                    let step = left.min((bytes.len() - at) as u64);
                    at += step as usize;
                    self.part = match (self.part, left - step) {
                        (Part::Body(_), 0) => Part::Nothing,
                        (Part::Body(_), left) => Part::Body(left),
                        (_, 0) => Part::End,
                        (_, left) => Part::Data(left),
                    };
                }
                _ => {
                    if !self.take(bytes[at]) {
                        return at;
                    }
                    at += 1;
                }
            }
        }
        at
    }

    /// What the next byte belongs to.
    pub fn part(&self) -> Part {
        self.part
    }

    /// How many heads have ended.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// A byte of a line.
    fn take(&mut self, byte: u8) -> bool {
        match (self.ending, byte) {
            (true, b'\n') => {
                self.ending = false;
                let line = std::mem::take(&mut self.line);
                self.end_line(&line).is_some()
            }
            (true, _) | (false, b'\n') => false,
            (false, b'\r') => {
                self.ending = true;
                true
            }
            (false, _) => {
                if self.part == Part::Nothing {
                    (self.part, self.length, self.chunked) = (Part::Head, None, false);
                }
                if self.line.len() <= KEPT {
                    self.line.push(byte);
                }
                self.part != Part::End
            }
        }
    }

    /// What follows a line; none if the line is wrong.
    fn end_line(&mut self, line: &[u8]) -> Option<()> {
        self.part = match self.part {
            Part::Head if line.is_empty() => {
                self.heads += 1;
                match (self.chunked, self.length) {
                    (true, _) => Part::Size,
                    (false, None | Some(0)) => Part::Nothing,
                    (false, Some(length)) => Part::Body(length),
                }
            }
            Part::Head => {
                self.header(line)?;
                Part::Head
            }
            Part::Size => match size(line)? {
                0 => Part::Trailer,
                size => Part::Data(size),
            },
            Part::End => Part::Size,
            Part::Trailer if line.is_empty() => Part::Nothing,
            part => part,
        };
        Some(())
    }

    /// A header, or the first line, which has no name.
    fn header(&mut self, line: &[u8]) -> Option<()> {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Some(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        let is_coding = name.eq_ignore_ascii_case(b"transfer-encoding");
        if !is_length && !is_coding {
            return Some(());
        }
        if line.len() > KEPT || self.length.is_some() || self.chunked {
            return None;
        }
        if is_length {
            self.length = Some(number(value, 10)?);
            return Some(());
        }
        self.chunked = value.eq_ignore_ascii_case(b"chunked");
        self.chunked.then_some(())
    }
}

/// The size of a chunk; an extension may follow, which says nothing here.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = &line[digits..];
    let extended = rest.trim_ascii_start().first() == Some(&b';');
    (rest.is_empty() || extended).then(|| number(&line[..digits], 16)).flatten()
}

/// Digits alone: no sign, no space, no list.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let plain = digits.iter().all(|byte| char::from(*byte).is_digit(radix));
    plain.then(|| u64::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How much of a text passes, and what comes next, whatever the cuts.
    #[track_caller]
    fn check(text: &str, passes: usize, part: Part) {
        for cut in 0..=text.len() {
            let mut gate = Gate::default();
            let mut passed = gate.pass(&text.as_bytes()[..cut]);
            if passed == cut {
                passed += gate.pass(&text.as_bytes()[cut..]);
            }
            assert_eq!((passed, gate.part()), (passes, part), "{text:?} cut at {cut}");
        }
    }

    /// A message that passes as a whole, and after which another may begin.
    #[track_caller]
    fn whole(text: &str) {
        check(text, text.len(), Part::Nothing);
    }

    #[test]
    fn messages_end_where_they_say() {
        whole("");
        whole("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        whole("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        whole("POST / HTTP/1.1\r\ncontent-LENGTH: \t3 \r\n\r\n\n\r\n");
        whole("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
        whole("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n");
        whole(
            "P / H\r\ntransfer-encoding:chunked\r\n\r\n3 ;x=\"y\"\r\n\n\n\n\r\n\
             00A\r\n0123456789\r\n0\r\nA: b\r\n\r\n",
        );
        check("GET / HTTP/1.1\r\n", 16, Part::Head);
        check("P / H\r\nContent-Length: 5\r\n\r\nab", 30, Part::Body(3));
        check("P / H\r\nTransfer-Encoding: chunked\r\n\r\nFf\r\nab", 43, Part::Data(253));
    }

    #[test]
    fn what_may_be_read_in_two_ways_ends_the_reading() {
        let head = |header: &str| {
            let text = format!("P / H\r\n{header}\r\n\r\n");
            check(&text, 7 + header.len() + 1, Part::Head);
        };
        head("Content-Length: +5");
        head("Content-Length: -5");
        head("Content-Length: 5, 5");
        head("Content-Length: 0x5");
        head("Content-Length: ");
        head("Content-Length: 18446744073709551616");
        head("Content-Length: 5\r\ncontent-length: 5");
        head("Content-Length: 5\r\nTransfer-Encoding: chunked");
        head("Transfer-Encoding: chunked\r\nContent-Length: 5");
        head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked");
        head("Transfer-Encoding: gzip, chunked");
        head("Transfer-Encoding: xchunked");
        head("Transfer-Encoding: \u{b}chunked");
        head(&format!("Content-Length: {}5", " ".repeat(80)));
        check("G / H\nA: b\r\n", 5, Part::Head);
        check("G / H\r\nA: b\rC: d\r\n", 12, Part::Head);
        check("\n", 0, Part::Nothing);
        let chunks = |chunks: &str, passes, part| {
            let head = "P / H\r\nTransfer-Encoding: chunked\r\n\r\n";
            check(&format!("{head}{chunks}"), head.len() + passes, part);
        };
        chunks("\r\n", 1, Part::Size);
        chunks("x\r\n", 2, Part::Size);
        chunks("0x1\r\n", 4, Part::Size);
        chunks("-1\r\n", 3, Part::Size);
        chunks("1 \r\n", 3, Part::Size);
        chunks("10000000000000000\r\n", 18, Part::Size);
        chunks("1\na", 1, Part::Size);
        chunks("1;a\nb", 3, Part::Size);
        chunks("1\r\nab", 4, Part::End);
        chunks("1\r\na\n", 4, Part::End);
        chunks("0\r\nA: b\n", 7, Part::Trailer);
    }

    proptest! {
        #[test]
        fn any_bytes_any_cuts(bytes in "[\r\n:;0-9a ]{0,60}", cut in 0_usize..60) {
            let bytes = bytes.as_bytes();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let (mut whole, mut halves) = (Gate::default(), Gate::default());
            let passed = whole.pass(bytes);
            let mut sum = halves.pass(first);
            if sum == first.len() {
                sum += halves.pass(second);
            }
            prop_assert_eq!((sum, halves.part()), (passed, whole.part()));
        }
    }
}
