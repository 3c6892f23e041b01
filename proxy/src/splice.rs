//! Bytes both ways, unread and uncopied: for flows that pass as they are.
//!
//! They go from socket to socket through a pipe of the kernel's (splice(2)), so that no byte of theirs
//! is ever in our memory; but for those that travel within TLS to a proxy.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tokio_util::io::InspectReader;

use crate::sniff::reset;
use crate::upstream::Wire;

/// Bytes moved at once: what a pipe holds by default (pipe(7)).
const PIPE_BYTES: usize = 64 * 1024;

/// Sends `seen` to the upstream, then moves bytes both ways until both sides have ended, half-closes
/// included. The counters hold what was sent and received at any moment.
///
/// # Errors
/// Those of either connection, and `TimedOut` where nothing moved for `idle`.
pub async fn splice(
    workload: &mut TcpStream,
    upstream: &mut Wire,
    seen: Bytes,
    (sent, received): (Arc<AtomicU64>, Arc<AtomicU64>),
    idle: Duration,
) -> io::Result<()> {
    upstream.write_all(&seen).await?;
    upstream.flush().await?;
    sent.fetch_add(seen.len() as u64, Ordering::Relaxed);
    let total = || sent.load(Ordering::Relaxed).wrapping_add(received.load(Ordering::Relaxed));
    match upstream {
        Either::Left(upstream) => {
            let (workload, upstream) = (&*workload, &*upstream);
            let moved = async {
                let up = pump(workload, upstream, &sent);
                let both = async { tokio::try_join!(up, pump(upstream, workload, &received)) };
                tokio::select! {
                    moved = both => moved.map(|_| ()),
                    error = broken(workload) => Err(error),
                    error = broken(upstream) => Err(error),
                }
            };
            while_moving(moved, total, idle).await
        }
        Either::Right(upstream) => {
            let (from_workload, to_workload) = workload.split();
            let (from_upstream, to_upstream) = tokio::io::split(upstream);
            let moved = async {
                let up = copy(from_workload, to_upstream, &sent);
                let down = copy(from_upstream, to_workload, &received);
                tokio::try_join!(up, down).map(|_| ())
            };
            while_moving(moved, total, idle).await
        }
    }
}

/// Waits for the end of `moved` for as long as `total` grows within each `idle`.
async fn while_moving(
    moved: impl Future<Output = io::Result<()>>,
    total: impl Fn() -> u64,
    idle: Duration,
) -> io::Result<()> {
    let mut moved = std::pin::pin!(moved);
    let mut before = total();
    loop {
        match tokio::time::timeout(idle, moved.as_mut()).await {
            Ok(result) => return result,
            Err(_) if total() != before => before = total(),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Copies one way until `from` has ended, and then says so to `to`.
async fn copy(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) -> io::Result<()> {
    let count = |bytes: &[u8]| {
        moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    };
    tokio::io::copy(&mut InspectReader::new(from, count), &mut to).await?;
    to.shutdown().await
}

/// Moves bytes one way until `from` has ended, and then says so to `to`.
async fn pump(from: &TcpStream, to: &TcpStream, moved: &AtomicU64) -> io::Result<()> {
    // Not before there is something to move: most flows that wait have nothing.
    from.readable().await?;
    let (pipe_out, pipe_in): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        // The pipe is empty here, so what would block is the socket.
        let fill = || Ok(rustix::pipe::splice(from, None, &pipe_in, None, PIPE_BYTES, flags)?);
        let mut held = from.async_io(Interest::READABLE, fill).await?;
        if held == 0 {
            return rustix::net::shutdown(to, rustix::net::Shutdown::Write).map_err(io::Error::from);
        }
        while held > 0 {
            let drain = || Ok(rustix::pipe::splice(&pipe_out, None, to, None, held, flags)?);
            let gone = to.async_io(Interest::WRITABLE, drain).await?;
            held = held.saturating_sub(gone);
            moved.fetch_add(gone as u64, Ordering::Relaxed);
        }
    }
}

/// Ends when the other side has reset the connection: who only waits to write there would not be told.
async fn broken(io: &TcpStream) -> io::Error {
    let error = match io.ready(Interest::ERROR).await {
        Ok(_) => io.take_error().unwrap_or_else(Some),
        Err(error) => Some(error),
    };
    error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

/// Closes with a reset instead of an end of data, whatever it travels in.
pub fn break_off(upstream: Wire) {
    reset(match upstream {
        Either::Left(io) => io,
        Either::Right(tls) => tls.into_inner().0,
    });
}

#[cfg(test)]
mod tests;
