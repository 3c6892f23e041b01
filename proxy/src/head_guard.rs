//! Reads every HTTP/1 request head before hyper does, and lets only unambiguous ones through.
//!
//! hyper resolves some ambiguities silently (with `Transfer-Encoding` and `Content-Length` it drops
//! the latter), answers others itself, unlogged, and has no deadline for the time between. This
//! reader sits under it: each head is checked as it stands on the wire, once, whole, under a size
//! and a deadline. A head that fails is replaced by a harmless one, and the reason is left in
//! [`Activity`] for the exchange to answer and log in its turn.
//!
//! **Invariant:** the guard can only refuse more than hyper does. Should the two ever disagree on
//! where a message ends, hyper's reading is the one that policy sees and that is sent on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::activity::{Activity, Answered};
use crate::request_head::{self, BodyFraming, ChunkedBody, HEAD_BYTES_MAX, HeadEnd, HeadFault};

/// How long things may take on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// A head, from its first byte to its last.
    pub head: Duration,
    /// A connection without an exchange.
    pub idle: Duration,
}

/// What hyper reads in place of a head that was refused.
const REPLACEMENT: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// One read while a head is incomplete.
const READ_BYTES: usize = 8 * 1024;

/// What is still read behind a refused head, and dropped: to close with bytes unread resets the connection
/// (RFC 1122 section 4.2.2.13), and the workload would lose the answer that says what was wrong.
const LEFTOVER_BYTES_MAX: usize = 1024 * 1024;

/// How long it is waited for once the answer is out.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Where in the stream of messages the reader is.
enum Position {
    /// Before or in a head.
    Head,
    /// In a body of known length.
    Body(u64),
    /// In a chunked body.
    Chunked(ChunkedBody),
    /// After a request that asks for an upgrade, until that is answered: what follows is not read.
    Asked,
    /// No longer HTTP: everything passes.
    Left,
    /// After a refused head: hyper reads nothing more.
    Over,
}

/// See the module's documentation.
pub struct HeadGuard<Io> {
    io: Io,
    activity: Arc<Activity>,
    position: Position,
    heads: u64,
    /// Bytes read and not yet handed on: an incomplete head, or a next message's beginning.
    held: BytesMut,
    /// How much of an incomplete head was looked at.
    looked_at: usize,
    /// How much of `held` hyper may have.
    released: usize,
    /// Interim responses that are written before anything else.
    interim: BytesMut,
    deadlines: Deadlines,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    /// Once our half is closed, the bytes read since.
    leftover: Option<usize>,
}

impl<Io: AsyncRead + Unpin> HeadGuard<Io> {
    /// Guards `io`, whose next byte begins a head.
    pub fn new(io: Io, deadlines: Deadlines) -> Self {
        let deadline = Instant::now() + deadlines.idle;
        Self {
            io,
            activity: Arc::default(),
            position: Position::Head,
            heads: 0,
            held: BytesMut::new(),
            looked_at: 0,
            released: 0,
            interim: BytesMut::new(),
            deadlines,
            deadline,
            timer: Box::pin(tokio::time::sleep_until(deadline)),
            leftover: None,
        }
    }

    /// What is guarded. For a connection that is only to be ended: bytes that were read ahead are lost.
    pub fn into_inner(self) -> Io {
        self.io
    }

    /// What the exchanges on this connection need to know.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Hands out what was released, as much as fits.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.released.min(buf.remaining());
        buf.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.advance(count);
        self.released -= count;
        if self.held.is_empty() {
            // An idle connection holds no buffer.
            self.held = BytesMut::new();
        }
    }

    /// Looks at `held` from its start and releases what may be read. Returns whether it needs more
    /// bytes to say.
    fn advance(&mut self) -> bool {
        debug_assert_eq!(self.released, 0, "advance is called when all was given");
        match &mut self.position {
            Position::Over | Position::Asked => false,
            Position::Left => {
                self.released = self.held.len();
                self.released == 0
            }
            Position::Body(rest) => {
                let here = usize::try_from(*rest).map_or(self.held.len(), |rest| rest.min(self.held.len()));
                *rest -= here as u64;
                self.released = here;
                if *rest == 0 {
                    self.position = Position::Head;
                }
                here == 0
            }
            Position::Chunked(body) => match body.advance(&self.held) {
                Ok((here, ended)) => {
                    self.released = here;
                    if ended {
                        self.position = Position::Head;
                    }
                    here == 0
                }
                // For hyper the body breaks off here, and so it fails. Of what is wrong hyper takes some: lines that
                // end in LF behind the last chunk, any number of zeros. What is behind that is no body's, and no
                // request's.
                Err(_) => {
                    self.held.clear();
                    self.position = Position::Over;
                    false
                }
            },
            Position::Head => self.advance_head(),
        }
    }

    fn advance_head(&mut self) -> bool {
        // RFC 9112 section 2.2: empty lines before a request line are ignored.
        while self.held.starts_with(b"\r\n") {
            self.held.advance(2);
        }
        if self.held.is_empty() {
            return true;
        }
        match request_head::find_end(&self.held, std::mem::take(&mut self.looked_at)) {
            HeadEnd::Missing if self.held.len() >= HEAD_BYTES_MAX => {
                self.refuse(HeadFault::TooLarge);
                return false;
            }
            HeadEnd::Missing => {
                self.looked_at = self.held.len();
                return true;
            }
            HeadEnd::BareLineFeed => {
                self.refuse(HeadFault::LineFeed);
                return false;
            }
            HeadEnd::Found => {}
        }
        match request_head::check(&self.held) {
            Ok(None) => self.refuse(HeadFault::Syntax),
            Ok(Some((bytes, framing))) => {
                self.heads += 1;
                self.released = bytes;
                self.position = match framing {
                    BodyFraming::None => Position::Head,
                    BodyFraming::Length(length) => Position::Body(length),
                    BodyFraming::Chunked => Position::Chunked(ChunkedBody::default()),
                    BodyFraming::Upgrade => Position::Asked,
                };
                self.deadline = Instant::now() + self.deadlines.idle;
            }
            Err(fault) => self.refuse(fault),
        }
        false
    }

    fn refuse(&mut self, fault: HeadFault) {
        self.heads += 1;
        self.activity.refuse(self.heads, fault);
        self.held = BytesMut::from(REPLACEMENT);
        self.released = REPLACEMENT.len();
        self.position = Position::Over;
    }

    /// Waits until a request that asked for an upgrade is answered, and knows then what follows it.
    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.position = match ready!(self.activity.poll_answered(self.heads, cx)) {
            Answered::LeftHttp => Position::Left,
            Answered::Stayed => Position::Head,
        };
        self.deadline = Instant::now() + self.deadlines.idle;
        Poll::Ready(())
    }

    /// Whether a deadline passed: `true` means that the connection is to be closed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        if self.timer.deadline() > self.deadline {
            self.timer.as_mut().reset(self.deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let in_head = matches!(self.position, Position::Head);
            let busy = self.activity.is_active();
            if now < self.deadline {
                self.timer.as_mut().reset(self.deadline);
            } else if in_head && !self.held.is_empty() {
                self.refuse(HeadFault::Slow);
                return false;
            } else if in_head && !busy {
                return true;
            } else {
                // An exchange is going on: its own deadlines hold.
                self.deadline = now + self.deadlines.idle;
                self.timer.as_mut().reset(self.deadline);
            }
        }
        false
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for HeadGuard<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.released > 0 {
                this.give(buf);
                return Poll::Ready(Ok(()));
            }
            match &mut this.position {
                Position::Over => return Poll::Ready(Ok(())),
                Position::Asked => {
                    ready!(this.poll_answered(cx));
                    continue;
                }
                Position::Left if this.held.is_empty() => return Pin::new(&mut this.io).poll_read(cx, buf),
                // Bulk goes straight into hyper's buffer, without a copy.
                Position::Body(rest) if this.held.is_empty() => {
                    let read = ready!(poll_read_at_most(&mut this.io, cx, buf, *rest))?;
                    *rest -= read;
                    if *rest == 0 {
                        this.position = Position::Head;
                    }
                    return Poll::Ready(Ok(()));
                }
                _ => {}
            }
            if !this.held.is_empty() && !this.advance() {
                continue;
            }
            let was_empty = this.held.is_empty();
            this.held.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(&mut this.io), cx, &mut this.held) {
                // Said in an exchange of its own, so that it is logged.
                Poll::Ready(Ok(0)) if !was_empty && matches!(this.position, Position::Head) => {
                    this.refuse(HeadFault::Incomplete);
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {
                    if was_empty && matches!(this.position, Position::Head) {
                        this.deadline = Instant::now() + this.deadlines.head;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if this.held.is_empty() {
                        this.held = BytesMut::new();
                    }
                    if this.poll_deadline(cx) {
                        return Poll::Ready(Ok(()));
                    }
                    if this.released == 0 {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

/// Reads into `buf`, at most `limit` bytes, and says how many.
fn poll_read_at_most<Io: AsyncRead + Unpin>(
    io: &mut Io,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
    limit: u64,
) -> Poll<io::Result<u64>> {
    let before = buf.filled().len();
    match usize::try_from(limit) {
        Ok(limit) if limit < buf.remaining() => {
            // Only a body's last read comes here; it pays for clearing what it reads into.
            let mut end = ReadBuf::new(buf.initialize_unfilled_to(limit));
            ready!(Pin::new(io).poll_read(cx, &mut end))?;
            let read = end.filled().len();
            buf.advance(read);
        }
        _ => ready!(Pin::new(io).poll_read(cx, buf))?,
    }
    Poll::Ready(Ok((buf.filled().len() - before) as u64))
}

impl<Io: AsyncRead + Unpin> HeadGuard<Io> {
    /// Reads ahead while an exchange waits for a person: hyper does not read then, and would not see
    /// that the workload is gone. What comes is kept for hyper, up to a bound.
    fn watch(&mut self, cx: &mut Context<'_>) {
        while self.activity.is_watched() && self.held.len() < READ_BYTES {
            let was_empty = self.held.is_empty();
            self.held.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.held) {
                Poll::Ready(Ok(0) | Err(_)) => return self.activity.leave(),
                Poll::Ready(Ok(_)) if was_empty && matches!(self.position, Position::Head) => {
                    self.deadline = Instant::now() + self.deadlines.head;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return,
            }
        }
    }
}

impl<Io: AsyncRead + Unpin> HeadGuard<Io> {
    /// Reads what comes behind a refused head until the workload ends its half, within bounds.
    fn poll_leftover(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(read) = self.leftover.filter(|&read| read < LEFTOVER_BYTES_MAX) {
            self.held.clear();
            self.held.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.held) {
                Poll::Ready(Ok(0) | Err(_)) => break,
                Poll::Ready(Ok(more)) => self.leftover = Some(read + more),
                Poll::Pending => return self.timer.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

impl<Io: AsyncWrite + Unpin> HeadGuard<Io> {
    /// Writes interim responses out. Those that were begun stand before all that hyper writes.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            if ready!(poll_write_buf(Pin::new(&mut self.io), cx, &mut self.interim))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadGuard<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes whenever it was woken.
        self.watch(cx);
        // And it flushes what is below it once it has written all of its own.
        ready!(self.poll_interim(cx))?;
        self.interim = self.activity.interim.take(cx);
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.leftover.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.leftover = Some(0);
            this.timer.as_mut().reset(Instant::now() + LEFTOVER_TIMEOUT);
        }
        match this.position {
            Position::Over => this.poll_leftover(cx).map(Ok),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
