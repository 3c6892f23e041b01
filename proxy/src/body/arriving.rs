//! A body as it arrives, from either side and on either version of HTTP.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BodyError;
use crate::http2::Received;

/// A body as it arrives.
#[derive(Debug)]
pub enum Arriving {
    /// None at all.
    Nothing,
    /// By a connection of HTTP/1.
    Http1(Incoming),
    /// By a stream of HTTP/2.
    Http2(Received),
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(cut),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(cut),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

fn cut(error: impl StdError + Send + Sync + 'static) -> BodyError {
    BodyError::Cut(Box::new(error))
}
