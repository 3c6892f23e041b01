//! A body that comes by a stream of HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};

use super::InUse;

/// A body that comes by a stream. The other side may send on as far as this is taken.
#[derive(Debug)]
pub struct Received {
    stream: RecvStream,
    /// What is still to come of the stated length, in bytes.
    left: Option<u64>,
    has_data: bool,
    in_use: Option<InUse>,
}

impl Received {
    /// The body of a message of this length, if its head states one.
    pub fn new(stream: RecvStream, length: Option<u64>) -> Self {
        let left = if length.is_none() && stream.is_end_stream() { Some(0) } else { length };
        Self { stream, left, has_data: true, in_use: None }
    }

    /// The same, which is waited for to its end.
    #[must_use]
    pub fn awaited(mut self, in_use: InUse) -> Self {
        self.in_use = Some(in_use).filter(|_| !self.stream.is_end_stream());
        self
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let data = ready!(self.stream.poll_data(cx)).transpose()?;
        if let Some(data) = &data {
            // Fails where the stream was reset, which the next call tells.
            drop(self.stream.flow_control().release_capacity(data.len()));
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        }
        Poll::Ready(data.map(Ok))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        let next = loop {
            if this.has_data {
                match ready!(this.poll_data(cx)).transpose() {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(None) => this.has_data = false,
                    Err(error) => break Err(error),
                }
            } else {
                break ready!(this.stream.poll_trailers(cx)).map(|trailers| trailers.map(Frame::trailers));
            }
        };
        this.in_use = None;
        Poll::Ready(match next {
            // An answer that does not wait for the body's end (RFC 9113 section 8.1): no more is wanted.
            Err(error) if error.reason() == Some(Reason::NO_ERROR) => None,
            next => next.transpose(),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
