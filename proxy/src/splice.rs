//! Bytes both ways, unread: for flows that a rule leaves untouched.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;

/// Bytes in flight each way: large enough that a bulk copy is not system calls alone.
const BUFFER_BYTES: usize = 64 * 1024;

/// Sends `seen` on, then copies both ways until both sides have ended, half-closes included, or
/// nothing moved for `idle`.
///
/// # Errors
/// Those of either connection, and `TimedOut`.
pub async fn splice(
    workload: TcpStream,
    upstream: TcpStream,
    seen: Bytes,
    (sent, received): (Arc<AtomicU64>, Arc<AtomicU64>),
    idle: Duration,
) -> io::Result<()> {
    let mut workload = workload;
    let mut upstream = Counted { io: upstream, sent: Arc::clone(&sent), received: Arc::clone(&received) };
    upstream.write_all(&seen).await?;
    let copy = copy_bidirectional_with_sizes(&mut workload, &mut upstream, BUFFER_BYTES, BUFFER_BYTES);
    let mut copy = std::pin::pin!(copy);
    let total = || sent.load(Ordering::Relaxed).wrapping_add(received.load(Ordering::Relaxed));
    let mut before = total();
    loop {
        match tokio::time::timeout(idle, &mut copy).await {
            Ok(result) => return result.map(|_| ()),
            Err(_) if total() != before => before = total(),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// The upstream's side, counted as it moves so that a long flow's record is right at any moment.
struct Counted {
    io: TcpStream,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = written {
            self.sent.fetch_add(count as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
