//! Stream: a socket as the parser sees it, and the pulse of what the other side does.
//!
//! A head that the gate refuses arrives as bytes that no parser takes, a body that it refuses as
//! one that broke off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Pulse;
use super::gate::{Gate, Part};

/// No method, target or header has a NUL, and no head goes on after an empty line.
const REFUSED: &[u8] = b"\0\r\n\r\n";

/// A socket behind the gate.
pub struct Stream<S> {
    socket: S,
    /// The first byte after a silence.
    first: Option<u8>,
    gate: Gate,
    pulse: Arc<Pulse>,
    refused: Refused,
}

/// What the parser is still to hear of a message that was refused.
enum Refused {
    /// None was.
    Nothing,
    /// The rest of [`REFUSED`].
    Head(&'static [u8]),
    /// That the body broke off.
    Body,
    /// It has heard.
    Told,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// A socket whose pulse is taken.
    pub fn new(socket: S, pulse: Arc<Pulse>) -> Self {
        Self { socket, first: None, gate: Gate::default(), pulse, refused: Refused::Nothing }
    }

    /// Waits for the first byte, or for an end, without a buffer.
    pub fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut room = [0];
        let mut buffer = ReadBuf::new(&mut room);
        // Whoever reads on finds an end or a broken socket again.
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer));
        self.first = read.ok().and_then(|()| buffer.filled().first().copied());
        Poll::Ready(())
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pulse.write(written.is_pending());
        written
    }

    /// Reads and forgets until the other side ends.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.refused {
            Refused::Nothing => {}
            Refused::Head(left) if !left.is_empty() => {
                let (said, rest) = left.split_at(left.len().min(buffer.remaining()));
                buffer.put_slice(said);
                *left = rest;
                return Poll::Ready(Ok(()));
            }
            Refused::Body => {
                this.refused = Refused::Told;
                let why = "the body is not framed as HTTP has it";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
            }
            Refused::Head(_) | Refused::Told => return this.poll_rest(cx),
        }
        let start = buffer.filled().len();
        match this.first.take() {
            Some(first) => buffer.put_slice(&[first]),
            None => ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?,
        }
        let (heads, read) = (this.gate.heads(), &buffer.filled()[start..]);
        let (passed, len) = (this.gate.pass(read), read.len());
        let after = this.gate.part();
        this.pulse.read(this.gate.heads() - heads, after);
        if passed < len {
            buffer.set_filled(start + passed);
            this.refused = match after {
                Part::Nothing | Part::Head => Refused::Head(REFUSED),
                _ => Refused::Body,
            };
            if passed == 0 {
                return self.poll_read(cx, buffer);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pulse.flush();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Ends the own side. Whoever is still sending would be answered by a reset, which may destroy
    /// what was said to him, so the rest of a message is read and forgotten for a while.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        if matches!(self.refused, Refused::Nothing) && self.gate.part() == Part::Nothing {
            return Poll::Ready(Ok(()));
        }
        self.pulse.linger();
        self.poll_rest(cx)
    }
}
