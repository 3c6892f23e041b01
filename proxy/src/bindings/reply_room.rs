//! A bound on what a server may send without giving a whole reply.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// How many bytes a server may still send before the next whole reply.
#[derive(Debug)]
pub(super) struct ReplyRoom {
    left: Arc<AtomicUsize>,
    whole: usize,
}

impl ReplyRoom {
    /// Room for `whole` bytes.
    pub(super) fn new(whole: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(whole)), whole }
    }

    /// To be called after each whole reply.
    pub(super) fn renew(&self) {
        self.left.store(self.whole, Ordering::Relaxed);
    }

    /// What gives the bytes of `io` as long as there is room, and then fails. It may give a little
    /// more, as much as fits into one buffer.
    pub(super) fn around<Io>(&self, io: Io) -> Bounded<Io> {
        Bounded { io, left: Arc::clone(&self.left) }
    }
}

/// See [`ReplyRoom::around`].
#[derive(Debug)]
pub(super) struct Bounded<Io> {
    io: Io,
    left: Arc<AtomicUsize>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Bounded<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.load(Ordering::Relaxed) == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let read = buffer.filled().len().saturating_sub(before);
        let taken = |left: usize| Some(left.saturating_sub(read));
        // It fails only where there is nothing to store.
        let _before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_is_not_renewed_runs_out() {
        let room = ReplyRoom::new(4);
        let mut io = room.around(&b"0123456789"[..]);
        let mut bytes = [0; 3];
        io.read_exact(&mut bytes).await.unwrap();
        room.renew();
        io.read_exact(&mut bytes).await.unwrap();
        io.read_exact(&mut bytes).await.unwrap();
        let error = io.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
