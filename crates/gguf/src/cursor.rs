//! Cursor: checked reading of little-endian numbers and strings from a byte slice.
//!
//! Every read is proven to lie inside the slice first; an error says what was being read, how
//! much it needs, how much is left, and where. Nothing is allocated unless a read fails.

use crate::error::Error;

#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.at as u64
    }

    pub(crate) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The bytes from `start` up to here.
    pub(crate) fn since(&self, start: u64) -> &'a [u8] {
        &self.bytes[start as usize..self.at]
    }

    pub(crate) fn bytes(&mut self, len: u64, what: &str) -> Result<&'a [u8], Error> {
        if len > self.remaining() {
            let left = self.remaining();
            let problem = format!("the file ends inside {what}: it needs {len} bytes, {left} left");
            return Err(Error::new(problem).at(self.position()));
        }
        let taken = &self.bytes[self.at..self.at + len as usize];
        self.at += len as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let taken = self.bytes(N as u64, what)?;
        Ok(taken.try_into().expect("a slice of N bytes"))
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of things of at least `min_bytes` each, proven to fit into what is left, so that
    /// memory for them may be reserved.
    pub(crate) fn check_count(&self, n: u64, min_bytes: u64, what: &str) -> Result<(), Error> {
        let fits = self.remaining() / min_bytes;
        if n > fits {
            let left = self.remaining();
            let problem =
                format!("{n} {what} cannot fit in the {left} bytes left (at most {fits})");
            return Err(Error::new(problem).at(self.position()));
        }
        Ok(())
    }

    /// A length and that many bytes of UTF-8.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'a str, Error> {
        let start = self.position();
        let len = self.u64(what)?;
        if len > self.remaining() {
            let left = self.remaining();
            let problem =
                format!("{what} claims {len} bytes, but only {left} are left in the file");
            return Err(Error::new(problem).at(start));
        }
        let first = self.position();
        let text = self.bytes(len, what)?;
        str::from_utf8(text).map_err(|cause| {
            let valid = cause.valid_up_to();
            let problem = format!("{what} is not valid UTF-8 (byte 0x{:02x})", text[valid]);
            Error::new(problem).at(first + valid as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_advance_and_refuse_to_pass_the_end() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(cursor.u32("a number").unwrap(), 1);
        assert_eq!(cursor.u64("a number").unwrap(), 2);
        let error = cursor.u32("the version").unwrap_err().to_string();
        let line = "the file ends inside the version: it needs 4 bytes, 1 left [at byte 12]";
        assert_eq!(error, line);
        assert_eq!(cursor.remaining(), 1, "a failed read takes nothing");
    }

    #[test]
    fn strings() {
        let check = |len: u64, text: &[u8], expected: Result<&str, &str>| {
            let bytes = [&len.to_le_bytes(), text].concat();
            let found = Cursor::new(&bytes).string("the name").map_err(|e| e.to_string());
            assert_eq!(found.as_deref(), expected.map_err(str::to_string).as_deref());
        };
        check(0, b"", Ok(""));
        check(3, "hé…".as_bytes(), Ok("hé"));
        check(
            3,
            b"ab",
            Err("the name claims 3 bytes, but only 2 are left in the file [at byte 0]"),
        );
        let line = format!(
            "the name claims {} bytes, but only 1 are left in the file [at byte 0]",
            u64::MAX
        );
        check(u64::MAX, b"x", Err(&line));
        check(3, b"a\xffb", Err("the name is not valid UTF-8 (byte 0xff) [at byte 9]"));
        check(2, b"a\xc3", Err("the name is not valid UTF-8 (byte 0xc3) [at byte 9]"));
    }

    #[test]
    fn counts_are_bounded_by_what_is_left() {
        let bytes = [0; 100];
        let cursor = Cursor::new(&bytes);
        assert!(cursor.check_count(7, 14, "keys").is_ok());
        let error = cursor.check_count(8, 14, "keys").unwrap_err().to_string();
        assert_eq!(error, "8 keys cannot fit in the 100 bytes left (at most 7) [at byte 0]");
        assert!(cursor.check_count(u64::MAX, 8, "keys").is_err());
    }
}
