//! Stands between TLS and the HTTP/2 library, follows the frames in both directions, and makes up for two things
//! that the library leaves out.
//!
//! A request that breaks the rules is never handed out: the h2 library resets its stream, or answers an
//! over-long head with 431. The frames that it writes are the only sign of it, for the log. And it ends most broken
//! connections with PROTOCOL_ERROR where RFC 9113 has a more specific code: that code is put in its place.

mod cursor;
mod field_blocks;
mod received;
mod streams;
#[cfg(test)]
mod tests;
mod written;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use received::Received;
use written::Written;

/// A request that the library ended without anybody being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRequest {
    /// Its stream.
    pub stream: u32,
    /// The code that it was reset with; none where its head is too large, which is answered with 431.
    pub reason: Option<Reason>,
}

/// Tells about each [`BrokenRequest`] as soon as its end is written. Of what is read and written nothing is changed
/// but one byte: the code of a GOAWAY.
pub struct FrameWatch<Io> {
    io: Io,
    received: Received,
    written: Written,
    /// What was read behind a frame that is handed over alone, and where it goes on.
    held: Vec<u8>,
    handed: usize,
    changed_to: Arc<OnceLock<Reason>>,
    tell: Box<dyn Fn(BrokenRequest) + Send>,
}

impl<Io> FrameWatch<Io> {
    /// Follows a connection from its preface on. The library answers heads whose fields are `head_bytes_max` large
    /// (RFC 9113 section 6.5.2) with 431.
    pub fn new(io: Io, head_bytes_max: usize, tell: impl Fn(BrokenRequest) + Send + 'static) -> Self {
        Self {
            io,
            received: Received::new(head_bytes_max),
            written: Written::default(),
            held: Vec::new(),
            handed: 0,
            changed_to: Arc::default(),
            tell: Box::new(tell),
        }
    }

    /// The code that the connection was ended with, once it was, where that is not the library's.
    pub fn changed_to(&self) -> Arc<OnceLock<Reason>> {
        Arc::clone(&self.changed_to)
    }

    fn follow_written(&mut self, bytes: &[u8]) {
        self.written.follow(bytes, &mut self.received.streams, &self.tell);
    }

    /// Puts what is held into `buf`, as much as it has room for.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let left = self.held.get(self.handed..).unwrap_or_default();
        let piece = left.get(..left.len().min(buf.remaining())).unwrap_or_default();
        buf.put_slice(piece);
        self.handed += piece.len();
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for FrameWatch<Io> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.received.read_on();
        let before = buf.filled().len();
        let is_held = this.handed < this.held.len();
        if is_held {
            this.hand_over(buf);
        } else {
            // What a broken connection was held with is not kept for the rest of its life.
            (this.held, this.handed) = (Vec::new(), 0);
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        let count = this.received.follow(new);
        let kept_back = new.get(count..).unwrap_or_default();
        if is_held {
            this.handed -= kept_back.len();
        } else if !kept_back.is_empty() {
            this.held = kept_back.to_vec();
        }
        buf.set_filled(before + count);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for FrameWatch<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let better = this.received.at_fault().filter(|&code| code != Reason::PROTOCOL_ERROR);
        let change = better.and_then(|code| {
            let at = this.written.protocol_error_in(buf)?;
            Some((at, code))
        });
        if let Some((0, code)) = change {
            // All codes are less than 256 (RFC 9113 section 7).
            let byte = u32::from(code).to_be_bytes().last().copied().unwrap_or_default();
            let count = ready!(Pin::new(&mut this.io).poll_write(cx, &[byte]))?;
            if count > 0 {
                this.changed_to.get_or_init(|| code);
            }
            this.follow_written(buf.get(..count).unwrap_or_default());
            return Poll::Ready(Ok(count));
        }
        // Up to the code, which then stands first.
        let buf = change.and_then(|(at, _)| buf.get(..at)).unwrap_or(buf);
        let count = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.follow_written(buf.get(..count).unwrap_or(buf));
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.received.at_fault().is_some() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        let this = &mut *self;
        let count = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        let mut left = count;
        for buf in bufs {
            let written = buf.get(..left).unwrap_or(buf);
            this.follow_written(written);
            left -= written.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
