//! A connection of HTTP/1, or a stream of HTTP/2, that leaves HTTP: bytes from then on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Extensions;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::{Promised, Tunnel};

/// One that will have left when the answer is with the other side.
#[derive(Clone, Debug)]
pub(super) enum Leaving {
    Http1(OnUpgrade),
    Http2(Promised),
}

/// One that has left.
#[derive(Debug)]
pub(super) enum Left {
    Http1(TokioIo<Upgraded>),
    Http2(Tunnel),
}

impl Leaving {
    /// Takes it off a head that may leave.
    pub(super) fn take(extensions: &mut Extensions) -> Option<Self> {
        let http2 = extensions.remove::<Promised>().map(Self::Http2);
        http2.or_else(|| extensions.remove::<OnUpgrade>().map(Self::Http1))
    }

    /// Waits for it.
    ///
    /// # Errors
    /// It has ended before.
    pub(super) async fn left(self) -> io::Result<Left> {
        match self {
            Self::Http1(upgrade) => {
                upgrade.await.map(|io| Left::Http1(TokioIo::new(io))).map_err(io::Error::other)
            }
            Self::Http2(promised) => promised.kept().await.map(Left::Http2),
        }
    }
}

impl AsyncRead for Left {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(io) => Pin::new(io).poll_read(cx, buf),
            Self::Http2(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Left {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Http1(io) => Pin::new(io).poll_write(cx, buf),
            Self::Http2(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(io) => Pin::new(io).poll_flush(cx),
            Self::Http2(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(io) => Pin::new(io).poll_shutdown(cx),
            Self::Http2(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
