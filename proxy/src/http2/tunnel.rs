//! A stream of HTTP/2 as a connection of its own, after a CONNECT (RFC 9113 section 8.5, RFC 8441).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::InUse;

/// A stream whose both directions are bytes.
///
/// Its drop ends what we send, as the end of a connection does; [`Tunnel::break_off`] resets it.
#[derive(Debug)]
pub struct Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What was received and not yet read.
    unread: Bytes,
    has_ended: bool,
    _in_use: Option<InUse>,
}

impl Tunnel {
    /// The stream of a CONNECT that was agreed to.
    pub fn new(send: SendStream<Bytes>, receive: RecvStream, in_use: Option<InUse>) -> Self {
        Self { send, receive, unread: Bytes::new(), has_ended: false, _in_use: in_use }
    }

    /// Resets the stream, as a connection is (RFC 8441 section 5).
    pub fn break_off(mut self) {
        self.has_ended = true;
        self.send.send_reset(Reason::CANCEL);
    }

    fn end(&mut self) -> Result<(), h2::Error> {
        if self.has_ended {
            return Ok(());
        }
        self.has_ended = true;
        self.send.send_data(Bytes::new(), true)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // It fails where the stream has ended otherwise.
        drop(self.end());
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unread.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => this.unread = data,
                Some(Err(error)) => {
                    return Poll::Ready(match error.reason() {
                        Some(Reason::NO_ERROR | Reason::CANCEL) => Ok(()),
                        _ => Err(broken(error)),
                    });
                }
            }
        }
        let piece = this.unread.split_to(this.unread.len().min(buf.remaining()));
        buf.put_slice(&piece);
        // Fails where the stream was reset, which the next call tells.
        drop(this.receive.flow_control().release_capacity(piece.len()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Poll::Ready(reason) = this.send.poll_reset(cx).map_err(broken)? {
            return Poll::Ready(Err(broken(reason.into())));
        }
        if !buf.has_remaining() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(1);
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        this.send.send_data(Bytes::copy_from_slice(buf), false).map_err(broken)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes out by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.end().map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(Reason::STREAM_CLOSED) => io::Error::new(io::ErrorKind::BrokenPipe, error),
        _ if error.is_io() => error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        _ => io::Error::other(error),
    }
}

/// A tunnel that is there when the answer to its request is sent.
#[derive(Clone, Debug)]
pub struct Promised(Arc<Mutex<Option<oneshot::Receiver<Tunnel>>>>);

/// Promises a tunnel; a promise that is dropped is never kept.
pub fn promise() -> (oneshot::Sender<Tunnel>, Promised) {
    let (sender, receiver) = oneshot::channel();
    (sender, Promised(Arc::new(Mutex::new(Some(receiver)))))
}

impl Promised {
    /// The tunnel, for the first who asks.
    ///
    /// # Errors
    /// The stream has ended without becoming one, or somebody has it.
    pub async fn kept(self) -> io::Result<Tunnel> {
        let receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = receiver.ok_or_else(|| io::Error::other("somebody has the stream already"))?;
        receiver.await.map_err(|_| io::Error::other("the stream ended before it was a tunnel"))
    }
}
