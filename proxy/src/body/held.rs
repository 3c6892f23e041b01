//! A body that the gate holds: not yet on its way, or already in motion within something else.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use super::moving::IdleDeadline;
use super::tee::TeeBody;
use super::{Arriving, BodyError, WorkloadBody};
use crate::upgrade::Granted;
use crate::upstream::Lease;

/// A body that the gate holds, wherever it comes from.
pub enum HeldBody {
    /// The body of the workload's request.
    Workload(WorkloadBody),
    /// The body of an upstream's response.
    Response {
        /// The body.
        incoming: Arriving,
        /// Gives the connection back when the body has ended; `None` where it is shared.
        lease: Option<Lease>,
    },
    /// A body that is read from elsewhere while it is sent: a stored object.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
    /// A body that is in memory; an empty one is none.
    Bytes(Bytes),
    /// A body whose first bytes were looked at.
    Begun {
        /// These, as far as they have not been given out again.
        start: Bytes,
        /// What follows.
        rest: Box<Self>,
    },
    /// What came after the last byte of a body that was looked at: trailers, or what cut it short. Its
    /// length is not stated, since HTTP/1 has no trailers where it is.
    End(Option<Result<HeaderMap, BodyError>>),
    /// None: the connection is no longer HTTP, where this goes back to the workload.
    Upgrade(Box<Granted>),
    /// One of two readers of a body.
    Tee(TeeBody),
}

impl HeldBody {
    /// A stored object, read while it is sent. The words of its errors hold nothing that is secret.
    pub fn stored<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self::Stream(UnsyncBoxBody::new(body.map_err(|error| BodyError::Store(error.into()))))
    }

    /// Takes the whole body into memory, counting into `bytes`, and gives its connection back.
    /// Trailers are dropped.
    ///
    /// # Errors
    /// [`BodyError::TooLong`] as soon as the body is known to have more than `limit` bytes,
    /// [`BodyError::Idle`] when nothing of it comes for `idle`, and what cut it short.
    pub async fn read(mut self, limit: usize, idle: Duration, bytes: &AtomicU64) -> Result<Bytes, BodyError> {
        let too_long = BodyError::TooLong { limit };
        if usize::try_from(Body::size_hint(&self).lower()).map_or(true, |stated| stated > limit) {
            return Err(too_long);
        }
        let mut idle = IdleDeadline::new(idle);
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while !self.is_over() {
            let frame = poll_fn(|cx| match Pin::new(&mut self).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(frame.transpose()),
                Poll::Pending => idle.poll(cx).map(Err),
            });
            let Some(frame) = frame.await? else { break };
            idle.moved();
            let Ok(data) = frame.into_data() else { continue };
            bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            if data.len() > limit - first.len() - rest.len() {
                return Err(too_long);
            }
            // The usual body is one piece, which is not copied.
            if first.is_empty() {
                first = data;
            } else {
                rest.extend_from_slice(&data);
            }
        }
        self.release();
        if rest.is_empty() {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(first.len() + rest.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Ok(whole.freeze())
    }

    /// The first bytes: `limit` of them, or all of a shorter body. The body stays whole, with its
    /// trailers; one that was found to be cut short stays so.
    ///
    /// # Errors
    /// [`BodyError::Idle`] when nothing comes for `idle`, and what cut the body short.
    pub async fn peek(&mut self, limit: usize, idle: Duration) -> Result<Bytes, BodyError> {
        if limit == 0 {
            return Ok(Bytes::new());
        }
        let mut idle = IdleDeadline::new(idle);
        let mut start = BytesMut::new();
        // What was come upon after the last byte.
        let mut end = None;
        let mut fault = None;
        while start.len() < limit && !self.is_over() {
            let frame = poll_fn(|cx| match Pin::new(&mut *self).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(frame.transpose()),
                Poll::Pending => idle.poll(cx).map(Err),
            });
            match frame.await {
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => start.extend_from_slice(&data),
                    Err(frame) => end = Some(Self::End(frame.into_trailers().ok().map(Ok))),
                },
                Ok(None) => {
                    end.get_or_insert(Self::End(None));
                    break;
                }
                Err(error) => {
                    // What is only silent may go on.
                    let is_cut = !matches!(error, BodyError::Idle(_));
                    end = is_cut.then(|| Self::End(Some(Err(BodyError::CopyCut))));
                    fault = Some(error);
                    break;
                }
            }
            idle.moved();
        }
        let start = start.freeze();
        let seen = start.slice(..start.len().min(limit));
        self.put_back(start, end);
        fault.map_or(Ok(seen), Err)
    }

    /// Makes the body whole again: `start` was taken of it, and `end` stands for the rest, if that was
    /// come upon.
    fn put_back(&mut self, start: Bytes, end: Option<Self>) {
        let mut rest = std::mem::replace(self, Self::Bytes(Bytes::new()));
        *self = match end {
            Some(end) => {
                rest.release();
                Self::Begun { start, rest: Box::new(end) }
            }
            None if Body::is_end_stream(&rest) => {
                rest.release();
                Self::Bytes(start)
            }
            // Looked at before: its first bytes have been given out, into `start`.
            None => match rest {
                Self::Begun { rest, .. } => Self::Begun { start, rest },
                rest => Self::Begun { start, rest: Box::new(rest) },
            },
        };
    }

    /// The body twice.
    pub fn tee(self) -> (Self, Self) {
        if let Self::Bytes(bytes) = self {
            return (Self::Bytes(bytes.clone()), Self::Bytes(bytes));
        }
        let (first, second) = TeeBody::split(self);
        (Self::Tee(first), Self::Tee(second))
    }

    /// Ends a body of which nothing is wanted; its connection is given back where that is possible.
    pub fn finish(mut self) {
        if self.is_over() {
            self.release();
        }
    }

    /// Whether something of it has come although nobody asked the workload for it.
    pub(super) fn has_come(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Workload(body) => body.has_come(cx),
            _ => false,
        }
    }

    /// Whether all of its bytes have been given out; trailers may follow on HTTP/2.
    pub(super) fn is_over(&self) -> bool {
        // The end of an HTTP/2 stream may follow in a frame of its own.
        Body::is_end_stream(self) || Body::size_hint(self).exact() == Some(0)
    }

    /// Gives the connection back; to be called when the body is over.
    pub(super) fn release(&mut self) {
        match self {
            Self::Response { lease, .. } => {
                if let Some(lease) = lease.take() {
                    lease.give_back();
                }
            }
            Self::Begun { rest, .. } => rest.release(),
            Self::Workload(_)
            | Self::Stream(_)
            | Self::Bytes(_)
            | Self::End(_)
            | Self::Upgrade(_)
            | Self::Tee(_) => {}
        }
    }
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Workload(body) => Pin::new(body).poll_frame(cx),
            Self::Response { incoming, .. } => Pin::new(incoming).poll_frame(cx),
            Self::Stream(stream) => Pin::new(stream).poll_frame(cx),
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Begun { start, rest } if start.is_empty() => Pin::new(&mut **rest).poll_frame(cx),
            Self::Begun { start, .. } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(start))))),
            Self::End(end) => Poll::Ready(end.take().map(|end| end.map(Frame::trailers))),
            Self::Upgrade(_) => Poll::Ready(Some(Err(BodyError::Upgrade))),
            Self::Tee(tee) => tee.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Workload(body) => body.is_end_stream(),
            Self::Response { incoming, .. } => incoming.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Begun { start, rest } => start.is_empty() && rest.is_end_stream(),
            Self::End(end) => end.is_none(),
            Self::Upgrade(_) => false,
            Self::Tee(tee) => tee.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Workload(body) => body.size_hint(),
            Self::Response { incoming, .. } => incoming.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Begun { start, rest } => {
                let (start, rest) = (start.len() as u64, Body::size_hint(&**rest));
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower() + start);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + start);
                }
                hint
            }
            Self::End(Some(_)) | Self::Upgrade(_) => SizeHint::new(),
            Self::End(None) => SizeHint::with_exact(0),
            Self::Tee(tee) => tee.size_hint(),
        }
    }
}

impl fmt::Debug for HeldBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self {
            Self::Workload(_) => "Workload",
            Self::Response { .. } => "Response",
            Self::Stream(_) => "Stream",
            Self::Bytes(_) => "Bytes",
            Self::Begun { .. } => "Begun",
            Self::End(_) => "End",
            Self::Upgrade(_) => "Upgrade",
            Self::Tee(_) => "Tee",
        };
        formatter.debug_struct(origin).field("size", &Body::size_hint(self)).finish_non_exhaustive()
    }
}
